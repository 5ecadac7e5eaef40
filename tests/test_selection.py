"""How many prompts are regenerated, and which."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune.__main__ import main
from optune.history import HistoryView
from optune.selection import STRATEGIES, select_prompts, selection_count
from optune.types import UserError


def view_of(rewards: list[float], seed: int = 0, iteration: int = 1, ids: list[str] | None = None) -> HistoryView:
    ids = ids or [f"p{i}" for i in range(len(rewards))]
    return HistoryView(
        prompt_ids=np.array(ids, dtype=object),
        rewards=np.array(rewards, dtype=float).reshape(len(ids), -1),
        sampled_at=np.zeros(len(ids), dtype=int),
        gains=np.full((len(ids), 1), np.nan),
        iteration=iteration,
        seed=seed,
    )


def test_seven_of_a_hundred_at_0_07_not_eight():
    assert selection_count(0.07, 100) == 7


@given(st.integers(1, 1000), st.integers(0, 10**7))
def test_count_is_the_exact_ceiling_for_every_decimal_ratio(thousandths, n):
    assert selection_count(thousandths / 1000, n) == -(-thousandths * n // 1000)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.0001, 7])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(UserError, match=r"\(0, 1\]"):
        selection_count(ratio, 10)


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"none", "all"}))
@given(rewards=st.lists(st.floats(-5, 5), min_size=1, max_size=30), percent=st.integers(1, 100))
def test_every_strategy_returns_exactly_the_count_without_repeats(strategy, rewards, percent):
    chosen = select_prompts(view_of(rewards), percent / 100, strategy)
    assert len(chosen) == len(set(chosen)) == selection_count(Fraction(percent, 100), len(rewards))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.integers(1, 99))
def test_lowest_reward_leaves_nothing_lower_behind(rewards, percent):
    chosen = set(select_prompts(view_of(rewards), percent / 100))
    low = [r for i, r in enumerate(rewards) if f"p{i}" in chosen]
    high = [r for i, r in enumerate(rewards) if f"p{i}" not in chosen]
    assert not high or max(low) <= min(high)


def test_the_preferred_response_ranks_a_prompt():
    view = view_of([[5.0, -9.0], [1.0, 0.9]], ids=["a", "b"])
    assert select_prompts(view, 0.5) == ["b"]


@pytest.mark.parametrize(
    ("strategy", "first"),
    [("lowest_reward", "c"), ("lowest_mean_reward", "b"), ("lowest_rejected_reward", "a"), ("lowest_gap", "c")],
)
def test_other_rewards_of_a_pair_rank_otherwise(strategy, first):
    view = view_of([[5.0, -3.0], [2.0, -2.0], [1.0, 0.9]], ids=["a", "b", "c"])
    assert select_prompts(view, 0.3, strategy) == [first]


def test_ties_do_not_depend_on_the_order_of_the_prompts():
    ids = [f"p{i}" for i in range(40)]
    forward = select_prompts(view_of([1.0] * 40, ids=ids), 0.25)
    backward = select_prompts(view_of([1.0] * 40, ids=ids[::-1]), 0.25)
    assert forward == backward != ids[:10]


def test_ties_break_differently_with_another_seed_and_iteration():
    base = select_prompts(view_of([1.0] * 40), 0.25)
    assert base != select_prompts(view_of([1.0] * 40, seed=1), 0.25)
    assert base != select_prompts(view_of([1.0] * 40, iteration=2), 0.25)


def test_random_depends_on_the_seed_alone():
    view = view_of(list(range(50)))
    assert select_prompts(view, 0.3, "random") == select_prompts(view, 0.3, "random")
    assert select_prompts(view, 0.3, "random") != select_prompts(view_of(list(range(50)), seed=3), 0.3, "random")


def test_all_with_a_smaller_ratio_is_refused_in_one_sentence():
    with pytest.raises(UserError, match="'all' regenerates every prompt; set the selection ratio to 1"):
        select_prompts(view_of([1.0, 2.0]), 0.5, "all")


def test_an_unknown_strategy_is_named_with_its_neighbour():
    with pytest.raises(UserError, match="Did you mean 'lowest_reward'"):
        select_prompts(view_of([1.0]), 1, "lowest_rewards")


def test_a_strategy_that_returns_too_many_is_refused(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "greedy", lambda view, k, rng: view.prompt_ids)
    with pytest.raises(UserError, match="at most 1"):
        select_prompts(view_of([1.0, 2.0]), 0.5, "greedy")


# --- python -m optune select -----------------------------------------------------------------------------------------

ROWS = [("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 0.5)]


def write_rewards(path, rows=ROWS):
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["prompt_id", "reward"])
    if path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_select_prints_the_ids_in_rank_order_from_every_format(tmp_path, capsys, suffix):
    path = write_rewards(tmp_path / f"rewards{suffix}")
    assert main(["select", "--rewards", str(path), "--ratio", "0.5"]) == 0
    assert capsys.readouterr().out.split() == ["d", "b"]


def test_select_random_is_seeded(tmp_path, capsys):
    path = write_rewards(tmp_path / "r.csv", [(f"p{i}", i) for i in range(50)])
    outputs = []
    for seed in ("1", "1", "2"):
        main(["select", "--rewards", str(path), "--ratio", "0.2", "--strategy", "random", "--seed", seed])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2] and len(outputs[0].split()) == 10


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"prompt_id": "a", "reward": 1}\n{"prompt_id": "a", "reward": 2}\n', "row 2: prompt_id 'a' was given before"),
        ('{"prompt_id": "a", "reward": 1}\n{"prompt_id": "b", "reward": NaN}\n', "row 2: the reward of prompt 'b'"),
        ('{"prompt_id": "a"}\n', "row 1: no value for `reward`"),
        ('{"prompt_id": "a", "reward": 1}\nnonsense\n', "row 2: not valid JSON"),
        ("[1]\n", "row 1: expected an object"),
        ('{"prompt_id": "a", "reward": 1}\n\n{"prompt_id": "b"}\n', "row 3: no value for `reward`"),
        ("", "holds no rows"),
    ],
)
def test_bad_reward_files_get_one_sentence_with_the_row(tmp_path, capsys, content, sentence):
    path = tmp_path / "rewards.jsonl"
    path.write_text(content)
    assert main(["select", "--rewards", str(path), "--ratio", "0.5"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("ratio", ["0", "1.5", "-1", "half", "nan", "1/0"])
def test_bad_ratios_get_one_sentence(tmp_path, capsys, ratio):
    path = write_rewards(tmp_path / "r.csv")
    assert main(["select", "--rewards", str(path), f"--ratio={ratio}"]) == 2
    assert "selection ratio" in capsys.readouterr().err
