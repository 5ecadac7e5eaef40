"""What stands beside the real model's win score in its report: gold, constraints met and KL of every arm at its end.

They decide nothing (`claims/real_model.py`), but say what the win score does not: what the policies gave up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.claims.real_model import WDPO_ARMS
from experiments.compute.arms import RATIOS, REPORT_SEEDS, arm, loss_arms, ratio_arms
from experiments.compute.raw_result import RawResult
from experiments.compute.results import RESULTS, read_raw
from experiments.figures.figure import interval, shown, signed
from optune.utils.hashing import stable_hash

Read = Callable[[RawResult], float | None]
BASELINE = "offline baseline"


def _last(name: str, factor: float = 1.0) -> Read:
    """A measure of the last policy, None where a result has none."""

    def read(result: RawResult) -> float | None:
        value = result["iterations"][-1].get(name)
        return None if value is None else factor * value

    return read


def _kl(result: RawResult) -> float | None:
    return result["iterations"][-1].get("stages", {}).get("kl", {}).get("kl_to_sft")


# Title, digits, and how it is read from a result.
MEASURES: tuple[tuple[str, int, Read], ...] = (
    ("win score", 1, _last("win_score")),
    ("gold", 2, _last("gold_mean")),
    ("constraints met, %", 0, _last("met_mean", 100.0)),
    ("KL to the start, nats", 1, _kl),
)


def section(preset: str, base: Path = RESULTS) -> Iterable[str]:
    """A table of every arm, and what two contrasts of the claims are in these measures; nothing before arms are run."""
    there = [a for a in (*WDPO_ARMS, *ratio_arms("dpo")) if any((base / preset / "raw" / a.name).glob("seed*.json"))]
    if not {a.name for a in WDPO_ARMS} <= {a.name for a in there}:
        return
    raw = read_raw(base, preset, WDPO_ARMS, REPORT_SEEDS)
    yield "## Gold, constraints met and KL beside the win score\n"
    yield "After the last iteration, 300 test prompts, means over report seeds [95% t interval]. They decide nothing,"
    yield "but say what the win score does not. KL is an estimate on the policy's own responses to 32 training prompts."
    yield "The win score is against the offline baseline of the seed's build, whose own is 50; its row has one value of"
    yield "each baseline that was trained.\n"
    yield f"| arm | seeds | {' | '.join(title for title, *_ in MEASURES)} |"
    yield f"|---|---|{'---|' * len(MEASURES)}"
    for member in there:
        results = read_raw(base, preset, [member], REPORT_SEEDS)[member.name]
        told = [shown(interval([read(result) for result in results]), digits) for _, digits, read in MEASURES]
        yield f"| {member.name} | {len(results)} | {' | '.join(told)} |"
    yield _baseline(raw[WDPO_ARMS[0].name])
    yield ""
    yield from _contrasts(raw)


def _baseline(results: Sequence[RawResult]) -> str:
    """The offline baselines themselves: seeds of one build share one, so each counts once."""
    each = {stable_hash(result["baseline"]): result["baseline"] for result in results}.values()
    gold = shown(interval([one["gold_mean"] for one in each]), 2)
    met = [one.get("met_mean") for one in each]
    share = "-" if None in met else shown(interval([100.0 * value for value in met]), 0)
    return f"| {BASELINE} | {len(each)} trained | 50 | {gold} | {share} | - |"


def _contrasts(raw: dict[str, list[RawResult]]) -> Iterable[str]:
    online = [a.name for a in loss_arms("wdpo")]
    full, static = arm("wdpo", "all").name, arm("wdpo", "none").name
    seeds = range(len(raw[full]))

    def over_baseline(measure: str, factor: float, seed: int) -> float | None:
        values = [_last(measure, factor)(raw[name][seed]) for name in online]
        level = raw[full][seed]["baseline"].get(measure)
        return None if None in (*values, level) else sum(values) / len(values) - factor * level

    def over_static(read: Read, seed: int) -> float | None:
        whole, none = (read(raw[name][seed]) for name in (full, static))
        return None if None in (whole, none) else whole - none

    gold = signed(interval([over_baseline("gold_mean", 1.0, seed) for seed in seeds]), 2)
    met = signed(interval([over_baseline("met_mean", 100.0, seed) for seed in seeds]), 0)
    yield f"- Online minus offline (mean of OPTune at {', '.join(map(str, RATIOS))} and ratio 1): {gold} of gold and"
    yield f"  {met} points of the share of constraints met."
    told = [f"{signed(interval([over_static(read, s) for s in seeds]), d)} of {title}" for title, d, read in MEASURES]
    yield f"- Ratio 1 minus never regenerating: {', '.join(told)}.\n"
