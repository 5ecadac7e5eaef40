"""Random numbers that are hashes: of a response's key, the step, and a counter, so that they depend on nothing else."""

from __future__ import annotations

import torch


def uniform(keys: torch.Tensor, step: int, attempt: int) -> torch.Tensor:
    """Uniform numbers (rows,) in (0, 1), float64, each a function of its row's key, `step` and `attempt` alone."""
    golden = signed(0x9E3779B97F4A7C15)
    states = mix(keys + torch.tensor(step + 1, device=keys.device) * golden)
    x = mix(states + torch.tensor(attempt + 1, device=keys.device) * golden)
    return shift(x, 16).double().add_(0.5).mul_(2.0**-48)  # 48 bits: times any sum it stays below that sum


def exponential(keys: torch.Tensor, step: int, vocabulary: int) -> torch.Tensor:
    """Standard exponential numbers (rows, vocabulary), each a function of its row's key, `step` and token id alone."""
    golden = signed(0x9E3779B97F4A7C15)
    states = mix(keys + torch.tensor(step + 1, device=keys.device) * golden)
    x = mix(states[:, None] + torch.arange(1, vocabulary + 1, device=keys.device) * golden)
    uniform = shift(x, 11).float().add_(0.5).mul_(2.0**-53)  # fine near 0, where the winners are
    return uniform.neg_().log1p_().neg_()


def mix(x: torch.Tensor) -> torch.Tensor:
    """The finaliser of SplitMix64, a hash of 64 bits to 64 bits, in wrapping signed integers."""
    x = (x ^ shift(x, 30)).mul_(signed(0xBF58476D1CE4E5B9))
    x = x.bitwise_xor_(shift(x, 27)).mul_(signed(0x94D049BB133111EB))
    return x.bitwise_xor_(shift(x, 31))


def signed(constant: int) -> int:
    """An unsigned 64-bit constant as the signed integer with the same bits."""
    return constant - (1 << 64)


def shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift: torch's own copies the sign into the bits that become free."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)
