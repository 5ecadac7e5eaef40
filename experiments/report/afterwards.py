"""What was added after the verdicts were known: further numbers, and classes shown instead of the rule's.

Rules, claims and verdicts stay as they are: `verdicts.json` has what the rules say, and the report shows both. Every
number is computed from committed results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.stats import equivalence, holm, t_interval, t_test
from experiments.claims.contrasts import SPEEDUPS, of
from experiments.compute.arms import RATIOS, REPORT_SEEDS, arm
from experiments.compute.results import RESULTS, ROOT, read_raw
from experiments.figures.figure import shown
from optune.utils.files import read_json

# The paper claims these of its engine and GPUs, and seconds of another machine can neither confirm nor refute them.
OF_ANOTHER_MACHINE = ("table1-generation-dominates", "fig5-speedup-0.7", "fig5-speedup-0.5")
LOSSES = {"wdpo": "wDPO", "dpo": "DPO"}
Row = dict[str, Any]


def shown_verdict(row: Row) -> str:
    """The class shown for a claim: the rule's, except for claims about the time of other machines."""
    if row["claim"] in OF_ANOTHER_MACHINE and row["verdict"] in ("contradicted", "replicated"):
        return "not testable here"
    return row["verdict"]


def reason(row: Row) -> str:
    """Why the shown class is not the rule's; empty if it is."""
    if shown_verdict(row) == row["verdict"]:
        return ""
    return (
        f"By the rule fixed beforehand: {row['verdict']}. Added afterwards: it is about the time of the paper's GPUs "
        "and engine, which this machine cannot show."
    )


def beside_baseline(row: Row, preset: str) -> str:
    """How `none` compares with the offline baseline, for claims that online policies beat it; empty for others."""
    loss = {"fig3-online-over-offline": "wdpo", "fig4-online-over-offline": "dpo"}.get(row["claim"])
    return f"so does never regenerating: win score {_told(over_none(preset, loss)['none'], 1)}" if loss else ""


def section(preset: str, verdicts: Sequence[Row]) -> Iterable[str]:
    """The section of the report."""
    yield "## Added afterwards\n"
    yield "Everything in this section was decided after the verdicts were known. It changes none of them.\n"
    for loss in LOSSES:
        yield from _beside_parity(preset, loss)
    yield from _clock({row["claim"]: row for row in verdicts})
    yield from _worlds(preset)
    yield ""


# --- `none` beside the verdicts --------------------------------------------------------------------------------------


def over_none(preset: str, loss: str, base: Path = RESULTS) -> dict[str, Any]:
    """Win scores at iteration 3, shape (n_seeds,) each: `none` minus the baseline's 50; ratio 1, and each arm minus it.

    `par`: OPTune at 0.5 and 0.7 minus ratio 1, the contrast of the parity claim.
    """
    arms = [arm(loss, "all"), arm(loss, "none")]
    arms += [arm(loss, strategy, ratio) for strategy in ("lowest_reward", "random") for ratio in RATIOS]
    raw = read_raw(base, preset, arms, REPORT_SEEDS)
    none = of(raw, "win_score", loss, "none")
    full = of(raw, "win_score", loss, "all")
    leads = {
        strategy: {ratio: of(raw, "win_score", loss, strategy, ratio) - none for ratio in RATIOS}
        for strategy in ("lowest_reward", "random")
    }
    par = np.mean([leads["lowest_reward"][ratio] for ratio in (0.5, 0.7)], axis=0) - (full - none)
    return {"none": none - 50, "all": full - none, "par": par, **leads}


def _beside_parity(preset: str, loss: str) -> Iterable[str]:
    leads = over_none(preset, loss)
    margin = abs(float(leads["all"].mean())) / 2
    p = equivalence(leads["par"], margin)
    yield f"- {LOSSES[loss]}: the static control `none` beats the offline baseline, too, by {_told(leads['none'])}."
    yield f"  Ratio 1 gains {_told(leads['all'])} over `none`."
    for strategy, name in (("lowest_reward", "OPTune"), ("random", "A random part")):
        told = "; ".join(f"{ratio}: {_told(values)}" for ratio, values in leads[strategy].items())
        yield f"  {name} over `none`, by ratio: {told}."
    verdict = "still on a par" if p < 0.05 else "not shown to be on a par"
    yield f"  OPTune at 0.5 and 0.7 minus ratio 1 is {_told(leads['par'])}: with half of ratio 1's gain over `none` as"
    yield f"  the margin ({margin:.2f}), it is {verdict} (equivalence p {p:.2f})."


def _told(values: np.ndarray, digits: int = 2) -> str:
    """`+1.65 [+0.12, +3.18]`."""
    interval = t_interval(values)
    return f"{interval.estimate:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


# --- the clock -------------------------------------------------------------------------------------------------------


def predicted_speedup(share: float, ratio: float) -> float:
    """The speedup of generating for `ratio` of the prompts, if generation takes `share` of the time."""
    return 1 / (1 - share * (1 - ratio))


def _clock(rows: dict[str, Row]) -> Iterable[str]:
    share = read_json(ROOT / "results" / "published" / "table1.json")["shares"]["generation"] / 100
    for ratio, claimed in SPEEDUPS.items():
        row = rows.get(f"fig5-speedup-{ratio}")
        if row:
            test = row["outcomes"]["seconds"]
            predicted = predicted_speedup(share, ratio)
            yield f"- Speedup at ratio {ratio}: {claimed + test['estimate']:.2f} measured here, {claimed} claimed."
            yield f"  With generation at {share:.1%} of the time, as in the paper, {predicted:.2f} is to be expected."


# --- worlds ----------------------------------------------------------------------------------------------------------


def oracle_over_reward(worlds: dict[str, Any]) -> dict[str, np.ndarray]:
    """By world: win score of the oracle's ranking minus that of the lowest reward's, shape (n_seeds,)."""
    leads = {name: world["over_random"] for name, world in worlds.items()}
    differences = {}
    for name, lead in leads.items():
        oracle, reward = (lead[strategy]["win_score"]["per_seed"] for strategy in ("lowest_gold", "lowest_reward"))
        differences[name] = np.subtract(oracle, reward)
    return differences


def clear_leads(leads: dict[str, np.ndarray]) -> list[str]:
    """The worlds whose lead is above 0 after Holm's correction over the worlds."""
    adjusted = holm([t_test(values) for values in leads.values()])
    return [name for (name, values), p in zip(leads.items(), adjusted, strict=True) if p < 0.05 and values.mean() > 0]


def _worlds(preset: str) -> Iterable[str]:
    worlds = read_json(RESULTS / preset / "worlds.json")["worlds"]
    correlations = ", ".join(f"{name} {shown(world['families_correlation'], 2)}" for name, world in worlds.items())
    leads = oracle_over_reward(worlds)
    yield f"- Initial reward and gain correlate over families: {correlations}."
    yield f"- The oracle's ranking over lowest reward: {', '.join(f'{n} {_told(v)}' for n, v in leads.items())}. After"
    yield f"  Holm's correction over the worlds it is ahead in: {', '.join(clear_leads(leads)) or 'none'}."
