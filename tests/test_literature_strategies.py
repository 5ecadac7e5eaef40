"""GRESO and adaptive rollout: what they promise whatever the rewards, and more responses of one prompt in a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optune.config import RunConfig
from optune.finished.audit import audit_run
from optune.history import History, HistoryView, write_responses
from optune.loop.algorithm import run_optune
from optune.selection.literature import EXPLORATION_AT_FIRST, TARGETS, exploration, greso
from optune.selection.strategies import select_prompts, selection_count
from optune.types import Response
from optune.utils.files import read_json

REWARDS = st.floats(-5, 5, allow_subnormal=False)
PAIRS = st.lists(st.tuples(REWARDS, REWARDS), min_size=1, max_size=20)


def view_of(*iterations: list[tuple[float, ...]], seed: int = 0) -> HistoryView:
    """The view of a real history: of each iteration the rewards of each prompt's responses, () where it has none."""
    with TemporaryDirectory() as folder:
        history = History()
        for t, by_prompt in enumerate(iterations):
            rows = []
            for i, rewards in enumerate(by_prompt):
                rows += [Response(f"p{i}", k, t, (1,), "a", "stop", 0.0, reward) for k, reward in enumerate(rewards)]
            history = history.append(Path(folder) / f"{t}.parquet")
            write_responses(history.files[-1], rows)
        history.numbers  # noqa: B018 (read while the files are there, and kept)
        return history.view([f"p{i}" for i in range(len(iterations[0]))], len(iterations), seed)


@settings(max_examples=25)
@given(PAIRS, st.integers(1, 100), st.integers(0, 9), st.sampled_from(["greso", "adaptive_rollout"]))
def test_the_budget_is_never_exceeded_and_the_seed_decides(first, percent, seed, strategy):
    chosen, again = (select_prompts(view_of(first, seed=seed), percent / 100, strategy) for _ in range(2))
    assert chosen == again
    assert len(chosen) <= selection_count(percent / 100, len(first))
    assert strategy == "adaptive_rollout" or len(chosen) == selection_count(percent / 100, len(first))


@settings(max_examples=40)
@given(PAIRS, st.integers(1, 100))
def test_solved_prompts_get_no_responses_and_hard_ones_twice_as_many(first, percent):
    chosen = select_prompts(view_of(first), percent / 100, "adaptive_rollout")
    times, bar = Counter(chosen), np.mean([np.mean(rewards) for rewards in first])
    for place, rewards in enumerate(first):
        good = sum(reward > bar for reward in rewards)
        assert times[f"p{place}"] <= {0: 2, 1: 1, 2: 0}[good]
    if len(chosen) < selection_count(percent / 100, len(first)):  # budget was left: every prompt has had its share
        assert all(times[f"p{i}"] == {0: 2, 1: 1, 2: 0}[sum(r > bar for r in rs)] for i, rs in enumerate(first))


def test_rewards_of_0_and_1_mean_solved_and_unsolved():
    view = view_of([(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (1.0, 1.0)])
    assert Counter(select_prompts(view, 1, "adaptive_rollout")) == {"p1": 2, "p2": 1}


def test_what_counts_as_good_does_not_move_with_the_policy():
    better = [(5.0, 6.0), (4.0, 5.0)]
    assert select_prompts(view_of([(0.0, 1.0), (0.0, 1.0)], better), 1, "adaptive_rollout") == []


def skipped(view: HistoryView, rounds: int = 150) -> np.ndarray:
    """(prompts,) the share of draws in which the half that GRESO chooses leaves each prompt out."""
    left_out = Counter()
    for seed in range(rounds):
        left_out.update(set(view.prompt_ids) - set(greso(view, len(view) // 2, np.random.default_rng(seed))))
    return np.array([left_out[i] / rounds for i in view.prompt_ids])


def test_the_longer_a_prompt_had_no_spread_the_likelier_it_is_skipped_but_never_surely():
    varied = [(float(i), float(i) + 2) for i in range(-4, 4)]
    always, once, recovered = (-1.0, -1.0), (-1.0, -1.0), (-1.0, -1.0)
    first = [*varied, always, (-1.0, 1.0), recovered]
    second = [*varied, always, once, (-1.0, 1.0)]
    share = skipped(view_of(first, second))
    assert share[10] < share[9] < share[8] < 1
    assert abs(share[10] - share[:8].mean()) < 0.15  # spread once more, and it is like any other


@given(st.lists(st.floats(0, 1), max_size=200), st.sampled_from(sorted(TARGETS)))
def test_exploration_follows_its_target_and_stays_above_0(shares, kind):
    target = TARGETS[kind]
    p = exploration(shares, target)
    assert 0 < p <= 1
    assert exploration([], target) == EXPLORATION_AT_FIRST
    assert exploration([*shares, 1.0], target) <= p <= exploration([*shares, 0.0], target)


def test_easy_and_hard_prompts_are_explored_apart():
    """No easy prompt without spread, many hard ones: only hard ones are tried less."""
    assert exploration([0.0] * 3, TARGETS["easy"]) > EXPLORATION_AT_FIRST > exploration([0.5] * 3, TARGETS["hard"])


@pytest.fixture(scope="module")
def adaptive(config: RunConfig, tmp_path_factory):
    """A finished run in which some prompts got twice the responses."""
    run_dir = tmp_path_factory.mktemp("adaptive")
    config = config.with_overrides({"selection.strategy": "adaptive_rollout", "selection.ratio": 0.75})
    return config, run_dir, run_optune(config, run_dir)


def test_a_prompt_selected_twice_gets_twice_the_responses_and_makes_one_pair(adaptive):
    config, _, result = adaptive
    stages = {(e["iteration"], e["stage"]): e for e in result.stages}
    times = Counter(read_json(Path(stages[1, "select"]["path"]) / "selected.json"))
    assert set(times.values()) == {1, 2}
    rows = pq.read_table(Path(stages[1, "score"]["path"]) / "history.parquet").to_pandas()
    assert rows.groupby("prompt_id").size().to_dict() == {i: config.generation.n * m for i, m in times.items()}
    assert stages[1, "generate"]["counts"]["prompts"] == stages[1, "select"]["counts"]["selected"] == len(times)
    assert stages[1, "select"]["counts"]["turns"] == times.total() and "turns" not in stages[0, "select"]["counts"]
    pairs = pq.read_table(Path(stages[1, "pairs"]["path"]) / "pairs.parquet").to_pandas()
    assert pairs["prompt_id"].is_unique
    fresh = pairs[pairs["chosen_iteration"] == 1].set_index("prompt_id")
    assert (fresh["score_chosen"] == rows.groupby("prompt_id")["reward"].max()[fresh.index]).all()
    order = [p for p in pq.read_table(Path(stages[0, "prompts"]["path"]) / "prompts.parquet")["prompt_id"].to_pylist()]
    assert list(dict.fromkeys(rows["prompt_id"])) == [i for i in order if i in times]


def test_the_first_responses_are_those_that_a_single_turn_would_give(adaptive, tmp_path):
    """A response's random stream depends on its identity alone, not on how many others its prompt gets."""
    config, _, result = adaptive
    stages = {(e["iteration"], e["stage"]): Path(e["path"]) for e in result.stages}
    plain = run_optune(config.with_overrides({"selection": {"strategy": "all", "ratio": 1.0}}), tmp_path)
    other = {(e["iteration"], e["stage"]): Path(e["path"]) for e in plain.stages}
    key = ["prompt_id", "index"]
    mine, theirs = (
        pq.read_table(paths[1, "generate"] / "responses.parquet", columns=[*key, "token_ids"]).to_pandas()
        for paths in (stages, other)
    )
    both = mine.merge(theirs, on=key)
    assert len(both) == config.generation.n * mine["prompt_id"].nunique()
    assert both["token_ids_x"].map(list).eq(both["token_ids_y"].map(list)).all()


def test_the_audit_counts_the_responses_of_each_time(adaptive):
    _, run_dir, _ = adaptive
    assert audit_run(run_dir).problems == []


def test_a_prompt_without_spread_for_a_thousand_iterations_can_still_be_tried():
    import pandas as pd

    view = view_of([(1.0, 1.0), (0.0, 2.0)])
    times = [{"iteration": t, "place": 0, "mean": 1.0, "spread": 0.0} for t in range(1000)]
    times.append({"iteration": 0, "place": 1, "mean": 1.0, "spread": 2.0})
    view.__dict__["samplings"] = pd.DataFrame(times)
    assert set(greso(view, 2, np.random.default_rng(0))) == {"p0", "p1"}
