"""A GGUF file as a folder that `transformers` loads: fp32 weights in safetensors, and the tokenizer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optune.packaged_models.catalogue import PackagedModel
from optune.types import UserError
from optune.utils.quiet import quiet_libraries


def check_reader(model: PackagedModel) -> None:
    """Raises UserError where the package `gguf` is missing, with which `transformers` reads the file."""
    if find_spec("gguf") is None:
        raise UserError(f"{model.name} needs the package gguf: pip install 'gguf>=0.19', or {model.instead}.")


def dequantise(model: PackagedModel, gguf: Path, folder: Path) -> None:
    """Write model and tokenizer of `gguf` into `folder`."""
    quiet_libraries()
    network = _network(gguf)
    network.save_pretrained(folder)
    _tokenizer(model, gguf, network.config.max_position_embeddings).save_pretrained(folder)


def _network(gguf: Path) -> Any:
    """The dequantised model, which no longer says that it was quantised (`save_pretrained` would refuse it)."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    network.hf_quantizer = None
    network.is_quantized = False
    del network.config.quantization_config
    return network


def _tokenizer(model: PackagedModel, gguf: Path, max_length: int) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    # The word is saved with the tokenizer; left out, it would follow HF_HUB_OFFLINE, and so would the folder's hash.
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    tokenizer.model_max_length = max_length
    if model.individual_digits:  # else the line breaks before a number would be other tokens than in training
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer
