"""Every figure and table by its name. Each is a `Figure` (see `figure.py`) in the script named after what it shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from experiments.figures.figure import Figure
from optune.utils.registry import resolve

PAPER = {
    "fig1": "experiments.paper.fig1_pipeline:FIGURE",
    "fig2": "experiments.paper.fig2_gain_by_reward_half:FIGURE",
    "fig3": "experiments.paper.fig3_win_score_by_ratio:FIGURE",
    "fig4": "experiments.paper.fig4_win_score_by_ratio_dpo:FIGURE",
    "fig5": "experiments.paper.fig5_score_against_time:FIGURE",
    "fig6": "experiments.paper.fig6_losses_over_iterations:FIGURE",
    "fig7": "experiments.paper.fig7_human_study_page:FIGURE",
    "table1": "experiments.paper.table1_time_shares:FIGURE",
    "table2": "experiments.paper.table2_alpaca_eval:FIGURE",
    "table3": "experiments.paper.table3_benchmarks:FIGURE",
    "table4": "experiments.paper.table4_human_study:FIGURE",
    "table5": "experiments.paper.table5_benchmark_settings:FIGURE",
    "table6": "experiments.paper.table6_rating_prompt:FIGURE",
}
OURS = {
    "worlds": "experiments.beyond.when_selection_pays:FIGURE",
    "beyond_paper": "experiments.beyond.beyond_paper:FIGURE",
}
SENSITIVITY = {
    "beta-1": "experiments.sensitivity.beta_1:FIGURE",
    "beta-2": "experiments.sensitivity.beta_2:FIGURE",
    "small-ratios": "experiments.sensitivity.small_ratios:FIGURE",
    "rankings": "experiments.sensitivity.rankings:FIGURE",
    "staleness": "experiments.sensitivity.staleness:FIGURE",
    "responses": "experiments.sensitivity.responses:FIGURE",
    "reward-quality": "experiments.sensitivity.reward_quality:FIGURE",
    "kept-pairs": "experiments.sensitivity.kept_pairs:FIGURE",
    "literature": "experiments.sensitivity.literature:FIGURE",
}
NEIGHBOURS = {
    "rw-table1": "experiments.rlhf_workflow.table1_preference_models:FIGURE",
    "rw-table4": "experiments.rlhf_workflow.table4_length_penalty:FIGURE",
    "rw-fig3": "experiments.rlhf_workflow.fig3_reward_and_length:FIGURE",
    "rw-fig8": "experiments.rlhf_workflow.fig8_score_by_iteration:FIGURE",
    "aop-table1": "experiments.always_on_policy.table1_reward_models:FIGURE",
    "aop-table2": "experiments.always_on_policy.table2_against_sop:FIGURE",
    "aop-table3": "experiments.always_on_policy.table3_against_vanilla:FIGURE",
    "aop-table4": "experiments.always_on_policy.table4_human_votes:FIGURE",
    "aop-rl": "experiments.always_on_policy.rl_by_iteration:FIGURE",
    "compare-recipes": "experiments.beyond.compare_recipes:FIGURE",
}
FIGURES = {**PAPER, **OURS, **SENSITIVITY, **NEIGHBOURS}
REAL_MODEL = ("fig2", "fig3", "fig4", "fig5", "fig6", "table1", "table2", "table3")  # what is run with preset smollm2


def figure_of(name: str) -> Figure:
    """The figure or table called `name`; raises UserError naming the known ones."""
    return replace(resolve(FIGURES, name, "figure or table"), name=name)


def names_at(preset: str, names: Iterable[str] = FIGURES) -> list[str]:
    """Those of `names` that a preset has: all, but for the real model's."""
    return [name for name in names if preset != "smollm2" or name in REAL_MODEL]
