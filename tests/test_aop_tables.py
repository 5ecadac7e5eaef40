"""The Always-On-Policy paper's tables: agreement, votes and win rates from known inputs, and its own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.human_study.export import export
from eval.human_study.ratings import import_ratings
from eval.human_study.simulate import simulate
from eval.human_study.study import Comparison
from eval.human_study.votes import vote, votes
from eval.reward_agreement import agreement, length, main, read_preferences, reward_of
from experiments.always_on_policy import contests as aop_contests
from experiments.always_on_policy import table1_reward_models as aop_table1_reward_models
from experiments.always_on_policy import table4_human_votes as aop_table4_human_votes
from experiments.always_on_policy.probes import AGREEMENT, CONTESTS, contests, reward_agreement
from experiments.compute.setting import Setting
from experiments.figures.registry import figure_of
from optune import sandbox
from optune.config import RewardConfig, load_config
from optune.loop.algorithm import run_optune
from optune.types import UserError
from optune.utils.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
PAPER = read_json(ROOT / "results" / "published" / "always_on_policy.json")
IDENTITY = {"preset": "tiny", "config": load_config("tiny").model_dump(), "sandbox": {"version": "1", "hash": "0" * 64}}


def preferences(n: int = 32) -> list[dict[str, str]]:
    rows = []
    for prompt in sandbox.prompts("validation", n):
        answers = [writer.write(prompt, seed=0) for writer in sandbox.OTHERS]
        rows += [{**row, "category": prompt.category} for row in sandbox.preference_rows(prompt, answers, 1)]
    return rows


def raw(base: Path, arm, seed: int, **found) -> None:
    """A raw result as `run_arm` writes it."""
    write_json(
        base / "tiny" / "raw" / arm.name / f"seed{seed}.json",
        {**IDENTITY, "arm": arm.name, "seed": seed, "build": seed, **found},
    )


# --- reward models ----------------------------------------------------------------------------------------------------


def test_a_reward_that_knows_the_annotator_agrees_and_its_opposite_never_does():
    rows = preferences()
    right = agreement(rows, lambda rows, side: [float(side == "chosen")] * len(rows))
    wrong = agreement(rows, lambda rows, side: [float(side == "rejected")] * len(rows))
    equal = agreement(rows, lambda rows, side: [0.0] * len(rows))
    assert (right["agreed"], wrong["agreed"], equal["agreed"]) == (len(rows), 0, 0)
    assert sum(found["n"] for found in right["categories"].values()) == len(rows)
    assert 0 < agreement(rows, length)["agreed"] < len(rows)
    assert agreement(rows, reward_of(RewardConfig(kind="gold")))["share"]["estimate"] > 0.8


def test_a_reward_model_is_chosen_from_a_file_of_preferences(tmp_path, capsys, random_llama):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    model = tmp_path / "reward"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    tokenizer = AutoTokenizer.from_pretrained(random_llama)
    settings = LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, num_labels=1, **sizes)
    LlamaForSequenceClassification(settings).save_pretrained(model)
    tokenizer.save_pretrained(model)
    file = tmp_path / "preferences.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in preferences(16)))
    assert main([str(file), "--model", str(model)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["best"] == str(model) and 0 <= told["models"][str(model)]["agreed"] <= len(preferences(16))
    file.write_text('{"prompt": "x", "chosen": "y", "rejected": 3, "category": "z"}\n')
    with pytest.raises(UserError, match="needs a text `rejected`"):
        read_preferences(file)


def test_the_papers_columns_do_not_add_up_to_the_total_that_its_choice_rests_on():
    table = PAPER["table1"]
    sums = [sum(column) for column in zip(*table["categories"].values(), strict=True)]
    assert [m for m, s in zip(table["models"], sums, strict=True) if s != table["matches"][m]] == ["DeBERTa-V3"]
    assert dict(zip(table["models"], sums, strict=True))["SteamSHP-XL"] == max(sums) == 728 and sums[-1] == 726
    for name in ("table2", "table3", "table4"):
        for row in PAPER[name]["iterations"].values():
            assert 99.8 <= sum(row.values()) <= 100


# --- votes ------------------------------------------------------------------------------------------------------------


def test_a_vote_needs_more_than_any_other_outcome_has():
    assert vote(["win", "win", "lose"]) == "win" and vote(["tie"]) == "tie"
    assert vote(["win", "lose", "tie"]) == vote(["win", "lose"]) == "tie"
    assert vote(["tie", "lose", "lose"]) == "lose"


def test_votes_undo_the_shuffling_of_every_rater(tmp_path, monkeypatch):
    rows = [{"prompt_id": str(i), "instruction": f"question {i}", "output": f"answer {i}"} for i in range(30)]
    files = [
        write_json(tmp_path / f"{name}.json", [{**row, "output": f"{name} {row['output']}"} for row in rows])
        for name in "ab"
    ]
    study = export([Comparison("a-b", *files)], tmp_path / "study", prompts=30, raters=3, ratings_per_pair=3)
    assert 0 < sum(item.a_first for item in study.items) < len(study.items)
    rated = simulate(study, tmp_path / "rated")
    for path in rated:  # every rater prefers the first file's answer, wherever it stands
        content = read_json(path)
        items = {item.item_id: item for item in study.items}
        for row in content["ratings"]:
            row["choice"] = "1" if items[row["item"]].a_first else "2"
        write_json(path, content)
    import_ratings(tmp_path / "study", rated)
    found = votes(tmp_path / "study", study)["a-b"]
    assert (found["n"], found["win"]["estimate"], found["lose"]["estimate"]) == (30, 1.0, 0.0)


# --- from raw results to tables ---------------------------------------------------------------------------------------


def point(gold: float, tokens: int) -> dict:
    return {"tokens": tokens, "tokens_writer_in": 5, "updates": 4, "gold_mean": gold}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    answers = [{"instruction": f"q {i}", "output": "x", "prompt_id": str(i)} for i in range(100)]
    for seed, letters in ((0, "WWTL"), (3, "WTTL")):
        raw(
            tmp_path,
            CONTESTS,
            seed,
            rivals={
                "sop": [{"iteration": 0, "verdicts": None}, {"iteration": 1, "verdicts": letters}],
                "vsp": [{"iteration": 0, "verdicts": letters}, {"iteration": 1, "verdicts": "W?WL"}],
            },
            arms={name: {"iterations": [point(5.0, 10), point(6.0 + seed, 10)]} for name in ("aop", "sop", "vsp")},
            answers={"aop": answers, "sop": [{**row, "output": "y"} for row in answers]},
        )
        n = {"n": 4, "agreed": 3, "categories": {"add": {"n": 4, "agreed": 3}}}
        found = {**n, "share": {"estimate": 0.75, "low": 0.3, "high": 0.95}}
        better = {**found, "agreed": 3 + seed}
        raw(tmp_path, AGREEMENT, seed, agreement={"reward_model": better, "length": found, "gold": found})
    return tmp_path


def test_win_rates_are_counted_from_the_verdicts_and_averaged_over_seeds(base):
    sop = figure_of("aop-table2").data(Setting("tiny"), base)
    (row,) = sop["iterations"]  # the first is one policy
    assert row["iteration"] == 2 and row["win"]["mean"] == pytest.approx((50 + 25) / 2)
    assert row["lose"]["mean"] == 25.0 and row["lead"]["mean"] == pytest.approx(12.5)
    vsp = figure_of("aop-table3").data(Setting("tiny"), base)
    assert [r["iteration"] for r in vsp["iterations"]] == [1, 2] and vsp["iterations"][1]["unparsed"] == [1, 1]
    assert vsp["iterations"][1]["win"]["mean"] == pytest.approx(200 / 3)
    assert any("67.85" in line for line in aop_contests.lines(sop))
    assert sop["arms"]["aop"][1]["gold_mean"]["mean"] == 7.5


def test_the_reward_model_with_the_most_agreements_is_taken(base):
    data = aop_table1_reward_models.FIGURE.data(Setting("tiny"), base)
    assert data["taken"] == "build 3" and data["paper"]["taken_by_its_columns"]["model"] == "SteamSHP-XL"
    assert any("build 3" in line for line in aop_table1_reward_models.lines(data))


def test_votes_of_simulated_raters_are_a_dry_run_and_peoples_are_taken_where_they_lie(base, tmp_path):
    data = aop_table4_human_votes.FIGURE.data(Setting("tiny"), base)
    assert data["ratings_of"] == aop_table4_human_votes.DRY_RUN and data["votes"]["n"] == 100
    assert aop_table4_human_votes.lines(data)[0].strip().startswith("DRY RUN")
    other = tmp_path / "tiny" / "aop_human_study"
    answers = read_json(base / "tiny" / "raw" / CONTESTS.name / "seed3.json")["answers"]
    answers["aop"][0]["output"] = "another answer"
    study = aop_table4_human_votes.write_study(answers, other)
    import_ratings(other, simulate(study, tmp_path / "theirs"))
    with pytest.raises(UserError, match="of other answers"):
        aop_table4_human_votes.FIGURE.data(Setting("tiny"), base)


@pytest.mark.slow
def test_the_probes_measure_real_runs_of_the_recipe(tmp_path):
    """Nano, on a development seed: all three recipes, their contests and the reward's agreement."""
    config = load_config("nano", recipe="aop").with_overrides({"seed": 1000, "iterations": 1})
    config = Setting("nano").resolve(config)
    result = run_optune(config, tmp_path / "run", tmp_path / "stages")
    found = contests(config, result, tmp_path)
    first, second = found["rivals"]["sop"]
    assert first["verdicts"] is None and len(second["verdicts"]) == 512 == len(found["rivals"]["vsp"][0]["verdicts"])
    assert [row["updates"] for row in found["arms"]["aop"]["iterations"]] == [
        row["updates"] for row in found["arms"]["sop"]["iterations"]
    ]
    assert {len(rows) for rows in found["answers"].values()} == {100}
    counts = reward_agreement(config, result, tmp_path)["agreement"]["gold"]["categories"]
    assert {c["n"] for c in counts.values()} == {50} and set(counts) == set(sandbox.FAMILIES)
