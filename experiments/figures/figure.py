"""What every figure and table is, and the one way from arms to a picture: compute, collect, write, draw, tell.

A script defines a `Figure` and ends with `sys.exit(main(FIGURE))`. `collect` turns raw results into the data file
`results/<preset>/<name>.json`; `draw` and `lines` read that data and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.stats import t_interval
from experiments.compute.arms import PREVIEW_SEEDS, REPORT_SEEDS, Arm, few
from experiments.compute.last_digits import write_if_new
from experiments.compute.results import ROOT
from experiments.compute.run_arms import RESULTS, base_of, compute
from optune.types import UserError
from optune.utils.command import exit_status

Data = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure or table of the paper or of ours.

    collect: `f(base, preset, seeds) -> data`. draw: `f(data, path without suffix) -> files`, None for tables. lines:
    what is printed, from the same data.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    collect: Callable[[Path, str, Sequence[int]], Data]
    draw: Callable[[Data, Path], list[str]] | None
    lines: Callable[[Data], list[str]]

    def update(self, preset: str, base: Path = RESULTS, seeds: Sequence[int] = REPORT_SEEDS) -> Data:
        """Collect from committed results, write the data file and draw; from another base, all beside it."""
        data = self.collect(base, preset, seeds)
        write_if_new(base / preset / f"{self.name}.json", data)
        picture = (ROOT / "figures" if base == RESULTS else base) / preset / self.name
        for file in self.draw(data, picture) if self.draw else ():
            print(f"Wrote {Path(file).relative_to(ROOT)}")
        return data


def main(figure: Figure, arguments: list[str] | None = None) -> int:
    """The command line of every figure: compute what is missing, compare with the committed results, draw."""
    parser = argparse.ArgumentParser(description=figure.title)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(PREVIEW_SEEDS))
    parser.add_argument("--draw-only", action="store_true", help="redraw from committed results")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="a trial: kept apart from the results")
    options = parser.parse_args(arguments)
    return exit_status(lambda: make(figure, options.preset, options.seeds, options.overrides, options.draw_only))


def make(
    figure: Figure, preset: str, seeds: Sequence[int], overrides: Sequence[str] = (), draw_only: bool = False
) -> None:
    """The figure of the committed results; of a trial, or of a machine whose values differ, that one's own as well."""
    if not set(seeds) <= set(REPORT_SEEDS) and not draw_only:
        raise UserError(f"Arms are compared on the report seeds {REPORT_SEEDS[0]} to {REPORT_SEEDS[-1]} alone.")
    outcome = {} if draw_only or not figure.arms else compute(preset, figure.arms, seeds, overrides)
    if overrides:
        print("\n".join(figure.lines(figure.update(preset, base_of(preset, overrides), seeds))))
        return
    if any(state.startswith(("consistent", "differs")) for state in outcome.values()):
        print("This machine's values are not the committed ones bit for bit (see above). From this machine's values:")
        print("\n".join(figure.lines(figure.update(preset, base_of(preset), seeds))))
        print("From the committed ones:")
    print("\n".join(figure.lines(figure.update(preset))))


def provenance(name: str, preset: str, raw: dict[str, list[dict[str, Any]]]) -> Data:
    """What every data file says of itself: figure, preset, seeds, builds, world and the command that makes it."""
    results = next(iter(raw.values()))
    return {
        "figure": name,
        "preset": preset,
        "seeds": [result["seed"] for result in results],
        "builds": sorted({result["build"] for result in results if result["build"] is not None}),
        "sandbox": results[0]["sandbox"],
        "command": f"make {name} PRESET={preset}",
    }


def caption(data: Data, what: str) -> str:
    """The line below a picture."""
    world = f", sandbox {data['sandbox']['version']} {data['sandbox']['hash'][:8]}" if data["sandbox"] else ""
    seeds, builds = (_ranges(data[name]) for name in ("seeds", "builds"))
    return f"preset {data['preset']}, {what}, seeds {seeds}, builds {builds}{world}; {data['command']}"


def _ranges(numbers: Sequence[int]) -> str:
    """`0-4 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def preview(data: Data) -> bool:
    """Whether there are too few seeds or builds for a verdict."""
    return few(len(data["seeds"]), set(data["builds"]))


def interval(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Mean and 95% t interval over seeds; limits are null with one seed, all of it where a value is missing."""
    if None in values:
        return None
    if len(values) == 1:
        return {"mean": float(values[0]), "low": None, "high": None}
    found = t_interval(values)
    return {"mean": found.estimate, "low": found.low, "high": found.high}


def over_seeds(results: Sequence[dict[str, Any]], iteration: int, measure: str) -> dict[str, float | None] | None:
    """`interval` of one measure at one iteration."""
    return interval([result["iterations"][iteration].get(measure) for result in results])


def told(found: dict[str, float | None] | None, digits: int = 1) -> str:
    """`64.8 [60.1, 69.5]`."""
    if found is None:
        return "-"
    limits = "" if found["low"] is None else f" [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    return f"{found['mean']:.{digits}f}{limits}"
