"""Frozen mixes of families: worlds in which low reward says little, nothing or much about what a prompt can still gain.

Chosen on the three development builds from ratio-1 DPO alone, before any two selection arms met in them: of all sets
of six families, those in which a family's mean initial reward and its gain in gold (iteration 0 to 3) correlate below,
near and above 0 on every build (-0.6 to -0.8; -0.1 to 0.2; 0.3 to 0.4). What a mix turns out to be is measured anew for
every seed.
"""

from __future__ import annotations

from optune.sandbox import prompts
from optune.types import Prompt, UserError

MIXES: dict[str, tuple[str, ...]] = {
    "negative": ("choose", "find", "list", "repeat", "say", "sort"),
    "zero": ("add", "find", "opposite", "pick", "replace", "reverse"),
    "positive": ("add", "describe", "find", "pick", "replace", "translate"),
}


def sandbox_prompts(name: str) -> list[Prompt]:
    """The prompts of a split, or of a split with a mix (`train@negative`), as many as the split has by default."""
    split, _, mix = name.partition("@")
    if mix and mix not in MIXES:
        raise UserError(f"There is no sandbox mix {mix!r}; known: {', '.join(MIXES)}.")
    return prompts(split, mix=dict.fromkeys(MIXES[mix], 1.0) if mix else None)
