"""Whether this machine has bf16 arithmetic. Where it has none, torch emulates it, many times slower than fp32.

Of processors, x86 has it from AVX-512 on. On one with AVX2 alone (AMD EPYC 7003, torch 2.13, one thread) products of
matrices of SmolLM2's shapes ran at 7.6 to 9.4 GFLOP/s in bf16, and at 47 to 83 in fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from optune.config import Dtype, RunConfig


def has_bfloat16() -> bool:
    """Whether the GPU, or without one the processor, multiplies matrices in bf16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # the library of torch's products on CPUs
    return bool(known and torch.backends.mkldnn.is_available() and known())


def fast_dtype() -> Dtype:
    """bf16 where this machine has it, else fp32."""
    return "bfloat16" if has_bfloat16() else "float32"


def emulated(config: RunConfig) -> list[str]:
    """The options of a run that ask this machine for bf16 that it has not: `generation.dtype`, ..."""
    if has_bfloat16():
        return []
    sections = {"generation": config.generation, "reward": config.reward, "training": config.training}
    if config.generation.engine not in ("hf", "vllm"):  # sampled on another machine
        del sections["generation"]
    if config.evaluation:
        sections["evaluation"] = config.evaluation
    return [f"{name}.dtype" for name, section in sections.items() if section.dtype == "bfloat16"]


def in_fast_type(config: RunConfig) -> RunConfig:
    """The configuration with fp32 in the place of bf16 that would be emulated; itself where nothing is."""
    return config.with_overrides(dict.fromkeys(emulated(config), "float32"))


def advice(config: RunConfig) -> str | None:
    """One sentence for whoever waits; None where nothing is emulated."""
    options = emulated(config)
    if not options:
        return None
    given = " ".join(f"{option}=float32" for option in options)
    return f"This machine has no bf16 arithmetic; it emulates it, many times slower than float32: give {given}."
