"""RLHF Workflow's tables: order at random, length in preferences and rewards, rows from known raw results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.compute.setting import Setting
from experiments.rlhf_workflow.fig3_reward_and_length import FIGURE as FIG3
from experiments.rlhf_workflow.probes import ABLATION, CATEGORIES, REWARD_MODELS, correlation, held_out_preferences
from experiments.rlhf_workflow.table1_preference_models import FIGURE as TABLE1
from experiments.rlhf_workflow.table1_preference_models import LABELS
from experiments.rlhf_workflow.table4_length_penalty import FIGURE as TABLE4
from optune.sandbox import FAMILIES
from optune.sandbox.parts.reward_models import favour_length
from optune.training.preference_model import VERDICTS, in_random_order, prefers_first, train_preference_model
from optune.types import UserError
from optune.utils.files import read_json, write_json


def rows(n: int = 400) -> list[dict[str, str]]:
    return [{"prompt": f"p{i}", "chosen": "a" * (1 + i % 7), "rejected": "b" * (1 + i % 5)} for i in range(n)]


def test_the_four_kinds_hold_every_family_once():
    families = [family for group in CATEGORIES.values() for family in group]
    assert sorted(families) == sorted(FAMILIES)


def test_held_out_comparisons_are_of_prompts_that_no_reward_model_learns_from():
    from optune.sandbox import prompts

    found = {row["prompt"] for row in held_out_preferences()}
    assert len(found) > 900 and not found & {p.text for p in prompts("preference")}
    assert not found & {p.text for p in prompts("train")}


def test_the_chosen_answer_comes_first_in_half_the_comparisons():
    asked = [in_random_order(row, 0) for row in rows()]
    assert 150 < sum(chosen_first for _, _, chosen_first in asked) < 250
    for row, (first, second, chosen_first) in zip(rows(), asked, strict=True):
        assert (first, second) == (
            (row["chosen"], row["rejected"]) if chosen_first else (row["rejected"], row["chosen"])
        )


def test_a_share_of_comparisons_is_decided_by_length_and_the_rest_stays():
    before, after = rows(), favour_length(rows(), 3)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert all({a["chosen"], a["rejected"]} == {b["chosen"], b["rejected"]} for a, b in zip(before, after, strict=True))
    assert all(len(b["chosen"]) > len(b["rejected"]) for _, b in changed)
    shorter = sum(len(row["chosen"]) < len(row["rejected"]) for row in before)
    assert 0.2 * shorter < len(changed) < 0.4 * shorter


def test_a_preference_model_learns_which_answer_is_better_in_either_order(random_llama, tmp_path):
    from transformers import AutoTokenizer

    from optune.training.sft import TrainingSettings

    tokenizer = AutoTokenizer.from_pretrained(random_llama)
    data = [
        {"prompt": f"sort {a} {b}", "chosen": "dog dog", "rejected": "cat"}
        for a in ("sun", "moon", "red", "blue", "apple", "bread", "milk", "fish")
        for b in ("one", "two", "three", "four")
    ]
    own = TrainingSettings(learning_rate=1e-2, num_train_epochs=40, batch_size=8, max_length=40, held_out=0.1)
    train_preference_model(random_llama, tokenizer, data, own, tmp_path)
    asked = [(row["prompt"], row["chosen"], row["rejected"]) for row in data[:8]]
    first = prefers_first(tmp_path, asked, batch_size=3)
    second = prefers_first(tmp_path, [(p, b, a) for p, a, b in asked])
    assert np.mean(first) > 0.8 and np.mean(second) < 0.2


def test_a_tokenizer_without_the_verdicts_is_named(random_llama, monkeypatch):
    monkeypatch.setattr("optune.training.preference_model.VERDICTS", (VERDICTS[0], "perhaps"))
    with pytest.raises(UserError, match="first and perhaps are not one token each"):
        prefers_first(random_llama, [("sort cat dog", "cat", "dog")])


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-5, 5)), min_size=2, max_size=16))
def test_a_correlation_is_one_or_none(pairs):
    lengths, rewards = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    found = correlation(lengths, rewards)
    assert found is None or -1.0001 <= found <= 1.0001
    assert correlation(np.ones(4), np.arange(4.0)) is None
    assert correlation(np.arange(4.0), np.arange(4.0)) == 1


# --- from raw results ------------------------------------------------------------------------------------------------


def publish(folder, arm, seed: int, found: dict) -> None:
    from experiments.compute.results import raw_path
    from experiments.compute.setting import made_with

    config = Setting("tiny").arm_config(arm, seed)
    raw = {**made_with(config), "arm": arm.name, "seed": seed, "build": seed, "packages": {}, **found, "timing": {}}
    write_json(raw_path(folder, "tiny", arm.name, seed), raw)


def test_tables_and_figure_are_made_of_raw_results_alone(tmp_path):
    categories = {name: {"n": 10, "agreed": 6 + place} for place, name in enumerate(CATEGORIES)}
    agreement = {"n": 40, "agreed": sum(c["agreed"] for c in categories.values()), "categories": categories}
    length = {"mean_length": [float(i) for i in range(20)], "bradley_terry": [0.1] * 19 + [None], "longer": [0.5] * 20}
    for seed in REWARD_MODELS.seeds:
        publish(tmp_path, REWARD_MODELS, seed, {"agreement": dict.fromkeys(LABELS, agreement), "length": length})
    table = TABLE1.data(Setting("tiny"), tmp_path, range(10))
    assert table["models"]["preference"]["copying"]["mean"] == 60 and table["models"]["gold"]["all"]["mean"] == 75
    assert any("94.7" in line for line in TABLE1.lines(table))
    heat = FIG3.data(Setting("tiny"), tmp_path, range(10))
    assert heat["models"]["longer"]["mean_r"]["mean"] == 0.5 and sum(heat["models"]["bradley_terry"]["without_r"]) == 3
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in heat["models"]["longer"]["shares"])
    one, two = (FIG3.draw(heat, tmp_path / name)[1] for name in ("one", "two"))
    assert Path(one).read_bytes() == Path(two).read_bytes()


def test_the_ablation_is_paired_by_seed(tmp_path):
    score = {"columns": {"find": {"value": 0.5}}}
    for shift, (label, arm) in enumerate(ABLATION.items()):
        for seed in arm.seeds:
            rates = {"length_controlled_winrate": 50.0 + seed + shift, "avg_length": 20 - shift}
            found = {
                "chosen": 3,
                "response_length": [9.0] * 7 + [5.5 - shift / 8],
                "kl_to_sft": [0.0, 0.0, 0.0, 0.05],
                "measured": {"win_score": 60.0, "gold_mean": 5.0},
                "alpaca": rates,
                "alpaca_sft": rates,
                "benchmarks": {"models": dict.fromkeys(("final", "sft", "baseline"), score)},
            }
            publish(tmp_path, arm, seed, found)
        assert label in TABLE4.collect.__globals__["ABLATION"]
    data = TABLE4.data(Setting("tiny"), tmp_path, range(10))
    lead = data["minus_ours"]["ours, length penalty"]["lc"]
    assert (lead["mean"], lead["low"], lead["high"]) == (1, 1, 1)  # seeds differ, their differences do not
    assert data["rows"]["offline baseline"]["lc"]["mean"] == 50 and any("38.1" in line for line in TABLE4.lines(data))
    assert data["minus_ours"]["ours, length penalty"]["length"]["mean"] == pytest.approx(-0.125)
    assert data["rows"]["ours"]["kl"]["mean"] == pytest.approx(0.05)


def test_the_committed_table_shows_that_the_penalty_shortens_answers():
    from experiments.compute.results import ROOT

    table = read_json(ROOT / "results" / "tiny" / "rw-table4.json")
    raw = {
        label: [read_json(ROOT / "results/tiny/raw" / arm.name / f"seed{seed}.json") for seed in arm.seeds]
        for label, arm in ABLATION.items()
    }
    tokens = {label: [one["response_length"][2 * one["chosen"] + 1] for one in found] for label, found in raw.items()}
    assert [[round(t, 2) for t in tokens[label]] for label in ("ours", "ours, length penalty")] == [
        [5.45, 5.34, 5.33],
        [5.31, 5.32, 5.28],
    ]
    for label, values in tokens.items():
        assert table["rows"][label]["length"]["mean"] == pytest.approx(np.mean(values))
        assert table["rows"][label]["kl"]["mean"] < 0.1  # nats: the recipe's optimizer hardly moves the policy
    shorter = table["minus_ours"]["ours, length penalty"]["length"]["mean"]
    assert shorter == pytest.approx(np.mean(np.subtract(tokens["ours, length penalty"], tokens["ours"])))
