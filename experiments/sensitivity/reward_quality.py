"""How good must the reward model be for selection to pay? Reward models of 1/16, 1/4 and all of the preferences.

Lowest reward's lead over random at ratio 0.5 (wDPO) against the reward model's agreement with gold on the SFT policy's
own responses: within prompts, which is what DPO's pairs need (share of pairs ordered as gold does), and across prompts,
which is what selection needs (Spearman's correlation of a prompt's mean reward and mean gold). The paper names the
reward model's quality as a limit of its method. Descriptive: three seeds of one build, which carry no verdict.
"""

from __future__ import annotations

from pathlib import Path

from experiments.figures.figure import Data, Evidence, Figure, interval, preview, shown
from experiments.sensitivity.arms import BY_REWARD, QUALITY
from experiments.sensitivity.leads import dress, foot, lead, level, points, told

AGREEMENTS = {
    "agreement_all": "Agreement with gold within prompts",
    "rank_correlation_across_prompts": "Rank correlation with gold across prompts",
}
ARMS = (*(a for by_share in BY_REWARD.values() for a in by_share.values()), *QUALITY.values())


def collect(evidence: Evidence) -> Data:
    """By share of the preferences: agreement with gold, both strategies' levels, and the lead over random."""
    raw = evidence.raw
    rows = {}
    for share, probe in QUALITY.items():
        lowest, random = (raw[BY_REWARD[strategy][share].name] for strategy in ("lowest_reward", "random"))
        qualities = [result["quality"] for result in raw[probe.name]]
        rows[share] = {
            **{name: interval([quality[name] for quality in qualities]) for name in AGREEMENTS},
            "lowest_reward": level(lowest),
            "random": level(random),
            "lead": lead(lowest, random),
        }
    return {"by_share": rows}


def lines(data: Data) -> list[str]:
    """A line for each reward model."""
    rows = []
    for share, row in data["by_share"].items():
        within, across = (row[name]["mean"] for name in AGREEMENTS)
        rows.append(f"  {share:4s} of the preferences: {within:.3f} within prompts, {across:.3f} across prompts")
        rows.append(f"       lowest reward over random: {told(row['lead'])}")
        levels = ", ".join(f"{name} {shown(row[name]['win_score'])}" for name in ("lowest_reward", "random"))
        rows.append(f"       win scores: {levels}")
    return rows


def draw(data: Data, path: Path) -> list[str]:
    """The lead on the win score against each kind of agreement."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.0), sharey=True)
    for axes, (name, label) in zip(panels, AGREEMENTS.items(), strict=True):
        for place, (share, row) in enumerate(data["by_share"].items()):
            points(axes, [row[name]["mean"]], [row["lead"]["win_score"]], f"{share} of its pairs", place)
        dress(axes)
        axes.set_xlabel(label)
        axes.margins(x=0.25)
    panels[0].set_ylabel("Lowest reward's lead over random\n(win score, ratio 0.5)")
    panels[0].legend(edgecolor="none", framealpha=1, fontsize=7.5, title="reward model of", title_fontsize=7.5)
    figure.subplots_adjust(top=0.92, bottom=0.21, left=0.11, right=0.985, wspace=0.08)
    style.stamp(figure, foot(data, "95% t intervals, dots: seeds"), preview(data))
    return style.save(figure, path)


FIGURE = Figure("Sensitivity: the reward model's quality", ARMS, collect, draw, lines)
