"""Five recipes of one loop at equal budget, and what combining them gives: which one to use when.

OPTune (wDPO, lowest reward, 0.5), vanilla online DPO (ratio 1), RLHF Workflow (best and worst of 8, new prompts in
every iteration, the SFT policy as reference), Always-On-Policy and Starts-On-Policy prompts (a writer makes new prompts
from what the policy answers well and badly: the current policy in every iteration, or the start policy), and four
combinations. A fifth variant was added when the rest had been seen, and has no claim. All start from the same SFT
policy, and learn by the same reward model with the preset's learning rate and batch; nothing was tuned for any of them
but vanilla, on which the preset's values rest. What the neighbours' papers state is kept: two passes over the data,
RLHF Workflow's AdamW and cosine schedule.

The budget is what vanilla spends in its iterations 0 to 3: in tokens, everything counted (all n responses, reference
answers, validation answers, the prompt writer's prompts and replies), or in seconds of generation, rewarding, training
and a source's own work, from runs for the clock. A paid writer's waiting time is no part of that: in the sandbox it
answers at once. Each arm runs for as many iterations as both budgets take and is read off where the budget ends,
between two policies on the line from one to the other. Rules and claims: `experiments/claims`, arms and sizes:
`experiments/claims/recipe_contrasts.py` and `optune/presets/recipes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims.budgets import WRITER_READS, generated, mean_spent, seconds, tokens, typical_spent
from experiments.claims.claims import CLAIMS, RECIPE_TITLES
from experiments.claims.recipe_contrasts import (
    CLOCKED,
    MEMBERS,
    RECIPES,
    VANILLA,
    VARIANTS,
    at_equal_seconds,
    at_equal_tokens,
    over,
)
from experiments.claims.rules import OUTCOMES
from experiments.compute.raw_result import Raw
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, at_iteration, caption, interval, preview, shown
from optune.utils.files import read_json

ARMS = (*MEMBERS.values(), *CLOCKED.values())
KINDS = {
    "tokens": "responses",
    "tokens_reference": "reference answers",
    "tokens_validation": "validation answers",
    WRITER_READS: "the writer's prompts",
    "tokens_writer_out": "the writer's replies",
}


def collect(evidence: Evidence) -> Data:
    """Curves of every member over tokens and seconds, what each spends on what, and its outcomes at the budget."""
    raw = evidence.raw
    vanilla_clock = raw[CLOCKED["vanilla"].name]
    data: Data = {"clock_seeds": [result["seed"] for result in vanilla_clock]}
    data["budget"] = {
        "tokens": round(float(mean_spent(raw[VANILLA.name], tokens)[-1])),
        "seconds": round(float(typical_spent(vanilla_clock, seconds)[-1]), 2),
    }
    data["members"] = {name: _member(raw, name, data["budget"]) for name in MEMBERS}
    contrasts = [claim for claim in CLAIMS if claim.family == "recipes"]
    data["published"] = _published()
    data["contrasts"] = {claim.key: _outcomes(partial(claim.contrast, raw)) for claim in contrasts}
    return data


def _outcomes(value: Callable[[str], np.ndarray]) -> Data:
    """By outcome the interval over seeds of what `value` gives for it."""
    return {measure: interval(_rounded(value(measure))) for measure in OUTCOMES}


def _member(raw: Raw, name: str, budget: dict[str, float]) -> Data:
    results, clock = raw[MEMBERS[name].name], raw[CLOCKED[name].name]
    ends = {"tokens": mean_spent(results, tokens), "seconds": typical_spent(clock, seconds)}
    updates = np.cumsum(np.mean([_updates(result) for result in results], axis=0))
    equal = {
        "tokens": lambda measure: at_equal_tokens(raw, measure, name),
        "seconds": lambda measure: at_equal_seconds(raw, measure, name),
        "generated": lambda measure: at_equal_tokens(raw, measure, name, generated),
        "half_tokens": lambda measure: at_equal_tokens(raw, measure, name, share=0.5),
        "half_seconds": lambda measure: at_equal_seconds(raw, measure, name, share=0.5),
    }
    curve = [at_iteration(results, t, OUTCOMES) for t in range(len(ends["tokens"]))]
    best = max(range(len(curve)), key=lambda t: curve[t]["win_score"]["mean"])
    return {
        "title": RECIPE_TITLES[name],
        "arm": MEMBERS[name].name,
        "parent": VARIANTS[name][1] if name in VARIANTS else None,
        "curve": curve,
        "peak": {
            "iteration": best,
            **{unit: round(float(cost[best]), 1) for unit, cost in ends.items()},
            **curve[best],
        },
        **{unit: costs.round(2).tolist() for unit, costs in ends.items()},
        "at": {unit: _outcomes(value) for unit, value in equal.items()},
        "lead": {
            unit: _outcomes(partial(over, raw, name=name, rival="vanilla", unit=unit)) for unit in ("tokens", "seconds")
        },
        "updates": {unit: round(float(np.interp(budget[unit], costs, updates)), 1) for unit, costs in ends.items()},
        "iterations": {
            unit: round(float(np.interp(budget[unit], costs, np.arange(1, len(costs) + 1))), 2)
            for unit, costs in ends.items()
        },
        "unspent": {unit: round(max(0.0, 1 - float(costs[-1]) / budget[unit]), 3) for unit, costs in ends.items()},
        "per_iteration": _per_iteration(results),
    }


def _published() -> list[str]:
    """What the three papers report of their recipes: other models, judges, baselines and budgets, never equal ones."""
    folder = ROOT / "results" / "published"
    files = ("table2", "rlhf_workflow", "always_on_policy")
    optune, workflow, written = (read_json(folder / f"{name}.json") for name in files)
    arms, models = optune["arms"], workflow["table2"]["models"]
    said = [
        f"OPTune: LC win rate on AlpacaEval 2, ratio 0.5 {arms['wdpo-lowest_reward-0.5']}, ratio 1 "
        f"{arms['wdpo-all-1.0']}, offline baseline {arms['baseline']}",
        f"RLHF Workflow: the same rate, SFT {models['SFT'][0]}, offline DPO {models['DPO'][0]}, iterative "
        f"{models['iterative'][0]}",
    ]
    for table, rival in (("table2", "starts on policy"), ("table3", "vanilla synthetic prompts")):
        rows = written[table]["iterations"].items()
        told_rows = ", ".join(f"{row['win']}:{row['lose']} (iteration {t})" for t, row in rows)
        said.append(f"Always-On-Policy prompts: percent won and lost against {rival}, {told_rows}")
    return said


def _updates(result: dict[str, Any]) -> list[int]:
    """Updates of the policy in each iteration."""
    return [point["stages"]["train"]["updates"] for point in result["iterations"]]


def _per_iteration(results: Sequence[dict[str, Any]]) -> Data:
    """Tokens of an iteration by kind, prompts answered, pairs and updates: means over seeds and iterations 0 to 3."""
    entries, points = [], []
    for result in results:
        entries += result["timing"]["ledger"][:4]
        points += [point["stages"] for point in result["iterations"][:4]]
    counted = {
        "prompts": np.mean([stages["generate"]["prompts"] for stages in points]),
        "responses": np.mean([stages["generate"]["responses"] for stages in points]),
        "pairs": np.mean([stages["pairs"]["pairs"] for stages in points]),
        "updates": np.mean([stages["train"]["updates"] for stages in points]),
    }
    spending = {}
    for kind in KINDS:
        spending[kind] = np.mean([entry.get(kind, 0) for entry in entries])
    return {name: round(float(value), 1) for name, value in {**counted, **spending}.items()}


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]


def lines(data: Data) -> list[str]:
    """What the budget buys of each member, what an iteration spends on what, and the contrasts."""
    budget = data["budget"]
    said = [f"  budget: vanilla's iterations 0 to 3, {budget['tokens']:,} tokens or {budget['seconds']:.1f} seconds"]
    said += ["  at equal tokens           win score             gold                  iterations  updates"]
    said += [_row(name, member, "tokens") for name, member in data["members"].items()]
    said += ["  at equal seconds"]
    said += [_row(name, member, "seconds") for name, member in data["members"].items()]
    said += ["  at equal tokens, the writer's prompts not counted"]
    said += [_row(name, member, "generated") for name, member in data["members"].items() if _writes(member)]
    said += ["  minus vanilla, win score at equal tokens; at equal seconds (of the variants no claim, so no verdict)"]
    said += [_lead(name, member["lead"]) for name, member in data["members"].items() if name != "vanilla"]
    said += ["  at half of the tokens, win score; at half of the seconds"]
    said += [_halves(name, member["at"]) for name, member in data["members"].items()]
    said += ["  at its highest point of those measured, by hindsight: what a watch over the outcome could have kept"]
    said += [_peak(name, member["peak"]) for name, member in data["members"].items()]
    said += ["  an iteration: prompts answered, pairs, updates; tokens by kind (means of iterations 0 to 3)"]
    said += [f"    {name:22s}  {_spending(member['per_iteration'])}" for name, member in data["members"].items()]
    said += [
        "  published, with other models, judges, baselines and budgets; no comparison at equal budget is among them"
    ]
    said += [f"    {row}" for row in data["published"]]
    said += ["  contrasts (win score; gold)"]
    said += [
        f"    {key:54s} {shown(by_outcome['win_score'])}; {shown(by_outcome['gold_mean'], 3)}"
        for key, by_outcome in data["contrasts"].items()
    ]
    return said


def _writes(member: Data) -> bool:
    return member["per_iteration"][WRITER_READS] > 0


def _row(name: str, member: Data, unit: str) -> str:
    at_budget = member["at"][unit]
    bought = f"{member['iterations'][unit]:10.1f}  {member['updates'][unit]:7.0f}" if unit in member["updates"] else ""
    short = member["unspent"].get(unit, 0)
    note = f"  ({short:.0%} unspent)" if short >= 0.005 else ""
    win_score, gold = shown(at_budget["win_score"]), shown(at_budget["gold_mean"], 3)
    return f"    {name:22s}  {win_score:20s}  {gold:20s}  {bought}{note}".rstrip()


def _lead(name: str, lead: Data) -> str:
    return f"    {name:22s}  {shown(lead['tokens']['win_score']):22s}  {shown(lead['seconds']['win_score'])}"


def _halves(name: str, by_part: Data) -> str:
    cells = [shown(by_part[unit]["win_score"]) for unit in ("half_tokens", "half_seconds")]
    return f"    {name:22s}  {cells[0]:22s}  {cells[1]}"


def _peak(name: str, peak: Data) -> str:
    after = f"iteration {peak['iteration']}, {peak['tokens']:,.0f} tokens, {peak['seconds']:.1f} seconds"
    return f"    {name:22s}  {shown(peak['win_score']):20s}  {shown(peak['gold_mean'], 3):20s}  {after}"


def _spending(counted: Data) -> str:
    kinds = ", ".join(f"{counted[kind]:,.0f} {said}" for kind, said in KINDS.items() if counted[kind])
    return f"{counted['prompts']:.0f}, {counted['pairs']:.0f}, {counted['updates']:.0f}; {kinds}"


# --- the picture -----------------------------------------------------------------------------------------------------

COLOURS = {
    "vanilla": "#D55E00",
    "optune": "#0072B2",
    "rlhf_workflow": "#009E73",
    "aop": "#CC79A7",
    "sop": "#56B4E9",
    "optune_wide": "#0072B2",
    "optune_best_of_8": "#000000",
    "rlhf_workflow_wdpo": "#009E73",
    "aop_wdpo": "#CC79A7",
    "rlhf_workflow_rmsprop": "#E69F00",
}
MARKERS = dict(zip(COLOURS, "DsovPsXovd", strict=True))
SHORT = {
    "vanilla": "vanilla online DPO",
    "optune": "OPTune, 0.5",
    "rlhf_workflow": "RLHF Workflow",
    "aop": "always on policy",
    "sop": "starts on policy",
    "optune_wide": "OPTune, more prompts",
    "optune_best_of_8": "OPTune, best and worst of 8",
    "rlhf_workflow_wdpo": "RLHF Workflow, wDPO",
    "aop_wdpo": "always on policy, wDPO",
    "rlhf_workflow_rmsprop": "RLHF Workflow, RMSprop",
}


def draw(data: Data, path: Path) -> list[str]:
    """Win score over tokens (left) and seconds (right): recipes above, combinations with their parents below."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(2, 2, figsize=(7.2, 6.2), sharey=True, sharex="col")
    for row, (names, faint) in enumerate(((RECIPES, ()), (VARIANTS, dict.fromkeys(p for _, p in VARIANTS.values())))):
        for axes, unit, scale in zip(panels[row], ("tokens", "seconds"), (1e3, 1), strict=True):
            for name in faint:
                _curve(axes, data["members"][name], name, unit, scale, faint=True)
            for name in names:
                _curve(axes, data["members"][name], name, unit, scale)
            axes.axvline(data["budget"][unit] / scale, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
            axes.set_ylim(0, 72)  # room for the legend below the curves
            axes.set_xlim(0, 1.45 * data["budget"][unit] / scale)
            style.grid(axes)
    for axes, title in zip(panels.flat, ("a  Recipes", "b", "c  Combinations", "d"), strict=True):
        axes.set_title(title, loc="left", fontsize=9)
    for axes, label in zip(panels[1], ("Tokens, thousands, everything counted", "Seconds"), strict=True):
        axes.set_xlabel(label)
    for axes in panels[:, 0]:
        axes.set_ylabel("Win score")
    for axes in panels[:, 1]:
        axes.legend(edgecolor="none", framealpha=1, fontsize=7, loc="lower right", handlelength=2.2)
    figure.subplots_adjust(top=0.96, bottom=0.115, left=0.08, right=0.985, hspace=0.16, wspace=0.05)
    style.stamp(figure, caption(data, "means, 95% t intervals; dotted: the budget; dashed: from above"), preview(data))
    return style.save(figure, path)


def _curve(axes: Any, member: Data, name: str, unit: str, scale: float, faint: bool = False) -> None:
    from experiments.figures import style

    scores = [point["win_score"] for point in member["curve"]]
    x, y = [cost / scale for cost in member[unit]], [score["mean"] for score in scores]
    look = {"color": COLOURS[name], "linewidth": 1.2}
    if faint:
        axes.plot(x, y, alpha=0.45, linestyle="--", **look)
        return
    look |= {"marker": MARKERS[name], "markersize": 4, "capsize": 2, "elinewidth": 0.8}
    axes.errorbar(x, y, style.reach(scores), label=SHORT[name], **look)


FIGURE = Figure("The recipes at equal budget", ARMS, collect, draw, lines)
