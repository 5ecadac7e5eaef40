"""Every figure and table by its name, and the commands over all of them.

python -m experiments.figures fig3 [--seeds 0 1 2]     one figure or table
python -m experiments.figures paper [--seeds 0 1 2]    all of the paper's: their arms once, then every picture
python -m experiments.figures plots                    every picture again from committed results, nothing computed
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.compute.arms import PREVIEW_SEEDS, run_at
from experiments.compute.results import RESULTS
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from experiments.figures.figure import main, make
from experiments.figures.registry import FIGURES, OURS, PAPER, figure_of, names_at
from optune.types import UserError
from optune.utils.command import exit_status


def everything(names: Sequence[str], setting: Setting, seeds: Sequence[int]) -> None:
    """Compute the arms of several figures, each once, then make every one of them."""
    figures = [figure_of(name) for name in names_at(setting.preset, names)]
    arms = {arm.name: arm for figure in figures for arm in run_at(setting.preset, figure.arms)}
    compute(setting, tuple(arms.values()), seeds)
    for figure in figures:
        print(f"{figure.name}: {figure.title}")
        make(figure, setting, seeds, draw_only=True)


def plots(setting: Setting) -> None:
    """Draw what committed results suffice for; say what they don't."""
    preset = setting.preset
    for name in names_at(preset):
        figure = figure_of(name)
        arms = run_at(preset, figure.arms)
        missing = [a.name for a in arms if not (RESULTS / preset / "raw" / a.name).is_dir()]
        if missing:
            command = f"make {name} PRESET={preset}"
            print(f"{name}: no results of {', '.join(missing)} in results/{preset}/raw; run `{command}`.")
        elif arms or not figure.arms:
            figure.update(setting)


def command(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    name, rest = (words[0], words[1:]) if words else ("", [])
    if name in ("paper", "beyond", "plots"):
        parser = argparse.ArgumentParser(prog=f"experiments.figures {name}")
        parser.add_argument("--preset", default="tiny")
        parser.add_argument("--seeds", type=int, nargs="+", default=list(PREVIEW_SEEDS))
        options = parser.parse_args(rest)
        setting = Setting(options.preset)
        if name == "plots":
            return exit_status(lambda: plots(setting))
        return exit_status(lambda: everything(PAPER if name == "paper" else OURS, setting, options.seeds))
    if name not in FIGURES:
        return exit_status(lambda: _unknown(name))
    return main(figure_of(name), rest)


def _unknown(name: str) -> None:
    raise UserError(f"Name a figure or table: {', '.join(FIGURES)}; or paper, beyond, plots (given: {name!r}).")


if __name__ == "__main__":
    sys.exit(command())
