"""Whether weights fit into memory, before a run: what each step holds at least, beside what there is in all.

Only what is certain is counted: weights, and in training their gradients and the optimizer's states. Activations and
caches come on top, so that a run that passes may still run out of memory; one that is refused would have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from optune.config import RunConfig
from optune.plan.cost_model import CONTINUOUS, STATE_BYTES, shards_weights, tensor_parallel
from optune.types import UserError

FULL = 4  # bytes of a number in float32, in which training keeps weights
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


@dataclass(frozen=True)
class Weights:
    """A checkpoint's size. `dtype`: that of its files; `packed`: quantised, so that its numbers have other sizes."""

    parameters: int
    dtype: torch.dtype
    packed: bool = False

    def bytes(self, dtype: str) -> int:
        """Loaded as a configuration names it; 0 where that is not known."""
        kept = self.dtype if dtype == "auto" else getattr(torch, dtype)
        return 0 if self.packed else self.parameters * kept.itemsize


@dataclass(frozen=True)
class Memory:
    """Where weights go, and how many bytes that has in all."""

    name: str
    bytes: int


def check_memory(config: RunConfig, policy: Weights, reward: Weights | None, memory: Memory | None = None) -> str:
    """Raises UserError where a step's weights alone are more than the memory. `memory`: default, this machine's."""
    memory = memory or memory_here()
    most = 0
    for step, needed, remedy in _needs(config, policy, reward):
        most = max(most, needed)
        if needed > memory.bytes:
            has = f"{memory.name} has {_told(memory.bytes)}"
            raise UserError(f"{step} takes at least {_told(needed)} of memory, and {has}: {remedy}.")
    return f"The weights of each step take at most {_told(most)} of the {_told(memory.bytes)} of {memory.name}."


def memory_here() -> Memory:
    """The first GPU's, or where there is none this machine's, as far as its container may use it."""
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Memory(f"the GPU ({found.name})", found.total_memory)
    bytes_ = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in map(Path, LIMITS):
        with suppress(OSError, ValueError):
            bytes_ = min(bytes_, int(path.read_text()))  # "max" where there is no limit
    return Memory("this machine", bytes_)


def _needs(config: RunConfig, policy: Weights, reward: Weights | None) -> Iterator[tuple[str, int, str]]:
    """(step, bytes in one process at least, what makes them fewer) for each step that runs here as it is known."""
    if config.generation.engine in ("hf", "vllm"):
        shared = tensor_parallel(config) if config.generation.engine in CONTINUOUS else 1
        remedy = "generation.dtype=bfloat16 takes half of float32"
        if config.generation.engine == "vllm":
            remedy += ", and generation.vllm.tensor_parallel_size spreads it over several GPUs"
        yield "Sampling with the policy", policy.bytes(config.generation.dtype) // shared, remedy
    if reward is not None:
        remedy = "reward.dtype=bfloat16 takes half of float32"
        yield "The reward model", reward.bytes(config.reward.dtype), remedy
    if _trains_here(config):
        yield "Training the policy", _training(config, policy), _fewer_in_training(config)


def _trains_here(config: RunConfig) -> bool:
    """Whether training is ours, and in processes whose memory is like this one's."""
    launch = config.launch
    elsewhere = launch is not None and (launch.command or launch.config not in ("ddp", "fsdp", "zero3"))
    return config.training.learner in (None, "dpo", "rloo") and not elsewhere


def _training(config: RunConfig, policy: Weights) -> int:
    """Weights with gradients and the optimizer's states; before that each process scores with the whole policy."""
    weights = policy.bytes("float32")
    trained = 0 if config.training.lora else (FULL + STATE_BYTES[config.training.optimizer]) / FULL * weights
    processes = config.launch.processes if shards_weights(config) else 1
    return int(max(weights, (weights + trained) / processes))


def _fewer_in_training(config: RunConfig) -> str:
    if config.training.lora:
        return "its weights are kept in float32; take a smaller model"
    return "training.lora trains few of them, and launch.config=zero3 spreads them over several GPUs"


def _told(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
