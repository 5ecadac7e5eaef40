"""The report's section on how much the results depend on what was fixed, and what that changes in our advice.

Every number is read from the figures' data files; a figure that has not been made is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from experiments.compute.results import RESULTS
from optune.utils.files import read_json

Data = dict[str, Any]


def section(preset: str) -> Iterable[str]:
    """A paragraph for each figure whose data are there."""
    folder = RESULTS / preset
    there = {name: words for name, words in WORDS.items() if (folder / f"{name}.json").exists()}
    if not there:
        return
    yield "## How much depends on what was fixed\n"
    yield "Descriptive: three seeds of one build of the world, which carry no verdict; the figures are below. Each"
    yield "paragraph ends with what it changes in our advice.\n"
    for name, words in there.items():
        yield f"- {words(read_json(folder / f'{name}.json'))} (`make {name}`)"
    yield ""


def score(lead: Data) -> str:
    """`+1.2 [-0.3, +2.7]`, of a lead on the win score."""
    value = lead["win_score"]
    return f"{value['mean']:+.1f} [{value['low']:+.1f}, {value['high']:+.1f}]"


def largest(leads: Iterable[Data]) -> float:
    """The largest mean lead on the win score, in size."""
    return max(abs(lead["win_score"]["mean"]) for lead in leads)


def _beta_1(data: Data) -> str:
    told = []
    for loss, said in (("wdpo", "wDPO"), ("dpo", "DPO")):
        low, high = (score(data["leads"][loss][value]) for value in ("0.03", "0.3"))
        told.append(f"with {said} {low} at 0.03 and {high} at 0.3")
    return (
        f"**beta_1.** Against 0.1, the win score is {'; '.join(told)}. None of these stands out, so 0.1, the field's "
        "usual value, stays: this changes nothing in our advice."
    )


def _beta_2(data: Data) -> str:
    quarter, four, infinity = (score(data["leads"][name]) for name in ("1/4", "4", "infinity"))
    return (
        f"**beta_2.** Against auto, the win score is {quarter} at a quarter of it, {four} at four times and {infinity} "
        "at infinity (DPO). At 0 all pairs weigh one half, and RMSprop undoes a common factor: the policies "
        f"are those of DPO but for rounding ({score(data['leads']['0'])}). This changes nothing in our advice."
    )


def _ratios(data: Data) -> str:
    ahead = data["over_random"]
    told = ", ".join(f"{score(lead)} at {ratio}" for ratio, lead in ahead.items())
    tenth, fifth = (score(data["leads"]["lowest_reward"][ratio]) for ratio in ("0.1", "0.2"))
    return (
        f"**A small ratio.** Lowest reward over random: {told}. From never regenerating it is {tenth} at 0.1 and "
        f"{fifth} at 0.2. Our advice to take the lowest rewards is meant for ratios from 0.3 on; nothing speaks for a "
        "tenth or a fifth of the prompts."
    )


def _rankings(data: Data) -> str:
    leads = {name: score(lead) for name, lead in data["leads"].items()}
    return (
        f"**The reward that ranks.** Over a random half, the preferred response's reward is {leads['preferred']}, the "
        f"mean {leads['mean']}, the rejected response's {leads['rejected']}, the smallest gap {leads['gap']}, and the "
        f"highest reward first {leads['highest']}. Only the last stands out. This changes nothing in our advice."
    )


def _staleness(data: Data) -> str:
    lowest, random = (data["arms"][name]["0.5"] for name in ("lowest_reward", "random"))
    families = data["families"]["lowest_reward"]
    most, least = max(families, key=families.__getitem__), min(families, key=families.__getitem__)
    never, others = lowest["first_reward"]
    return (
        f"**What stays old.** At ratio 0.5, lowest reward never refreshes {lowest['never']['mean']:.0%} of the prompts "
        f"(random: {random['never']['mean']:.0%}), and {lowest['repeated']['mean']:.0%} of a selection was selected in "
        f"the iteration before, too (random: {random['repeated']['mean']:.0%}). It selects kinds of prompts: of the "
        f"family `{most}`, {families[most]:.0%} are never refreshed, of `{least}` {families[least]:.0%}. Those never "
        f"refreshed had a mean reward of {never:.1f} in iteration 0, the others {others:.1f}. In iteration 3, "
        f"{lowest['ages'][-1]:.0%} of the pairs that train are still those of iteration 0 (random: "
        f"{random['ages'][-1]:.0%}). Our advice gets one sentence more: with lowest reward, look at which kinds of "
        "prompts are never refreshed."
    )


def _responses(data: Data) -> str:
    told = ", ".join(
        f"{score(row['lead'])} with {n} ({row['updates']:.0f} updates)" for n, row in data["by_n"].items() if n != "2"
    )
    updates = data["by_n"]["2"]["updates"]
    return (
        f"**Responses per prompt.** At equal tokens, the win score against two ({updates:.0f} updates) is {told}. "
        "Fewer prompts make fewer pairs and so fewer updates, which alone may be the reason. Our advice: do not trade "
        "prompts for responses without making up for the updates."
    )


def _quality(data: Data) -> str:
    rows = []
    for share, row in data["by_share"].items():
        within, across = (row[name]["mean"] for name in ("agreement_all", "rank_correlation_across_prompts"))
        rows.append(f"{share} ({within:.2f} within, {across:.2f} across) {score(row['lead'])}")
    return (
        "**The reward model.** Lowest reward over random at 0.5, by the share of its preferences that the reward model "
        f"learned from, with its agreement with gold within and its rank correlation across prompts: {'; '.join(rows)}."
        " Fewer preferences hardly lowered the agreement, and did not lower the correlation, so this is no test of a "
        "poor reward model; it changes nothing in our advice."
    )


def _kept(data: Data) -> str:
    at_end = {kept: course[data["reference"]] for kept, course in data["by_kept"].items()}
    told = []
    for kept, name in (("half", "With the half of largest weight"), ("none", "With fresh pairs alone")):
        pairs, seconds = (at_end[kept][spent] / at_end["all"][spent] for spent in ("pairs", "seconds"))
        rows = data["compared"][kept].items()
        leads = [f"{score(row['lead'])} at equal {equal} (after iteration {row['after']})" for equal, row in rows]
        told.append(f"{name} ({pairs:.0%} of the pairs and {seconds:.0%} of the seconds until iteration 3) the win ")
        told[-1] += f"score is {', '.join(leads)}."
    return (
        f"**Which reused pairs train.** All fresh pairs train, against three iterations on all pairs. {' '.join(told)} "
        "Seconds are reckoned from runs with nothing beside them. With all pairs, too, the score falls after iteration "
        "3, so this world does not show what more iterations on fewer pairs are worth. Six iterations on fresh pairs "
        "alone would make as many updates; they were not run. Our advice gets one sentence more: where training is "
        "most of the time, `pairs.keep=0.5` is worth a try."
    )


def _literature(data: Data) -> str:
    rows = data["by_strategy"]
    names = {"lowest_reward": "the lowest rewards", "greso": "GRESO", "adaptive_rollout": "adaptive rollout"}
    told = [f"{names[name]} {score(rows[name]['lead'])}, with {rows[name]['tokens']:,.0f} tokens" for name in names]
    return (
        "**Strategies of the literature.** At ratio 0.5, over a random half "
        f"({rows['random']['tokens']:,.0f} tokens an iteration): {'; '.join(told)}. In iterations 1 to 3 "
        f"adaptive rollout had {rows['adaptive_rollout']['prompts']:.0f} prompts at a time sampled, the others "
        f"{rows['random']['prompts']:.0f}. Both were made for rewards of 0 and 1. Nothing here speaks for them; "
        "this changes nothing in our advice."
    )


WORDS: dict[str, Callable[[Data], str]] = {
    "beta-1": _beta_1,
    "beta-2": _beta_2,
    "small-ratios": _ratios,
    "rankings": _rankings,
    "staleness": _staleness,
    "responses": _responses,
    "reward-quality": _quality,
    "kept-pairs": _kept,
    "literature": _literature,
}
