"""Pairs and history: conservation, views, and the columnar view that strategies see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune.history import History, read_responses, write_responses
from optune.pairs import make_pairs, training_view
from optune.types import Response


def response(prompt_id="p", index=0, iteration=0, reward=0.0, tokens=(1, 2), text=None) -> Response:
    text = " ".join(map(str, tokens)) if text is None else text
    return Response(prompt_id, index, iteration, tuple(tokens), text, "stop", -1.5, reward)


@pytest.fixture
def history(tmp_path) -> History:
    """Prompts a and b sampled in iteration 0, only a again in iteration 1."""
    rows = [
        [
            response("a", 0, 0, 1.0, (1,)),
            response("a", 1, 0, 2.0, (2,)),
            response("b", 0, 0, 5.0, (3,)),
            response("b", 1, 0, 4.0, (4,)),
        ],
        [response("a", 0, 1, 3.0, (5,)), response("a", 1, 1, 6.0, (6,))],
    ]
    history = History()
    for t, responses in enumerate(rows):
        write_responses(tmp_path / f"{t}.parquet", responses)
        history = history.append(tmp_path / f"{t}.parquet")
    return history


def test_responses_survive_the_file_unchanged(tmp_path):
    rows = [response(reward=None, tokens=(1, 2, 3)), Response("q", 1, 2, (7,), "é\n", "length", None, 0.25, True)]
    write_responses(tmp_path / "r.parquet", rows)
    assert read_responses(tmp_path / "r.parquet") == rows


def test_latest_is_the_newest_rows_of_each_prompt(history):
    latest = {(r.prompt_id, r.iteration) for r in training_view(history, "latest", 1, ["a", "b"])}
    assert latest == {("a", 1), ("b", 0)}


def test_fresh_and_all_views(history):
    assert {(r.prompt_id, r.iteration) for r in training_view(history, "fresh", 1, ["a", "b"])} == {("a", 1)}
    assert len(training_view(history, "all", 1, ["a", "b"])) == 6
    assert {r.prompt_id for r in training_view(history, "all", 1, ["b"])} == {"b"}


def test_the_columnar_view_has_rewards_age_and_past_gains(history):
    view = history.view(["b", "a", "new"], iteration=2, seed=0)
    assert view.sampled_at.tolist() == [0, 1, -1]
    assert view.age.tolist() == [2, 1, 3]
    assert view.rewards[:2].tolist() == [[5.0, 4.0], [3.0, 6.0]] and np.isnan(view.rewards[2]).all()
    assert view.gains[1, 1] == 4.0 and np.isnan(view.gains[0, 1])  # a's best rose from 2 to 6; b was not regenerated


def test_a_gain_is_against_the_last_time_a_prompt_was_sampled(history, tmp_path):
    rows = [response("b", 0, 2, 7.5, (8,)), response("b", 1, 2, 7.0, (9,))]
    write_responses(tmp_path / "2.parquet", rows)
    view = history.append(tmp_path / "2.parquet").view(["b"], iteration=3, seed=0)
    assert view.gains[0, 2] == 2.5 and np.isnan(view.gains[0, 1])


def test_an_empty_history_has_only_unsampled_prompts():
    view = History().view(["a", "b"], iteration=0, seed=0)
    assert view.sampled_at.tolist() == [-1, -1]


def test_appending_leaves_the_old_history_as_it_was(history, tmp_path):
    before = history.files
    history.append(tmp_path / "more.parquet")
    assert history.files == before


def test_best_meets_worst_among_n():
    rows = [response(index=i, reward=r, tokens=(i,)) for i, r in enumerate((0.3, 2.0, -1.0, 0.5))]
    (pair,), left_out = make_pairs(rows)
    assert (pair.chosen.index, pair.rejected.index) == (1, 2) and pair.reward_gap == 3.0 and not left_out


def test_every_group_is_a_pair_or_counted_by_reason():
    rows = [
        *(response("same", i, 0, float(i), (1,)) for i in range(2)),
        *(response("equal", i, 0, 1.0, (i + 1,)) for i in range(2)),
        response("single"),
        response("empty", 0, 0, 1.0, ()),
        response("empty", 1, 0, 2.0, (3,)),
        *(response("good", i, 0, float(i), (i + 1,)) for i in range(2)),
    ]
    pairs, left_out = make_pairs(rows)
    assert [p.prompt_id for p in pairs] == ["good"]
    assert left_out == {"identical_responses": 1, "equal_rewards": 1, "fewer_than_two_responses": 2}


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3), st.integers(0, 3)), max_size=40))
def test_conservation_for_any_rewards_and_any_repeats(rows):
    responses = [response(f"p{p}", i, 0, reward, (token,)) for i, (p, reward, token) in enumerate(rows)]
    pairs, left_out = make_pairs(responses)
    assert len(pairs) + sum(left_out.values()) == len({r.prompt_id for r in responses})
    assert all(p.reward_gap > 0 and math.isfinite(p.reward_gap) for p in pairs)
