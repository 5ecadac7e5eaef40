"""Prompt sets: disjoint by text, balanced over the families, the same on every machine."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from random import Random

from optune.sandbox.families import FAMILIES
from optune.types import Prompt, UserError

SIZES: dict[str, int] = {
    "sft": 12288,
    "preference": 8192,
    "offline": 4096,
    "train": 4096,
    "validation": 512,
    "test": 2048,
    "lima": 300,
    "alpaca": 805,
}
"""Prompts per split by default. `lima` and `alpaca` are disjoint parts of `test`; all others share no text."""

_TEST_PARTS = {"lima": (0, 300), "alpaca": (300, 1105)}
_SHARES = {"sft": 0.30, "preference": 0.25, "offline": 0.12, "train": 0.20, "validation": 0.03, "test": 0.10}
_MISSES_BEFORE_EMPTY = 5000


def prompts(split: str, n: int | None = None, mix: Mapping[str, float] | None = None) -> list[Prompt]:
    """The first `n` prompts of a split (all of its default size without `n`).

    mix: weights by family; families left out get none, and without a mix all weigh the same. The text of a prompt alone
    decides its split, so splits stay disjoint under every mix. UserError for an unknown split or family, or more
    prompts than there are.
    """
    if split not in SIZES:
        raise UserError(f"Unknown sandbox split {split!r}. Known: {', '.join(SIZES)}.")
    n = SIZES[split] if n is None else n
    if split in _TEST_PARTS:
        start, end = _TEST_PARTS[split]
        if n > end - start:
            raise UserError(f"The sandbox split {split!r} holds {end - start} prompts, not {n}.")
        return prompts("test", end, mix)[start : start + n]
    streams = {family: _stream(split, family) for family in _checked(mix)}
    return [next(streams[family]) for family in itertools.islice(_rotation(_checked(mix)), n)]


def stable_rng(*parts: object) -> Random:
    """A generator that depends on nothing but `parts`, across processes and machines."""
    return Random(stable_int(*parts))


def stable_int(*parts: object) -> int:
    """A 64-bit hash of `parts` that is the same in every process."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big")


def _checked(mix: Mapping[str, float] | None) -> dict[str, float]:
    weights = dict.fromkeys(FAMILIES, 1.0) if mix is None else {f: w for f, w in mix.items() if w}
    unknown = sorted(set(weights) - set(FAMILIES))
    if unknown or not weights or min(weights.values()) < 0:
        raise UserError(
            f"A sandbox mix needs weights of at least 0, one above 0, for families among {', '.join(FAMILIES)}"
            + (f"; unknown: {', '.join(unknown)}." if unknown else ".")
        )
    return weights


def _rotation(weights: dict[str, float]) -> Iterator[str]:
    """Families in turn, as often as they weigh, at every length of the sequence."""
    total = sum(weights.values())
    credit = dict.fromkeys(weights, 0.0)
    while True:
        for family, weight in weights.items():
            credit[family] += weight / total
        family = max(credit, key=credit.__getitem__)
        credit[family] -= 1
        yield family


def _stream(split: str, family: str) -> Iterator[Prompt]:
    rng = stable_rng("prompts", split, family)
    seen: set[str] = set()
    misses = 0
    while misses < _MISSES_BEFORE_EMPTY:
        text = FAMILIES[family].ask(rng)
        if text in seen or _split_of(text) != split:
            misses += 1
            continue
        seen.add(text)
        misses = 0
        yield Prompt(prompt_id=f"{family}-{stable_int(text):016x}", text=text, category=family)
    raise UserError(f"Family {family!r} has only {len(seen)} prompts in the sandbox split {split!r}; ask for fewer.")


def _split_of(text: str) -> str:
    position = stable_int("split", text) / 2**64
    for split, share in _SHARES.items():
        position -= share
        if position < 0:
            return split
    return "test"
