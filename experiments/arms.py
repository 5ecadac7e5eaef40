"""Arms, seeds and builds: who is compared with whom. Arms that several figures share are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REPORT_SEEDS = tuple(range(10))  # used for reports alone
PREVIEW_SEEDS = (0, 1, 2)  # what `make fig3` computes unless told otherwise: one build, no verdicts
# The sandbox build (SFT policy, reward model, baseline) of each report seed: five builds, the first one the preview's.
BUILD_OF_SEED = dict(zip(REPORT_SEEDS, (0, 0, 0, 1, 1, 2, 2, 3, 3, 4), strict=True))
DEVELOPMENT_SEEDS = (1000, 1001, 1002)  # for everything that is tuned; each its own build

RATIOS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Arm:
    """A named set of changes to a preset."""

    name: str
    overrides: tuple[tuple[str, Any], ...]


def arm(loss: str, strategy: str, ratio: float = 1.0) -> Arm:
    """`wdpo-lowest_reward-0.3`, `dpo-all-1.0`, `wdpo-none-1.0`, ..."""
    changes = {"loss.name": loss, "selection.strategy": strategy, "selection.ratio": ratio}
    return Arm(f"{loss}-{strategy}-{ratio}", tuple(changes.items()))


def ratio_arms(loss: str) -> tuple[Arm, ...]:
    """The arms of Figures 3 (wDPO) and 4 (DPO): the paper's strategy and random at each ratio, ratio 1, and static."""
    swept = [arm(loss, strategy, ratio) for ratio in RATIOS for strategy in ("lowest_reward", "random")]
    return (*swept, arm(loss, "all"), arm(loss, "none"))


def build_of(seed: int) -> int:
    """The sandbox build of a seed: shared by some report seeds, its own for any other seed."""
    return BUILD_OF_SEED.get(seed, seed)
