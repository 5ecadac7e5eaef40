"""Must all reused pairs train? All of them (the paper), the half of largest weight (`pairs.keep: 0.5`), or none.

OPTune (wDPO, lowest reward, ratio 0.5); fresh pairs train in every arm. With fewer pairs an iteration makes fewer
updates and takes less time, so an arm is compared with three iterations on all pairs after as many iterations, and
after those that come nearest to as many updates and to as many seconds, if they come within a tenth. Seconds are those
of sampling, rewarding and training at the costs per token, response and pair of runs with nothing beside them; these
arms' own clocks say little, since other work ran on the machine. Descriptive: three seeds of one build, no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from experiments.claims.contrasts import on_the_clock
from experiments.compute.raw_result import Raw, RawResult
from experiments.development.time_to_quality import predicted, unit_costs
from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import ALL_KEPT, ALL_KEPT_TIMED, KEPT
from experiments.sensitivity.leads import SPENT, foot, lead, level, told, total, until

REFERENCE = 3  # iterations with all pairs, as in the paper
EQUAL = ("iterations", "updates", "seconds")
NEAR = 0.1  # as a share of the reference's


def collect(evidence: Evidence) -> Data:
    """By what is kept: after each iteration the outcomes and what was spent; and the leads over all pairs."""
    raw = evidence.raw
    by_kept = {kept: _course(raw, raw[a.name]) for kept, a in KEPT.items()}
    reference, rival = by_kept["all"][REFERENCE], until(raw[ALL_KEPT.name], REFERENCE)
    compared: Data = {}
    for kept in ("half", "none"):
        compared[kept] = {}
        for equal in EQUAL:
            at = _nearest(by_kept[kept], equal, reference[equal])
            if at is not None:
                ahead = lead(until(raw[KEPT[kept].name], at), rival)
                compared[kept][equal] = {"after": at, "lead": ahead}
    return {"by_kept": by_kept, "compared": compared, "reference": REFERENCE}


def _course(raw: Raw, results: Sequence[RawResult]) -> list[Data]:
    """After each iteration: its number, the outcomes, and what was spent up to there (means over seeds)."""
    costs, course = unit_costs(on_the_clock(raw, ALL_KEPT)), []
    for t in range(len(results[0]["iterations"])):
        so_far = until(results, t)
        spent = {count: fmean(total(result, count) for result in so_far) for count in SPENT}
        seconds = round(predicted(so_far, costs, t), 3)
        course.append({"iterations": t, **level(so_far), **spent, "seconds": seconds})
    return course


def _nearest(course: Sequence[Data], what: str, reference: float) -> int | None:
    """The iteration after which `what` is nearest to the reference's; None where that is not near."""
    at = min(range(len(course)), key=lambda t: abs(course[t][what] - reference))
    return at if abs(course[at][what] - reference) <= NEAR * reference else None


def lines(data: Data) -> list[str]:
    """What each arm has spent and reached after each iteration, then the leads."""
    rows = []
    for kept, course in data["by_kept"].items():
        for row in course:
            spent = f"{row['pairs']:,.0f} pairs, {row['tokens']:,.0f} tokens, {row['seconds']:.1f} s"
            reached = f"win score {row['win_score']['mean']:.1f}, gold {row['gold_mean']['mean']:.2f}"
            rows.append(f"  {kept:5s} after iteration {row['iterations']} ({spent}): {reached}")
    for kept, leads in data["compared"].items():
        for equal, row in leads.items():
            rows.append(f"  {kept:5s} over all, equal {equal} (iteration {row['after']}): {told(row['lead'])}")
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome, against the seconds since the start."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.1))
    names = {"win_score": "Win score", "gold_mean": "Gold"}
    for axes, (measure, name) in zip(panels, names.items(), strict=True):
        for place, (kept, course) in enumerate(data["by_kept"].items(), start=1):
            x, values = [row["seconds"] for row in course], [row[measure] for row in course]
            look = {"color": style.COLOURS["ratio"][place], "marker": style.MARKERS[place], "markersize": 4}
            axes.plot(x, [value["mean"] for value in values], label=f"reused pairs kept: {kept}", **look)
        style.grid(axes)
        axes.set_ylabel(name)
        axes.set_xlabel("Seconds (reckoned), a mark for each iteration")
    panels[0].legend(edgecolor="none", framealpha=1, fontsize=7.5, loc="lower right")
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.08, right=0.985, wspace=0.25)
    style.stamp(figure, foot(data, "means of three seeds"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: which reused pairs train", (*KEPT.values(), ALL_KEPT_TIMED), collect, draw, lines)
