"""Loading a checkpoint: a local folder or a hub name, safetensors only, and one clear sentence where it is neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from optune.types import UserError
from optune.utils.quiet import quiet_libraries

# What transformers raises for files that are damaged, or are JSON of another shape than it expects.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
    SafetensorError,
    StrictDataclassError,
    ImportError,  # a package that quantised weights need
    AssertionError,  # of torch: a padding token beyond the embedding
)


def load_tokenizer(model: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer that lies beside `model`. Raises UserError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(_checked(model), trust_remote_code=trust_remote_code)
    except UNREADABLE as error:
        raise UserError(f"No tokenizer can be loaded from {str(model)!r}: {first_line(error)}") from error


def load_model(auto_class: Any, model: str | Path, *, dtype: str = "auto", trust_remote_code: bool = False) -> Any:
    """`model` loaded by a transformers `AutoModelFor...` class, in evaluation mode, on the GPU where there is one.

    Raises UserError if it is not a checkpoint, or lacks weights that the class needs: transformers would draw those
    at random, and a reward model with a random head looks like any other.
    """
    quiet_libraries()
    try:
        network, info = auto_class.from_pretrained(
            _checked(model),
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except UNREADABLE as error:
        raise UserError(f"No model can be loaded from {str(model)!r}: {first_line(error)}") from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise UserError(f"The weights of {str(model)!r} have other shapes than its config.json says.") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise UserError(
            f"The checkpoint {str(model)!r} is no {type(network).__name__}: it has no weights for {missing}."
        )
    unmask_end_token(network)
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def unmask_end_token(network: torch.nn.Module) -> None:
    """Let the end token's input embedding learn where the end token is the padding, too.

    transformers names the padding to the embedding layer, which then gives that row no gradient. Padding itself is
    masked in all of our batches, so that nothing of it reaches the row.
    """
    ends = network.config.get_text_config().eos_token_id
    embeddings = network.get_input_embeddings()
    padding = getattr(embeddings, "padding_idx", None)
    if padding is not None and padding in (ends if isinstance(ends, list) else [ends]):
        embeddings.padding_idx = None


def check_finite(network: torch.nn.Module, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Raises UserError where a trained weight is not a finite number: such a model is never saved.

    `weights`: the network's own, if they were collected from several processes.
    """
    tensors = network.parameters() if weights is None else weights.values()
    if not all(torch.isfinite(weight).all() for weight in tensors):
        raise UserError("A weight is not finite after training: nothing of it is saved. Lower the learning rate.")


def load_generation_config(model: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The generation config that loading `model` would use.

    It is made from the model's config if the checkpoint has no such file. Raises UserError if it cannot be read.
    """
    from transformers import AutoConfig, GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME, cached_file

    name = _checked(model)
    try:
        if cached_file(name, GENERATION_CONFIG_NAME, _raise_exceptions_for_missing_entries=False) is not None:
            return _with_stop_ids(GenerationConfig.from_pretrained(name))
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        return GenerationConfig.from_model_config(config)
    except UNREADABLE as error:
        raise UserError(f"No generation config can be loaded from {str(model)!r}: {first_line(error)}") from error


def _with_stop_ids(config: Any) -> Any:
    """`config` with its end tokens checked: if they were no ids, a response would never end."""
    stop = config.eos_token_id
    if not all(isinstance(i, int) for i in (stop if isinstance(stop, list) else [stop]) if i is not None):
        raise ValueError(f"its eos_token_id is {stop!r}, which is no token id")
    return config


def _checked(model: str | Path) -> str:
    """`model` as text. Raises UserError for a folder without a config.json, and for a path that does not exist."""
    path = Path(model)
    looks_like_path = isinstance(model, Path) or path.is_absolute() or str(model).startswith(".") or path.exists()
    if looks_like_path and not (path / "config.json").is_file():
        inside = [name for name in ("policy", "reward") if (path / name / "config.json").is_file()]
        hint = f"; {str(path / inside[0])!r} is one" if inside else ""
        raise UserError(f"{str(model)!r} is not a checkpoint: it has no config.json{hint}.")
    return str(model)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type's name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
