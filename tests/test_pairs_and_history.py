"""Pairs and history: conservation, views, and the columnar view that strategies see."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optune.history import SCHEMA, History, read_responses, write_responses
from optune.pairs.pairing import make_pairs, pair_rows, training_rows, write_pairs
from optune.types import Response, UserError


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


def rows_of(history, view, prompt_ids) -> list[tuple[str, int]]:
    tables = training_rows(history, view, 1, prompt_ids)
    return [(row["prompt_id"], row["iteration"]) for table in tables for row in table.to_pylist()]


def test_responses_survive_the_file_unchanged(tmp_path):
    rows = [response(reward=None, tokens=(1, 2, 3)), Response("q", 1, 2, (7,), "é\n", "length", None, 0.25, True)]
    write_responses(tmp_path / "r.parquet", rows)
    assert read_responses(tmp_path / "r.parquet") == rows


def test_latest_is_the_newest_rows_of_each_prompt(history):
    assert rows_of(history, "latest", ["a", "b"]) == [("b", 0)] * 2 + [("a", 1)] * 2


def test_fresh_and_all_views(history):
    assert rows_of(history, "fresh", ["a", "b"]) == [("a", 1)] * 2
    assert rows_of(history, "all", ["a", "b"]) == [("a", 0)] * 2 + [("b", 0)] * 2 + [("a", 1)] * 2
    assert rows_of(history, "all", ["b"]) == rows_of(history, "latest", ["b"]) == [("b", 0)] * 2


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


def test_a_response_without_words_makes_no_pair_where_that_is_asked_for():
    rows = [
        *(response("mute", i, 0, float(i), (1, i), ("", "words")[i]) for i in range(2)),
        *(response("blank", i, 0, float(i), (1, i), (" \n", "\0\u200b")[i]) for i in range(2)),
        *(response("three", i, 0, float(i), (1, i), ("", "a", "b")[i]) for i in range(3)),
        response("unsampled", 0, 0, 1.0, (), ""),
        response("unsampled", 1, 0, 2.0, (3,), "c"),
    ]
    pairs, left_out = make_pairs(rows, words_only=True)
    assert [(p.prompt_id, p.chosen.text, p.rejected.text) for p in pairs] == [("three", "b", "a")]
    assert left_out == {"without_words": 2, "fewer_than_two_responses": 1}
    assert [p.prompt_id for p in make_pairs(rows)[0]] == ["mute", "blank", "three"]  # as recorded results were made


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3), st.integers(0, 3)), max_size=40))
def test_conservation_for_any_rewards_and_any_repeats(rows):
    responses = [response(f"p{p}", i, 0, reward, (token,)) for i, (p, reward, token) in enumerate(rows)]
    pairs, left_out = make_pairs(responses)
    assert len(pairs) + sum(left_out.values()) == len({r.prompt_id for r in responses})
    assert all(p.reward_gap > 0 and math.isfinite(p.reward_gap) for p in pairs)


# --- files of any size ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_groups(monkeypatch):
    """Files in row groups of four rows, so that groups of responses cross their borders."""
    import optune.history

    monkeypatch.setattr(optune.history, "ROWS", 4)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.floats(-3, 3), st.integers(0, 2)), max_size=30),
    st.booleans(),
)
def test_pairs_from_files_are_those_of_all_responses_at_once(tmp_path_factory, rows, words_only):
    """In whatever order responses stand, and wherever row groups end."""
    import optune.history

    folder = tmp_path_factory.mktemp("files")
    texts = {0: "", 1: "one", 2: "two"}
    responses = [
        response(f"p{p}", i, t, reward, (token,), texts[token]) for i, (p, t, reward, token) in enumerate(rows)
    ]
    ids, history = ["p1", "p0", "p2", "p3"], History()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optune.history, "ROWS", 4)
        for t in (0, 1):
            write_responses(folder / f"{t}.parquet", [r for r in responses if r.iteration == t])
            history = history.append(folder / f"{t}.parquet")
        for view in ("latest", "fresh", "all"):
            seen = looked_at(responses, view, ids)
            expected, left_out = make_pairs(seen, words_only=words_only)
            prompt_texts = pa.array([f"text of {i}" for i in ids])
            tables = training_rows(history, view, 1, ids)
            written = write_pairs(folder / "pairs.parquet", tables, "best_vs_worst", prompt_texts, words_only)
            found = pq.read_table(folder / "pairs.parquet").to_pylist()
            assert [(r["prompt_id"], r["prompt"], r["chosen_index"], r["rejected_index"]) for r in found] == [
                (p.prompt_id, f"text of {p.prompt_id}", p.chosen.index, p.rejected.index) for p in expected
            ]
            assert written.gaps == [p.reward_gap for p in expected] and written.left_out == left_out
            assert written.wordless == (sum(r.text == "" for r in seen) if words_only else 0)


def looked_at(responses, view, ids):
    """The rows of a view, as its definition says, in the files' order."""
    newest = {r.prompt_id: max(q.iteration for q in responses if q.prompt_id == r.prompt_id) for r in responses}
    wanted = {"latest": lambda r: r.iteration == newest[r.prompt_id], "fresh": lambda r: r.iteration == 1}
    keep = wanted.get(view, lambda r: True)
    return [r for t in (0, 1) for r in responses if r.iteration == t and r.prompt_id in ids and keep(r)]


def test_rows_survive_any_number_of_row_groups(small_groups, tmp_path):
    rows = [response(f"p{i}", 0, 0, float(i), (i, i + 1)) for i in range(11)]
    write_responses(tmp_path / "r.parquet", iter(rows))
    assert pq.ParquetFile(tmp_path / "r.parquet").num_row_groups == 3
    assert read_responses(tmp_path / "r.parquet") == rows


def test_the_files_bytes_are_what_they_always_were(tmp_path):
    """Stage digests of finished runs are hashes of such files: bytes may change only with pyarrow's version."""
    rows = [
        Response(f"p{i // 2}", i % 2, i % 3, tuple(range(i % 5)), f"text {i % 7}", "stop", -0.5 * i, 0.25 * i)
        for i in range(3000)
    ]
    write_responses(tmp_path / "new.parquet", rows)
    columns = {name: [getattr(r, name) for r in rows] for name in SCHEMA.names}
    pq.write_table(pa.table(columns, schema=SCHEMA), tmp_path / "old.parquet")  # all at once, as it was done first
    assert (tmp_path / "new.parquet").read_bytes() == (tmp_path / "old.parquet").read_bytes()
    write_responses(tmp_path / "new.parquet", [])
    pq.write_table(SCHEMA.empty_table(), tmp_path / "old.parquet")
    assert (tmp_path / "new.parquet").read_bytes() == (tmp_path / "old.parquet").read_bytes()


def test_a_pairing_of_ones_own_sees_whole_responses(tmp_path):
    rows = [response("a", i, 0, float(i), (i,)) for i in range(3)] + [
        response("b", i, 0, 1.0 - i, (i,)) for i in (0, 1)
    ]
    name = f"{__name__}:first_against_last"
    (a, b), left_out = make_pairs(rows, name)
    assert (a.chosen, a.rejected, b.chosen, b.rejected) == (rows[2], rows[0], rows[4], rows[3]) and not left_out
    write_responses(tmp_path / "0.parquet", rows)
    (table,) = training_rows(History((tmp_path / "0.parquet",)), "all", 0, ["a", "b"])
    found = pair_rows(table, name)
    assert (found.chosen.tolist(), found.rejected.tolist()) == ([2, 4], [0, 3])


def first_against_last(responses):
    assert all(r.finish_reason == "stop" for r in responses)
    return responses[-1], responses[0]


def test_an_unscored_response_is_told():
    with pytest.raises(UserError, match="no reward"):
        make_pairs([response(reward=None), response(index=1, reward=1.0)])


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 4)), st.tuples(*[st.floats(-3, 3)] * 2), max_size=12)
)
def test_the_view_is_what_pandas_makes_of_all_rows(tmp_path_factory, rewards):
    folder, history = tmp_path_factory.mktemp("view"), History()
    for t in range(3):
        rows = [response(f"p{p}", i, t, r) for (u, p), pair in rewards.items() if u == t for i, r in enumerate(pair)]
        write_responses(folder / f"{t}.parquet", rows)
        history = history.append(folder / f"{t}.parquet")
    ids = ["p3", "new", "p0", "p1"]
    view, frame = history.view(ids, 3, 0), history.frame
    best = frame.groupby(["prompt_id", "iteration"])["reward"].max().unstack()
    gains = best.ffill(axis=1).diff(axis=1).where(best.notna()).reindex(ids)
    np.testing.assert_array_equal(view.gains, gains.to_numpy(dtype=float))
    last = frame[frame["iteration"] == frame.groupby("prompt_id")["iteration"].transform("max")]
    table = last.pivot(index="prompt_id", columns="index", values="reward").reindex(ids)
    np.testing.assert_array_equal(view.rewards, table.to_numpy(dtype=float))
    newest = last.groupby("prompt_id")["iteration"].max().reindex(ids).fillna(-1)
    assert view.sampled_at.tolist() == newest.tolist()


def test_the_frame_of_a_history_has_every_response_with_its_text_and_numbers_has_none(tmp_path):
    sampled = [Response("a", k, t, (1,), f"text {t} {k}", "stop", reward=float(t + k)) for t in (0, 1) for k in (0, 1)]
    history = History()
    for t in (0, 1):
        write_responses(tmp_path / f"{t}.parquet", sampled[2 * t : 2 * t + 2])
        history = history.append(tmp_path / f"{t}.parquet")
    assert history.frame["text"].tolist() == [r.text for r in sampled]
    assert history.frame.drop(columns="text").equals(history.numbers)
    assert list(History().frame.columns) == ["prompt_id", "index", "iteration", "reward", "text"]
