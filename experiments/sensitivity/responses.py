"""How many responses per prompt, at equal tokens: 2 to 1,024 prompts, 4 to 512, or 8 to 256.

OPTune (wDPO, lowest reward, ratio 0.5); a pair is the best and the worst of a prompt's responses. As there is one pair
a prompt, more responses to fewer prompts also mean fewer updates, so both are shown: one pass over the pairs, and as
many passes as give the same number of updates. Leads are over two responses, paired by seed. Descriptive: three seeds
of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from experiments.compute.raw_result import RawResult
from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import RESPONSES
from experiments.sensitivity.leads import dress, foot, lead, points, told

ARMS = {a.name: a for by_n in RESPONSES.values() for a in by_n.values()}


def collect(evidence: Evidence) -> Data:
    """Leads over two responses, tokens and updates, by way of comparing and number of responses."""
    raw = evidence.raw
    data: Data = {"ways": {}}
    for way, by_n in RESPONSES.items():
        rows = {}
        for n, a in by_n.items():
            results = raw[a.name]
            spent = {name: fmean(_total(result, name) for result in results) for name in ("tokens", "updates")}
            rows[str(n)] = {"lead": lead(results, raw[by_n[2].name]), **spent}
        data["ways"][way] = rows
    return data


def _total(result: RawResult, count: str) -> int:
    """Tokens sampled or updates made, over all iterations."""
    stage = {"tokens": "generate", "updates": "train"}[count]
    return sum(row["stages"][stage][count] for row in result["iterations"])


def lines(data: Data) -> list[str]:
    """The leads, with what was spent."""
    rows = []
    for way, by_n in data["ways"].items():
        for n, row in by_n.items():
            spent = f"{row['tokens']:,.0f} tokens, {row['updates']:.0f} updates"
            rows.append(f"  {way}, n = {n} ({spent}): {told(row['lead'])}")
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0))
    names = {"win_score": "Win score, lead over n = 2", "gold_mean": "Gold, lead over n = 2"}
    for axes, (measure, name) in zip(panels, names.items(), strict=True):
        for place, (way, by_n) in enumerate(data["ways"].items(), start=1):
            x = [at + 0.06 * (2 * place - 3) for at in range(len(by_n))]
            points(axes, x, [row["lead"][measure] for row in by_n.values()], way, place)
            axes.set_xticks(range(len(by_n)), list(by_n))
        dress(axes, name)
        axes.set_xlabel("Responses per prompt, n")
    panels[0].legend(edgecolor="none", framealpha=1, fontsize=7.5)
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.08, right=0.985, wspace=0.25)
    style.stamp(figure, foot(data, "means, 95% t intervals, seeds as dots"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: responses per prompt at equal tokens", tuple(ARMS.values()), collect, draw, lines)
