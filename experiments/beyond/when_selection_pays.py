"""When does selecting by low reward pay? Rankings at ratio 0.5 in the main world and in three family mixes.

Hypothesis: regenerating the prompts of lowest reward beats a random half where those are the prompts that training can
still improve, and does harm where they are the hopeless ones. So the lead of `lowest_reward` over `random` should fall
as the correlation between a prompt's initial reward and its improvability rises.

Compared, in each world, with wDPO at iteration 3: lowest reward, random, lowest gold (an oracle), lowest centred reward
(all at ratio 0.5), all and none; each ranking against random, paired by seed. Improvability is measured on the
*training* prompts and on none of the arms that are compared with each other: it is the gain in gold of ratio 1's
responses from iteration 0 to the last. Rank and gain must not share a noisy sample, or regression to the mean alone
would correlate them negatively: one of a prompt's initial responses gives its reward, another one the gold that the
gain starts from. The plot correlates families, as the mixes were chosen by: on development seeds, of the variance of
single prompts' gains more than nine tenths was the noise of sampling. Over prompts it is in the data, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims.contrasts import outcome
from experiments.claims.rules import OUTCOMES
from experiments.compute.arms import Arm, arm, ranking_arms
from experiments.compute.raw_result import Raw
from experiments.figures.figure import Data, Evidence, Figure, caption, interval, preview, shown
from optune.sandbox.parts.mixes import MIXES

WORLDS = {"main": "", **{mix: mix for mix in MIXES}}
STRATEGIES = ("lowest_reward", "random", "lowest_gold", "lowest_centered", "all", "none")  # ranking_arms, in order
SAID = {
    "lowest_reward": "lowest reward",
    "lowest_gold": "lowest gold (oracle)",
    "lowest_centered": "lowest centred reward",
    "all": "all, ratio 1",
    "none": "none",
}
GRID = 41  # points of a fitted line


def probe_arm(mix: str) -> Arm:
    """The ratio-1 arm of a world, measured for its prompts' improvability."""
    return arm("wdpo", "all", mix=mix).probed("improvability")


ARMS = tuple(itertools.chain.from_iterable((*ranking_arms(mix), probe_arm(mix)) for mix in WORLDS.values()))


# --- what kind of world it is ----------------------------------------------------------------------------------------


def prompt_correlation(probe: dict[str, Any]) -> float:
    """Correlation of initial reward and gain over prompts; noise in both of a single prompt's shrinks it towards 0."""
    return _crossed(probe, _correlation)


def family_correlation(probe: dict[str, Any]) -> float:
    """Correlation of families' mean initial reward and mean gain: the noise of single responses averages out."""
    families = np.array(probe["families"])
    members = [families == name for name in sorted(set(probe["families"]))]

    def means(values: np.ndarray) -> list[float]:
        return [values[of_one].mean() for of_one in members]

    return _crossed(probe, lambda reward, gain: _correlation(means(reward), means(gain)))


def low_half_lead(probe: dict[str, Any]) -> float:
    """Mean gain of the half of the prompts with the lower initial reward minus that of the other half."""

    def lead(reward: np.ndarray, gain: np.ndarray) -> float:
        low, high = np.array_split(gain[np.argsort(reward, kind="stable")], 2)
        return low.mean() - high.mean()

    return _crossed(probe, lead)


def _crossed(probe: dict[str, Any], statistic: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """`statistic(initial reward, gain in gold)`, both (n_prompts,), the two from different initial responses.

    Mean over all ordered pairs of a prompt's initial responses.
    """
    first, last = probe["iterations"]
    reward, before, after = np.array(first["reward"]), np.array(first["gold"]), np.mean(last["gold"], axis=0)
    pairs = itertools.permutations(range(len(reward)), 2)
    return float(np.mean([statistic(reward[i], after - before[j]) for i, j in pairs]))


def _correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's; 0 where either does not vary."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


# --- the figure's data -----------------------------------------------------------------------------------------------


def collect(evidence: Evidence) -> Data:
    """Per world: outcome levels, contrasts against random, correlations; and the line through all worlds."""
    raw = evidence.raw
    main_random = raw[arm("wdpo", "random", 0.5).name]
    data: Data = {"prompts": main_random[0]["iterations"][0]["n"]}
    data["worlds"] = {name: _world(raw, mix) for name, mix in WORLDS.items()}
    x = np.array([world["families_correlation"]["per_seed"] for world in data["worlds"].values()])
    data["lines"] = {}
    for measure in OUTCOMES:
        contrasts = [world["over_random"]["lowest_reward"][measure]["per_seed"] for world in data["worlds"].values()]
        data["lines"][measure] = line(x, np.array(contrasts))
    return data


def _world(raw: Raw, mix: str) -> Data:
    named = {s: a.name for s, a in zip(STRATEGIES, ranking_arms(mix), strict=True)}
    levels, over_random = {}, {}
    for strategy, name in named.items():
        levels[strategy] = {measure: interval(outcome(raw, name, measure).tolist()) for measure in OUTCOMES}
        if strategy != "random":
            over_random[strategy] = {m: _by_seed(_contrast(raw, name, named["random"], m)) for m in OUTCOMES}
    probes = raw[probe_arm(mix).name]
    return {
        "families": sorted(set(probes[0]["families"])),
        "levels": levels,
        "over_random": over_random,
        "families_correlation": _by_seed([family_correlation(probe) for probe in probes]),
        "prompts_correlation": _by_seed([prompt_correlation(probe) for probe in probes]),
        "low_half_lead": _by_seed([low_half_lead(probe) for probe in probes]),
    }


def _contrast(raw: Raw, name: str, other: str, measure: str) -> np.ndarray:
    """One arm's outcome minus another's, seed by seed."""
    return outcome(raw, name, measure) - outcome(raw, other, measure)


def _by_seed(values: Sequence[float]) -> Data:
    """Mean and interval over seeds, and the values themselves."""
    values = [round(float(value), 6) for value in values]
    return {**interval(values), "per_seed": values}


def line(x: np.ndarray, y: np.ndarray) -> Data:
    """The straight line of y over x, both (n_worlds, n_seeds), with 95% t intervals over seeds.

    One least-squares line per seed, through its worlds, and then their mean: the worlds of one seed share its build, so
    a seed is one observation. `zero`: where the mean line crosses 0.
    """
    fits = np.array([np.polyfit(of_seed_x, of_seed_y, deg=1) for of_seed_x, of_seed_y in zip(x.T, y.T, strict=True)])
    slope, level = fits.T
    grid = np.linspace(x.min(), x.max(), GRID)
    # Rounded, since the last digits of a least-squares fit differ from one processor to another.
    band = [interval(np.round(slope * at + level, 9).tolist()) for at in grid]
    return {
        "slope": _by_seed(slope),
        "zero": round(float(-level.mean() / slope.mean()), 4) if slope.mean() else None,
        "x": grid.tolist(),
        **{name: [point[name] for point in band] for name in ("mean", "low", "high")},
    }


def lines(data: Data) -> list[str]:
    """Per world its correlation and each ranking's lead over random; then the two slopes."""
    said = []
    for name, world in data["worlds"].items():
        by_family, by_prompt = (shown(world[f"{unit}_correlation"], 2) for unit in ("families", "prompts"))
        said.append(f"  World {name}: initial reward and gold gained correlate {by_family} (prompts: {by_prompt})")
        said.append(f"    gain of the low half of the prompts - the high half: {shown(world['low_half_lead'], 2)}")
        at_random = world["levels"]["random"]
        said.append(f"    {'random 0.5':22s} win score {shown(at_random['win_score'])}, {_gold(at_random)}")
        for strategy, label in SAID.items():
            lead = world["over_random"][strategy]
            said.append(f"    {label:22s} - random: win score {shown(lead['win_score'])}, {_gold(lead)}")
    for measure, fitted in data["lines"].items():
        said.append(
            f"  Lead of lowest reward over random ({measure}) per unit of correlation: {shown(fitted['slope'], 2)}"
        )
    return said


def _gold(of_measures: Data) -> str:
    return f"gold {shown(of_measures['gold_mean'], 3)}"


# --- the picture -----------------------------------------------------------------------------------------------------

TITLES = {"win_score": "Win score", "gold_mean": "Gold quality, of 10"}


def draw(data: Data, path: Path) -> list[str]:
    """Lead of lowest reward over random against the correlation, seeds as dots, worlds as means with intervals."""
    import matplotlib.pyplot as plt

    from experiments.figures import style

    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.6))
    for axes, (measure, title) in zip(panels, TITLES.items(), strict=True):
        _fitted(axes, data["lines"][measure])
        worlds = zip(data["worlds"].items(), style.COLOURS["ratio"], style.MARKERS, strict=True)
        for (name, world), colour, marker in worlds:
            x, y = world["families_correlation"], world["over_random"]["lowest_reward"][measure]
            axes.plot(x["per_seed"], y["per_seed"], marker, color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
            look = {"color": colour, "markersize": 7, "markeredgecolor": "black", "capsize": 2, "elinewidth": 1.3}
            reach = {"xerr": style.reach([x]), "yerr": style.reach([y])}
            axes.errorbar(x["mean"], y["mean"], fmt=marker, label=f"world: {name}", zorder=4, **look, **reach)
        axes.axhline(0, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
        axes.set_title(title)
        style.grid(axes)
    panels[0].set_ylabel("Lead of lowest reward over random")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=4, loc="upper center", frameon=False, fontsize=8)
    figure.supxlabel("Correlation over families of initial reward with gain in gold at ratio 1", fontsize=9, y=0.06)
    figure.subplots_adjust(top=0.83, bottom=0.195, left=0.1, right=0.99, wspace=0.18)
    what = "large: means, 95% t intervals; small: seeds; grey: the seeds' mean line"
    style.stamp(figure, caption(data, what), preview(data))
    return style.save(figure, path)


def _fitted(axes: Any, fitted: Data) -> None:
    from experiments.figures import style

    colour = style.COLOURS["none"]
    axes.plot(fitted["x"], fitted["mean"], color=colour, linewidth=1.2)
    if fitted["low"][0] is not None:
        axes.fill_between(fitted["x"], fitted["low"], fitted["high"], color=colour, alpha=0.2, linewidth=0)


FIGURE = Figure("When selecting by low reward pays", ARMS, collect, draw, lines)
