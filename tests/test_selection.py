"""How many prompts are regenerated, and which."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune.__main__ import main
from optune.history import HistoryView
from optune.selection.strategies import STRATEGIES, select_prompts, selection_count
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
        offsets=np.zeros(len(ids)),
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


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"none", "all", "adaptive_rollout"}))
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


# --- strategies that are not the paper's -----------------------------------------------------------------------------


def with_history(rewards: list[list[float]], gains: list[list[float]], sampled_at: list[int]) -> HistoryView:
    return replace(
        view_of([0.0] * len(rewards), iteration=3),
        rewards=np.array(rewards),
        gains=np.array(gains),
        sampled_at=np.array(sampled_at),
    )


def test_centered_ranking_forgets_each_prompts_offset():
    view = replace(view_of([5.0, 1.0, 3.0]), offsets=np.array([5.5, 0.0, 3.0]))
    assert select_prompts(view, "1/3", "lowest_centered") == ["p0"]
    with pytest.raises(UserError, match="offset_samples"):
        select_prompts(replace(view, offsets=None), 0.5, "lowest_centered")


def test_low_and_varied_prefers_unlike_rewards_among_equally_low_ones():
    view = with_history([[0.0, 0.0], [0.0, -3.0], [9.0, 1.0]], [[0.0]] * 3, [0, 0, 0])
    assert select_prompts(view, "1/3", "low_and_varied") == ["p1"]


def test_the_stalest_pairs_come_first_and_the_lowest_among_those_of_one_age():
    view = with_history([[1.0], [0.0], [-9.0]], [[0.0]] * 3, [1, 1, 2])
    assert select_prompts(view, 1, "stalest") == ["p1", "p0", "p2"]


def test_a_prompt_whose_last_sample_gained_nothing_retires():
    nan = float("nan")
    view = with_history([[-5.0], [1.0], [2.0]], [[nan, 0.3, -0.1], [nan, nan, 0.5], [nan, nan, nan]], [2, 2, 0])
    assert select_prompts(view, "2/3", "retiring") == ["p1", "p2"]


def test_learnable_prompts_are_those_whose_kind_repaid_before():
    rng = np.random.default_rng(0)
    before = rng.normal(size=200)
    gains = -0.5 * before + 0.1 * rng.normal(size=200)  # the lower a prompt stood, the more it gained
    view = with_history((before + gains)[:, None].tolist(), np.c_[np.full(200, np.nan), gains].tolist(), [2] * 200)
    chosen = set(select_prompts(view, 0.5, "learnable"))
    lowest = set(select_prompts(view, 0.5, "lowest_reward"))
    assert 80 < len(chosen & lowest) < 100  # it follows the trend, and still explores


def test_the_oracle_ranks_by_gold_and_not_by_reward(tmp_path):
    from experiments.compute.arms import ORACLE
    from optune.history import History, write_responses
    from optune.sandbox import gold, prompts
    from optune.types import Response

    asked = prompts("validation", 6)
    texts = [("a b c" if i % 2 else "sure : nothing .") for i in range(6)]
    rows = [
        Response(p.prompt_id, 0, 0, (1,), t, "stop", 0.0, float(i))
        for i, (p, t) in enumerate(zip(asked, texts, strict=True))
    ]
    write_responses(tmp_path / "0.parquet", rows)
    ids = [p.prompt_id for p in asked]
    view = History((tmp_path / "0.parquet",)).view(ids, 1, 0, [p.text for p in asked])
    quality = {p.prompt_id: gold(p.text, t) for p, t in zip(asked, texts, strict=True)}
    chosen = select_prompts(view, 0.5, ORACLE)
    assert max(quality[i] for i in chosen) <= min(quality[i] for i in set(ids) - set(chosen))
