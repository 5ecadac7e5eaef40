"""The class of every figure and table, and its way from arms to a picture: compute, collect, write, draw, print.

A script defines a `Figure`; its name stands in `registry.py` alone. `collect` turns raw results into the data file
`results/<preset>/<name>.json`; `draw` and `lines` read that data and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.stats import t_interval
from experiments.compute.arms import PREVIEW_SEEDS, REPORT_SEEDS, RUN_AT, Arm, few, run_at
from experiments.compute.last_digits import write_if_new
from experiments.compute.raw_result import Raw, RawResult
from experiments.compute.results import RESULTS, ROOT, read_by_seeds
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from optune.types import UserError
from optune.utils.command import exit_status

Data = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """The input of `collect`: raw results by arm, in order of seeds, and the folder of the preset's results."""

    raw: Raw
    setting: Setting
    folder: Path  # results/<preset>, or this machine's own


@dataclass(frozen=True)
class Figure:
    """One figure or table of the paper or of ours.

    collect: what is shown, from the arms' results. draw: `f(data, path without suffix) -> files`, None for tables.
    lines: what is printed, from the same data. one_seed: shown of the first seed alone. name: given by the registry.
    """

    title: str
    arms: tuple[Arm, ...]
    collect: Callable[[Evidence], Data]
    draw: Callable[[Data, Path], list[str]] | None
    lines: Callable[[Data], list[str]]
    one_seed: bool = False
    name: str = ""

    def data(self, setting: Setting, base: Path = RESULTS, seeds: Sequence[int] = REPORT_SEEDS) -> Data:
        """What the data file holds: its provenance, and what `collect` makes of the raw results below `base`."""
        raw = read_by_seeds(base, setting.preset, run_at(setting.preset, self.arms), seeds)
        if self.one_seed:
            raw = {arm: results[:1] for arm, results in raw.items()}
        collected = self.collect(Evidence(raw, setting, base / setting.preset))
        return {**provenance(self.name, setting.preset, raw), **collected}

    def update(self, setting: Setting, base: Path = RESULTS, seeds: Sequence[int] = REPORT_SEEDS) -> Data:
        """Collect from committed results, write the data file and draw; from another base, all beside it."""
        data = self.data(setting, base, seeds)
        write_if_new(base / setting.preset / f"{self.name}.json", data)
        picture = (ROOT / "figures" if base == RESULTS else base) / setting.preset / self.name
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
    setting = Setting(options.preset, tuple(options.overrides))
    return exit_status(lambda: make(figure, setting, options.seeds, options.draw_only))


def make(figure: Figure, setting: Setting, seeds: Sequence[int], draw_only: bool = False) -> None:
    """Make the figure of the committed results. A trial, or a machine with other values, gets its own figure, too."""
    if not set(seeds) <= set(REPORT_SEEDS) and not draw_only:
        raise UserError(f"Arms are compared on the report seeds {REPORT_SEEDS[0]} to {REPORT_SEEDS[-1]} alone.")
    arms = run_at(setting.preset, figure.arms)
    if figure.arms and not arms:
        raise UserError(f"{figure.name} has no arm that is run at preset {setting.preset!r}; see RUN_AT in arms.py.")
    outcome = {} if draw_only or not arms else compute(setting, arms, seeds)
    if setting.overrides:
        print("\n".join(figure.lines(figure.update(setting, setting.base, seeds))))
        return
    if any(state.startswith(("consistent", "differs")) for state in outcome.values()):
        print("This machine's values are not the committed ones bit for bit (see above). From this machine's values:")
        print("\n".join(figure.lines(figure.update(setting, setting.base, seeds))))
        print("From the committed ones:")
    print("\n".join(figure.lines(figure.update(setting))))


def provenance(name: str, preset: str, raw: Raw) -> Data:
    """The provenance in every data file: figure, preset, seeds, builds, world and the command that makes it."""
    told: Data = {"figure": name, "preset": preset}
    if raw:
        results = next(iter(raw.values()))
        told["seeds"] = [result["seed"] for result in results]
        told["builds"] = sorted({result["build"] for result in results if result["build"] is not None})
        told["sandbox"] = results[0]["sandbox"]
        fewer = {}
        for arm, others in raw.items():
            own = [result["seed"] for result in others]
            if own and len(own) < len(told["seeds"]) and preset in RUN_AT:
                fewer[arm] = own
        told |= {"fewer_seeds": fewer} if fewer else {}
    return told | {"command": f"make {name} PRESET={preset}"}


def caption(data: Data, what: str) -> str:
    """The line below a picture."""
    world = f", sandbox {data['sandbox']['version']} {data['sandbox']['hash'][:8]}" if data["sandbox"] else ""
    seeds, builds = (_ranges(data[name]) for name in ("seeds", "builds"))
    seeds += "".join(f" ({arm}: {_ranges(own)})" for arm, own in data.get("fewer_seeds", {}).items())
    seeds += " (one, so no interval)" if len(data["seeds"]) == 1 else ""
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
    return few(len(data["seeds"]), set(data["builds"]), data["preset"])


def interval(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Mean and 95% t interval over seeds; limits are null with one seed, all of it where a value is missing."""
    if None in values:
        return None
    if len(values) == 1:
        return {"mean": float(values[0]), "low": None, "high": None}
    limits = t_interval(values)
    return {"mean": limits.estimate, "low": limits.low, "high": limits.high}


def over_seeds(results: Sequence[RawResult], iteration: int, measure: str) -> dict[str, float | None] | None:
    """`interval` of one measure at one iteration."""
    return interval([result["iterations"][iteration].get(measure) for result in results])


def at_iteration(results: Sequence[RawResult], iteration: int, measures: Sequence[str]) -> Data:
    """`over_seeds` of each measure at one iteration."""
    return {measure: over_seeds(results, iteration, measure) for measure in measures}


def shown(estimate: dict[str, float | None] | None, digits: int = 1) -> str:
    """`64.8 [60.1, 69.5]`."""
    if estimate is None:
        return "-"
    limits = "" if estimate["low"] is None else f" [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
    return f"{estimate['mean']:.{digits}f}{limits}"


def signed(estimate: dict[str, float | None] | None, digits: int) -> str:
    """`+1.2 [-0.3, +2.7]`."""
    if estimate is None:
        return "-"
    limits = "" if estimate["low"] is None else f" [{estimate['low']:+.{digits}f}, {estimate['high']:+.{digits}f}]"
    return f"{estimate['mean']:+.{digits}f}{limits}"
