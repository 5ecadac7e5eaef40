"""Models' shapes and machines: what the cost model multiplies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.types import UserError
from optune.utils.files import read_json


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder-only transformer with grouped-query attention and a gated MLP."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False

    @property
    def matrix_parameters(self) -> int:
        """Parameters that every token is multiplied with: all but the input embeddings."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All parameters, norms left out."""
        return self.matrix_parameters + (0 if self.tied else self.hidden * self.vocabulary)

    def flops(self, tokens: float, context: float) -> float:
        """Operations of a forward pass over `tokens` tokens that attend to `context` tokens on average."""
        return tokens * (2 * self.matrix_parameters + 4 * self.layers * self.heads * self.head_dim * context)

    def cache_bytes(self, tokens: float, width: int) -> float:
        """Keys and values of `tokens` tokens."""
        return tokens * 2 * self.layers * self.kv_heads * self.head_dim * width


MISTRAL_7B = Shape(32, 4096, 14336, 32, 8, 128, 32000)
SMOLLM2_135M = Shape(30, 576, 1536, 9, 3, 64, 49152, tied=True)
SHAPES = {
    "alignment-handbook/zephyr-7b-sft-full": MISTRAL_7B,
    "weqweasdas/RM-Mistral-7B": MISTRAL_7B,
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(24, 896, 4864, 14, 2, 64, 151936, tied=True),
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": Shape(28, 1024, 3072, 16, 8, 128, 151936, tied=True),
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2_135M,
    "packaged:smollm2-135m-instruct": SMOLLM2_135M,
    "instructions:reward": Shape(16, 576, 1536, 9, 3, 64, 49152, tied=True),
    "sandbox:policy": Shape(3, 128, 256, 8, 8, 16, 230, tied=True),
    "sandbox:reward": Shape(3, 128, 256, 8, 8, 16, 230, tied=True),
}


@dataclass(frozen=True)
class Machine:
    """What one GPU, or a CPU, reaches. Rates in operations or bytes per second, memory in bytes.

    `peak` and `bandwidth` are data-sheet numbers, the efficiencies the share of them that is taken to be reached. A
    decoding step takes at least `launch_s` per layer, which is what launching a layer's kernels one by one costs.
    """

    name: str
    memory: float
    peak: float
    bandwidth: float
    train_efficiency: float = 0.40
    forward_efficiency: float = 0.50
    bandwidth_efficiency: float = 0.50
    launch_s: float = 0.9e-3
    start_s: float = 60.0  # of a stage: importing, loading a model


# GPUs: bf16 dense peak and memory bandwidth from the vendor's data sheets; all else as above. `laptop` stands for a CPU
# without a GPU. It is measured: results/bench/amd-epyc-avx512-2-cores.json has the fp32 matrix product and the copy of
# two cores, and the shares of that product that training and sampling of the tiny policy reach. Memory and start are
# taken.
MACHINES = {
    "a100": Machine("A100 80 GB", 80e9, 312e12, 2.04e12),
    "h100": Machine("H100 80 GB", 80e9, 989e12, 3.35e12),
    "h200": Machine("H200 141 GB", 141e9, 989e12, 4.8e12),
    "laptop": Machine("CPU with 2 cores", 16e9, 126e9, 27.4e9, 0.34, 0.31, start_s=5.0),
}


def shape_of(model: str) -> Shape:
    """A checkpoint's sizes: from its folder, from the presets' models, or else from the hub. Raises UserError."""
    known = SHAPES.get(model.partition("@")[0])  # of any build: sandbox:reward@1
    if known:
        return known
    file = Path(model) / "config.json"
    if file.is_file():
        return _shape(read_json(file), model)
    from transformers import AutoConfig

    try:
        return _shape(AutoConfig.from_pretrained(model).to_dict(), model)
    except OSError:
        raise UserError(
            f"The size of {model!r} is unknown: it is no checkpoint folder, nor known on the hub."
        ) from None


def _shape(config: Mapping[str, Any], model: str) -> Shape:
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings")),
        )
    except KeyError as error:
        raise UserError(f"{model}: its config.json has no {error.args[0]}, so its cost cannot be worked out.") from None
