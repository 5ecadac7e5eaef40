"""Strategies that the literature has since brought, at the budget of half of the prompts: GRESO and adaptive rollout.

wDPO, beside the paper's strategy and random selection; `optune/selection/literature.py` says what the two are here.
GRESO samples as many responses as the others; adaptive rollout at most as many, and leaves solved prompts out. Leads
are over a random half, paired by seed. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import LITERATURE, RANDOM
from experiments.sensitivity.leads import SPENT, draw_leads, foot, lead, told, total

LABELS = {"lowest_reward": "lowest reward\n(paper)", "greso": "GRESO", "adaptive_rollout": "adaptive\nrollout"}


def collect(evidence: Evidence) -> Data:
    """By strategy its lead over random selection, and per iteration what it spent and the prompts that it sampled."""
    raw, by_strategy = evidence.raw, {}
    for name, a in LITERATURE.items():
        results = raw[a.name]
        after = len(results[0]["iterations"]) - 1
        spent = {count: fmean(total(result, count, since=1) for result in results) / after for count in SPENT}
        rows = [row for result in results for row in result["iterations"][1:]]
        for stage, count in (("generate", "prompts"), ("generate", "responses")):
            spent[count] = fmean(row["stages"][stage][count] for row in rows)
        by_strategy[name] = {"lead": lead(results, raw[RANDOM.name]), **spent}
    return {"by_strategy": by_strategy}


def lines(data: Data) -> list[str]:
    """The leads, with what an iteration spent."""
    rows = []
    for name, row in data["by_strategy"].items():
        counts = ("prompts", "responses", "tokens", "pairs")
        spent = ", ".join(f"{row[count]:,.0f} {count}" for count in counts)
        rows.append(f"  {name:17s} ({spent} an iteration) over random: {told(row['lead'])}")
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome."""
    names = {"win_score": "Win score, lead over random", "gold_mean": "Gold, lead over random"}
    text = foot(data, "95% t intervals, dots: seeds")
    leads = [data["by_strategy"][name]["lead"] for name in LABELS]
    labels = list(LABELS.values())
    return draw_leads(leads, labels, names, "Strategy at ratio 0.5", text, preview(data), path)


FIGURE = Figure("Sensitivity: strategies of the literature", tuple(LITERATURE.values()), collect, draw, lines)
