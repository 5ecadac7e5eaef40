"""Prompts and rewards of one's own, from Python and from YAML: tried before sampling, and samples outlive them."""

from __future__ import annotations

import json

import pytest

from optune.config import load_config
from optune.finished.audit import audit_run
from optune.loop.algorithm import run_optune
from optune.loop.checks import check_run
from optune.types import UserError

ROWS = [{"prompt": f"sort {a} {b}", "answer": a} for a in ("cat", "dog") for b in ("red", "blue", "green")]
QUICK = {
    "iterations": 0,
    "threads": 1,
    "prompts": {"max_tokens": 32},
    "generation": {"max_new_tokens": 6},
    "training": {"batch_size": 4, "micro_batch_size": 4, "learning_rate": 1e-4},
}


def by_length(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


def by_answer(completions, answer):
    return [float(word in text) for word, text in zip(answer, completions, strict=True)]


def test_rows_functions_with_weights_and_a_policy_are_all_that_a_run_needs(random_llama, tmp_path):
    from datasets import Dataset
    from transformers import TrainerCallback

    class Seen(TrainerCallback):
        steps = 0

        def on_step_end(self, *_, **__):
            Seen.steps += 1

    result = run_optune(
        QUICK,
        tmp_path / "run",
        prompts=Dataset.from_list(ROWS),
        reward=[by_length, by_answer],
        reward_weights=[1.0, 100.0],
        policy=random_llama,
        callbacks=[Seen()],
    )
    answers = {row["prompt"]: row["answer"] for row in ROWS}
    frame = result.history.frame
    texts = {row["prompt_id"]: row["prompt"] for row in stored(result)}
    responses = {(r["prompt_id"], r["index"]): r["text"] for r in sampled(result)}
    for row in frame.to_dict("records"):
        text = responses[row["prompt_id"], row["index"]]
        assert row["reward"] == len(text) + 100.0 * (answers[texts[row["prompt_id"]]] in text)
    assert Seen.steps > 0
    audit = audit_run(tmp_path / "run")  # what was passed is not in the configuration; its key is in the record
    assert audit.problems == [] and audit.finished and "passed from Python" in audit.notes[0]


def stored(result):
    import pyarrow.parquet as pq

    return pq.read_table(f"{path_of(result, 'prompts')}/prompts.parquet").to_pylist()


def sampled(result):
    import pyarrow.parquet as pq

    return pq.read_table(f"{path_of(result, 'generate')}/responses.parquet").to_pylist()


def path_of(result, stage):
    return next(entry["path"] for entry in result.stages if entry["stage"] == stage)


def test_conversational_prompts_give_a_reward_trls_conversational_completions(random_llama, tmp_path):
    seen = []

    def reward(prompts, completions, **_):
        seen.append((prompts[0], completions[0]))
        return [float(len(c[0]["content"])) for c in completions]

    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in ROWS]
    run_optune(QUICK, tmp_path / "run", prompts=rows, reward=reward, policy=random_llama)
    assert seen[0] == ([{"role": "user", "content": "sort cat red"}], [{"role": "assistant", "content": "ok."}])


WRONG = {
    "asks": ("def f(prompts, texts):\n    return [0.0]\n", r"mine\.py:1: .*asks for 'texts'"),
    "number": ("def f(completions, **_):\n    return [1.0]\n", r"mine\.py:1: .*1 rewards for 2 responses"),
    "none": ("def f(completions, **_):\n    return [None for _ in completions]\n", r"mine\.py:1: .*returned None for"),
    "nan": ("def f(completions, **_):\n    return [float('nan')] * 2\n", r"mine\.py:1: .*returned nan for response 0"),
    "no list": ("def f(completions, **_):\n    return 1.0\n", r"mine\.py:1: .*must return a list"),
    "raises": ("def f(completions, **_):\n    x = 1\n    return [x / 0]\n", r"mine\.py:3: ZeroDivisionError"),
    "syntax": ("def f(:\n", r"mine\.py, line 1: cannot be loaded \(SyntaxError"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_reward_does_wrong_is_told_with_its_line_before_anything_is_sampled(wrong, config, tmp_path):
    source, told = WRONG[wrong]
    (tmp_path / "mine.py").write_text(source)
    mine = config.with_overrides({"reward.kind": f"{tmp_path / 'mine.py'}:f", "reward.noise": 0.0})
    with pytest.raises(UserError, match=told):
        run_optune(mine, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("responses.parquet"))
    with pytest.raises(UserError, match=told):
        check_run(mine)


def test_samples_outlive_an_edited_reward_and_one_of_another_name(random_llama, tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    source = tmp_path / "mine.py"
    source.write_text(
        "def f(completions, per=1.0, **_):\n"
        "    if len(completions) > 2:\n        raise ValueError('later')\n    return [1.0, 2.0]\n"
        "def g(completions, per=1.0):\n    return [per * len(c) for c in completions]\n"
    )
    (tmp_path / "mine.yaml").write_text(
        json.dumps(
            QUICK
            | {"policy": {"model": str(random_llama)}, "reward": {"kind": f"{source}:f", "options": {"per": 2.0}}}
            | {"prompts": {"path": str(tmp_path / "rows.jsonl"), "max_tokens": 32}}
        )
    )
    mine = load_config(file=tmp_path / "mine.yaml")
    with pytest.raises(UserError, match=r"mine\.py:3: ValueError \(later\)"):
        run_optune(mine, tmp_path / "run")
    told = []
    other = mine.with_overrides({"reward.kind": f"{source}:g"})
    result = run_optune(other, tmp_path / "run", on_stage=lambda e: told.append((e["stage"], e["reused"])))
    assert ("generate", True) in told and ("score", False) in told
    lengths = {(r["prompt_id"], r["index"]): len(r["text"]) for r in sampled(result)}
    assert all(
        row["reward"] == 2.0 * lengths[row["prompt_id"], row["index"]]
        for row in result.history.frame.to_dict("records")
    )
    again = []
    third = other.with_overrides({"reward.options": {"per": 3.0}})
    store = tmp_path / "run" / "stages"
    run_optune(third, tmp_path / "third", store, on_stage=lambda e: again.append((e["stage"], e["reused"])))
    assert ("generate", True) in again and ("score", False) in again
    with pytest.raises(UserError, match="another configuration"):
        run_optune(third, tmp_path / "run")


@pytest.mark.parametrize(
    "typo, meant",
    [
        ("training.lr", "training.learning_rate"),
        ("loss.beta", "loss.beta_1"),
        ("training.optim", "training.optimizer"),
        ("generation.max_tokens", "generation.max_new_tokens"),
        ("selection.ration", "selection.ratio"),
    ],
)
def test_a_name_from_elsewhere_suggests_the_option_of_its_meaning(typo, meant):
    with pytest.raises(UserError, match=f"{typo} is not an option; did you mean {meant}"):
        load_config("nano", overrides=[f"{typo}=1"])


def test_a_plan_counts_the_prompts_of_a_file_that_is_there(config, tmp_path):
    from optune.plan.report import plan

    assert "64 prompts" in plan(config)
    assert "64 prompts" in plan(config.with_overrides({"prompts.limit": 1000}))
    assert "8 prompts" in plan(config.with_overrides({"prompts.limit": 8}))
