"""Every figure and table by its name, and the commands over all of them.

    python -m experiments.figures fig3 [--seeds 0 1 2]     one figure or table
    python -m experiments.figures paper [--seeds 0 1 2]    all of the paper's: their arms once, then every picture
    python -m experiments.figures plots                    every picture again from committed results, nothing computed

Each name is a `Figure` (see `figure.py`) in the script that is called after what it shows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.arms import PREVIEW_SEEDS
from experiments.compute import RESULTS, compute
from experiments.figure import Figure, main, make
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.registry import resolve

PAPER = {
    "fig1": "experiments.fig1_pipeline:FIGURE",
    "fig2": "experiments.fig2_gain_by_reward_half:FIGURE",
    "fig3": "experiments.fig3_win_score_by_ratio:FIGURE",
    "fig4": "experiments.fig4_win_score_by_ratio_dpo:FIGURE",
    "fig5": "experiments.fig5_score_against_time:FIGURE",
    "fig6": "experiments.fig6_losses_over_iterations:FIGURE",
    "fig7": "experiments.fig7_human_study_page:FIGURE",
    "table1": "experiments.table1_time_shares:FIGURE",
    "table2": "experiments.table2_alpaca_eval:FIGURE",
    "table3": "experiments.table3_benchmarks:FIGURE",
    "table4": "experiments.table4_human_study:FIGURE",
    "table5": "experiments.table5_benchmark_settings:FIGURE",
    "table6": "experiments.table6_rating_prompt:FIGURE",
}
OURS = {
    "worlds": "experiments.when_selection_pays:FIGURE",
    "beyond_paper": "experiments.beyond_paper:FIGURE",
}
NEIGHBOURS = {
    "rw-table1": "experiments.rw_table1_preference_models:FIGURE",
    "rw-table4": "experiments.rw_table4_length_penalty:FIGURE",
    "rw-fig3": "experiments.rw_fig3_reward_and_length:FIGURE",
    "aop-table1": "experiments.aop_table1_reward_models:FIGURE",
    "aop-table2": "experiments.aop_table2_against_sop:FIGURE",
    "aop-table3": "experiments.aop_table3_against_vanilla:FIGURE",
    "aop-table4": "experiments.aop_table4_human_votes:FIGURE",
    "compare-recipes": "experiments.compare_recipes:FIGURE",
}
FIGURES = {**PAPER, **OURS, **NEIGHBOURS}


def figure_of(name: str) -> Figure:
    """The figure or table called `name`; raises UserError naming the known ones."""
    return resolve(FIGURES, name, "figure or table")


def everything(names: Sequence[str], preset: str, seeds: Sequence[int]) -> None:
    """Compute the arms of several figures, each once, then make every one of them."""
    figures = [figure_of(name) for name in names]
    arms = {arm.name: arm for figure in figures for arm in figure.arms}
    compute(preset, tuple(arms.values()), seeds)
    for figure in figures:
        print(f"{figure.name}: {figure.title}")
        make(figure, preset, seeds, draw_only=True)


def plots(preset: str) -> None:
    """Draw what committed results suffice for; say what they don't."""
    for name in FIGURES:
        figure = figure_of(name)
        missing = [a.name for a in figure.arms if not (RESULTS / preset / "raw" / a.name).is_dir()]
        if missing:
            print(f"{name}: no results of {', '.join(missing)} in results/{preset}/raw; run `make {name}`.")
        else:
            figure.update(preset)


def command(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    name, rest = (words[0], words[1:]) if words else ("", [])
    if name in ("paper", "beyond", "plots"):
        parser = argparse.ArgumentParser(prog=f"experiments.figures {name}")
        parser.add_argument("--preset", default="tiny")
        parser.add_argument("--seeds", type=int, nargs="+", default=list(PREVIEW_SEEDS))
        options = parser.parse_args(rest)
        if name == "plots":
            return exit_status(lambda: plots(options.preset))
        return exit_status(lambda: everything(PAPER if name == "paper" else OURS, options.preset, options.seeds))
    if name not in FIGURES:
        return exit_status(lambda: _unknown(name))
    return main(figure_of(name), rest)


def _unknown(name: str) -> None:
    raise UserError(f"Name a figure or table: {', '.join(FIGURES)}; or paper, beyond, plots (given: {name!r}).")


if __name__ == "__main__":
    sys.exit(command())
