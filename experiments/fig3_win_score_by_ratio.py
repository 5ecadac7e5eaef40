"""Figure 3: win score against the offline baseline by selection ratio, strategy and iteration; wDPO.

The paper: at equal ratio the lowest-reward selection beats random selection (striped), and ratios 0.5 and 0.7 are on a
par with 1.0. Deviations: 95% intervals over seeds where the paper has none, and a static control (`none`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.stats import t_interval
from experiments.arms import PREVIEW_SEEDS, RATIOS, REPORT_SEEDS, arm, ratio_arms
from experiments.compute import RESULTS, base_of, compute
from experiments.results import ROOT, read_raw
from experiments.verdicts import few
from optune.artefacts import write_json
from optune.command import exit_status
from optune.types import UserError

NAME = "fig3"
ARMS = ratio_arms("wdpo")


def collect(base: Path, preset: str, seeds: Sequence[int] = REPORT_SEEDS) -> dict[str, Any]:
    """Mean win score and 95% t interval over seeds, per arm and iteration, from raw results; plus gold where known."""
    raw = read_raw(base, preset, ARMS, seeds)
    any_arm = next(iter(raw.values()))
    data: dict[str, Any] = {
        "figure": NAME,
        "preset": preset,
        "seeds": [result["seed"] for result in any_arm],
        "builds": sorted({result["build"] for result in any_arm if result["build"] is not None}),
        "sandbox": any_arm[0]["sandbox"],
        "prompts": any_arm[0]["iterations"][0]["n"],
        "command": f"make {NAME} PRESET={preset}",
        "arms": {},
    }
    for name, results in raw.items():
        data["arms"][name] = [
            {"iteration": t, **{measure: over_seeds(results, t, measure) for measure in ("win_score", "gold_mean")}}
            for t in range(len(results[0]["iterations"]))
        ]
    return data


def over_seeds(results: list[dict[str, Any]], iteration: int, measure: str) -> dict[str, float] | None:
    """Mean and 95% t interval over seeds; limits are null with one seed."""
    values = [result["iterations"][iteration].get(measure) for result in results]
    if None in values:
        return None
    if len(values) == 1:
        return {"mean": values[0], "low": None, "high": None}
    interval = t_interval(values)
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}


def draw(data: dict[str, Any], path: Path) -> list[str]:
    """Bars in groups of iterations, as in the paper: random striped, ratio in colour, intervals over seeds."""
    import matplotlib.pyplot as plt

    from experiments import style

    bars = [(arm("wdpo", "none").name, "static (none)", style.COLOURS["none"], "")]
    for ratio, colour in zip(RATIOS, style.COLOURS["ratio"], strict=False):
        bars.append((arm("wdpo", "random", ratio).name, f"random {ratio}", colour, "////"))
        bars.append((arm("wdpo", "lowest_reward", ratio).name, f"OPTune {ratio}", colour, ""))
    bars.append((arm("wdpo", "all").name, "full 1.0", style.COLOURS["ratio"][3], ""))

    iterations = range(1, len(data["arms"][bars[0][0]]))  # the shared iteration 0 is no bar
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    width = 0.85 / len(bars)
    for place, (name, label, colour, hatch) in enumerate(bars):
        points = [data["arms"][name][t]["win_score"] for t in iterations]
        x = [t + (place - (len(bars) - 1) / 2) * width for t in iterations]
        face = {"facecolor": "white", "edgecolor": colour, "hatch": hatch} if hatch else {"color": colour}
        axes.bar(x, [p["mean"] for p in points], width * 0.9, label=label, linewidth=0.8, **face)
        if points[0]["low"] is not None:
            errors = [[p["mean"] - p["low"] for p in points], [p["high"] - p["mean"] for p in points]]
            axes.errorbar(
                x, [p["mean"] for p in points], errors, fmt="none", ecolor="black", elinewidth=0.7, capsize=1.5
            )
    axes.axhline(50, color=style.COLOURS["line"], linewidth=0.7, linestyle=":")
    axes.text(1.5, 50, "baseline", fontsize=6, va="bottom", ha="center")  # between two groups of bars
    low, high = _limits(data)
    axes.set_ylim(low, high)
    axes.set_xlim(0.5, len(iterations) + 0.5)
    axes.set_xticks(iterations, [f"Iteration {t}" for t in iterations])
    axes.set_ylabel("Win score against the offline baseline")
    style.grid(axes)
    figure.legend(*axes.get_legend_handles_labels(), ncols=4, loc="upper center", frameon=False, fontsize=7.5)
    figure.subplots_adjust(top=0.83, bottom=0.15, left=0.09, right=0.99)
    style.stamp(figure, provenance(data), preview(data))
    return style.save(figure, path)


def provenance(data: dict[str, Any]) -> str:
    """The line below the picture."""
    world = f", sandbox {data['sandbox']['version']} {data['sandbox']['hash'][:8]}" if data["sandbox"] else ""
    seeds, builds = (" ".join(map(str, data[name])) for name in ("seeds", "builds"))
    return (
        f"preset {data['preset']}, wDPO, seeds {seeds}, builds {builds}, {data['prompts']} prompts in both orders"
        f"{world}; bars: mean, 95% t interval over seeds; {data['command']}"
    )


def preview(data: dict[str, Any]) -> bool:
    """Whether there are too few seeds or builds for a verdict."""
    return few(len(data["seeds"]), set(data["builds"]))


def _limits(data: dict[str, Any]) -> tuple[float, float]:
    points = [point["win_score"] for by_iteration in data["arms"].values() for point in by_iteration[1:]]
    lows = [p["low"] if p["low"] is not None else p["mean"] for p in points]
    highs = [p["high"] if p["high"] is not None else p["mean"] for p in points]
    span = max(highs) - min(lows) or 1
    return min(min(lows), 50) - 0.1 * span, max(max(highs), 50) + 0.1 * span


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(PREVIEW_SEEDS))
    parser.add_argument("--draw-only", action="store_true", help="redraw from committed results")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="a trial: kept apart from the results")
    options = parser.parse_args(arguments)
    return exit_status(lambda: figure(options.preset, options.seeds, options.overrides, options.draw_only))


def figure(preset: str, seeds: list[int], overrides: list[str], draw_only: bool) -> None:
    """Compute what is missing, compare it with the committed results, and draw."""
    if not set(seeds) <= set(REPORT_SEEDS) and not draw_only:
        raise UserError(f"Arms are compared on the report seeds {REPORT_SEEDS[0]} to {REPORT_SEEDS[-1]} alone.")
    outcome = {} if draw_only else compute(preset, ARMS, seeds, overrides)
    if overrides:
        trial = base_of(preset, overrides)
        shown(collect(trial, preset, seeds), trial / preset / NAME)
        return
    if any(state.startswith("differs") for state in outcome.values()):
        print("This machine's values are not the committed ones (see above). The figure from this machine's values:")
        shown(collect(base_of(preset), preset, seeds), base_of(preset) / preset / NAME)
    data = collect(RESULTS, preset)
    write_json(RESULTS / preset / f"{NAME}.json", data)
    shown(data, ROOT / "figures" / preset / NAME)


def shown(data: dict[str, Any], path: Path) -> None:
    """Draw, and print where the picture lies and what it shows."""
    for name, points in data["arms"].items():
        last = points[-1]["win_score"]
        spread = f" [{last['low']:.1f}, {last['high']:.1f}]" if last["low"] is not None else ""
        print(f"  {name:28s} iteration {points[-1]['iteration']}: {last['mean']:.1f}{spread}")
    for file in draw(data, path):
        print(f"Wrote {Path(file).relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
