"""How many responses per prompt, at equal tokens: 2 to 1,024 prompts, 4 to 512, or 8 to 256.

OPTune (wDPO, lowest reward, ratio 0.5); a pair is the best and the worst of a prompt's responses. As there is one pair
a prompt, more responses to fewer prompts also mean fewer updates, in proportion: what is seen here is both together.
Leads are over two responses, paired by seed. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from experiments.figures.figure import Data, Evidence, Figure, preview
from experiments.sensitivity.arms import RESPONSES
from experiments.sensitivity.leads import draw_leads, foot, lead, told, total


def collect(evidence: Evidence) -> Data:
    """Leads over two responses, tokens and updates, by number of responses."""
    raw, by_n = evidence.raw, {}
    for n, a in RESPONSES.items():
        results = raw[a.name]
        spent = {name: fmean(total(result, name) for result in results) for name in ("tokens", "updates")}
        by_n[str(n)] = {"lead": lead(results, raw[RESPONSES[2].name]), **spent}
    return {"by_n": by_n}


def lines(data: Data) -> list[str]:
    """The leads, with what was spent."""
    return [
        f"  n = {n} ({row['tokens']:,.0f} tokens, {row['updates']:.0f} updates): {told(row['lead'])}"
        for n, row in data["by_n"].items()
    ]


def draw(data: Data, path: Path) -> list[str]:
    """A panel for each outcome."""
    names = {"win_score": "Win score, lead over n = 2", "gold_mean": "Gold, lead over n = 2"}
    text = foot(data, "95% t intervals, dots: seeds")
    leads = [row["lead"] for row in data["by_n"].values()]
    labels = [f"{n}\n{row['updates']:.0f} updates" for n, row in data["by_n"].items()]
    return draw_leads(leads, labels, names, "Responses per prompt, n", text, preview(data), path)


FIGURE = Figure("Sensitivity: responses per prompt at equal tokens", tuple(RESPONSES.values()), collect, draw, lines)
