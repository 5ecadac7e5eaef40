"""`optune sft`, `optune reward` and `optune preference`: the models that a run starts from, on one's own data."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from optune.__main__ import main
from optune.config import load_section
from optune.pipeline.measures import agreement, calibration, difference, preference_measures, wilson
from optune.pipeline.rows import demonstration_of, preference_of, read_split
from optune.pipeline.settings import KINDS, DataConfig
from optune.pipeline.train import task_of, train_start_model
from optune.types import UserError
from optune.utils.files import read_json

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("one", "two", "three", "four", "five", "six")
SETTINGS = {"training": {"learning_rate": 1e-2, "batch_size": 8, "micro_batch_size": 4, "epochs": 2}, "threads": 1}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


# Preferences for the shorter answer; demonstrations of the same.
PREFERENCES = [
    {
        "prompt": f"add {a} and {b}",
        "chosen": a,
        "rejected": f"{a} {b} dog dog",
        "category": ("odd", "even")[place % 2],
        "score_chosen": 2.0,
        "score_rejected": 1.0 - place / 100,
    }
    for place, (a, b) in enumerate(product(WORDS, WORDS))
]
DEMONSTRATIONS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PREFERENCES]
AS_CHATS = [
    {
        "prompt": [user(row["prompt"])],
        "chosen": [assistant(row["chosen"])],
        "rejected": [assistant(row["rejected"])],
        **{name: row[name] for name in ("category", "score_chosen", "score_rejected")},
    }
    for row in PREFERENCES
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configured(command, model, path, **more):
    data = {"path": str(path), "held_out": 0.25, "max_length": 64}
    return load_section(KINDS[command], None, {**SETTINGS, "model": str(model), "data": data, **more})


def encoded(command, model, path, **data):
    """Train and held-out rows as the command stores them."""
    config = configured(command, model, path)
    task = task_of(command)
    encode = task.encoder(config, task.tokenizer(config))
    return read_split(config.data.model_copy(update=data), task.parse, encode, config.seed)


def ids_of(split, *names):
    return [[row[name].tolist() for name in names] for row in (*split.train, *split.held_out)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", PREFERENCES)


@pytest.fixture(scope="module")
def trained(random_llama, pairs, tmp_path_factory):
    """Command -> what it trained on the nano model, its configuration and folder."""
    folder = tmp_path_factory.mktemp("trained")
    demonstrations = jsonl(folder / "demonstrations.jsonl", DEMONSTRATIONS)
    made = {}
    for command in KINDS:
        config = configured(command, random_llama, demonstrations if command == "sft" else pairs)
        made[command] = train_start_model(command, config, folder / command), config, folder / command
    return made


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["reward", "preference"])
@pytest.mark.parametrize("kind", ["conversational", "implicit chats", "json", "parquet", "csv", "other names"])
def test_every_form_of_a_preference_is_the_same_row(random_llama, pairs, tmp_path, command, kind):
    import pandas as pd

    standard, columns = encoded(command, random_llama, pairs), None
    path = tmp_path / f"rows.{kind if kind in ('json', 'parquet', 'csv') else 'jsonl'}"
    if kind == "conversational":
        jsonl(path, AS_CHATS)
    elif kind == "implicit chats":
        whole = ({side: [*row["prompt"], *row[side]] for side in ("chosen", "rejected")} for row in AS_CHATS)
        jsonl(path, list(whole))
    elif kind == "json":
        path.write_text(json.dumps(PREFERENCES))
    elif kind == "parquet":
        pd.DataFrame(AS_CHATS).to_parquet(path)
    elif kind == "csv":
        pd.DataFrame(PREFERENCES).to_csv(path, index=False)
    else:
        columns = {"chosen": "better"}
        jsonl(path, [{"better": row.pop("chosen"), **row} for row in map(dict, PREFERENCES)])
    found = encoded(command, random_llama, path, columns=columns)
    names = ["chosen_ids", "rejected_ids"]
    assert sorted(ids_of(found, *names)) == sorted(ids_of(standard, *names)) and found.counts == standard.counts
    if kind != "implicit chats":
        assert [r["score_chosen"] for r in found.train] == [r["score_chosen"] for r in standard.train]


def test_what_two_texts_begin_with_is_their_prompt():
    row = {"chosen": "Question: who? Answer: the cat", "rejected": "Question: who? Answer: the cow"}
    found = preference_of(row, "rows.jsonl, row 1")
    assert (found.prompt.text, found.chosen, found.rejected) == ("Question: who? Answer: the", "cat", "cow")
    with pytest.raises(UserError, match=r"rows.jsonl, row 1: no column `prompt`, .* no beginning in common"):
        preference_of({"chosen": "cat", "rejected": "dog"}, "rows.jsonl, row 1")


def test_every_answer_of_a_chat_is_learnt_and_a_text_whole(random_llama, tmp_path):
    chat = [user("add one"), assistant("two"), user("sort cat dog"), assistant("cat dog")]
    rows = [{"messages": chat}, {"text": "one two"}, {"prompt": [user("add one")], "completion": [assistant("two")]}]
    split = encoded("sft", random_llama, jsonl(tmp_path / "rows.jsonl", rows))
    tokenizer = task_of("sft").tokenizer(configured("sft", random_llama, "rows.jsonl"))
    learnt = {}
    for row in (*split.train, *split.held_out):
        learnt[row["row"][-1]] = tokenizer.decode(row["labels"][row["labels"] != -100])
    assert learnt == {"1": "two </s> cat dog </s>", "2": "one two </s>", "3": "two </s>"}


def test_earlier_answers_that_the_template_shortens_are_not_learnt(random_llama, tmp_path):
    shutil.copytree(random_llama, tmp_path / "model")
    shortens = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<user> {{ m['content'] }} {% else %}<assistant> "
        "{{ m['content'] if loop.last else 'dog' }} </s> {% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant> {% endif %}"
    )
    (tmp_path / "model" / "chat_template.jinja").write_text(shortens)
    chat = [user("add one"), assistant("two"), user("sort cat"), assistant("cat")]
    rows = [{"messages": chat}, {"messages": [user("add six"), assistant("two")]}]
    split = encoded("sft", tmp_path / "model", jsonl(tmp_path / "rows.jsonl", rows))
    assert sorted(row["learnt"] for row in (*split.train, *split.held_out)) == [2, 2]


@pytest.mark.parametrize(
    ("command", "row", "told"),
    [
        ("reward", {"prompt": "add one", "chosen": "two"}, r"row 2: no `rejected` \(found: prompt, chosen\)"),
        ("reward", {"prompt": "add one", "chosen": "two", "rejected": 3}, "row 2: `rejected`: a chat is a list"),
        ("reward", {"prompt": " ", "chosen": "two", "rejected": "one"}, "row 2: the prompt is empty"),
        ("reward", {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": "x"}, "row 2: `score_chosen` must"),
        ("reward", [1], "row 2: expected an object"),
        ("preference", {"chosen": [user("add")], "rejected": [user("add")]}, "row 2: `chosen`: the chat must end"),
        ("sft", {"prompt": "add one", "answer": "two"}, "row 2: needs `prompt` and `completion`, or `messages`, or"),
        ("sft", {"messages": [user("add one")]}, "row 2: `messages` must end with the assistant's answer"),
        ("sft", {"prompt": "add", "completion": [user("no")]}, "row 2: `completion` must end with the assistant's"),
        ("sft", {"prompt": "add", "completion": "\ud800"}, "row 2: `completion` holds a lone surrogate"),
    ],
)
def test_a_bad_row_is_named_by_file_row_and_field(random_llama, tmp_path, command, row, told):
    good = DEMONSTRATIONS[0] if command == "sft" else PREFERENCES[0]
    path = jsonl(tmp_path / "rows.jsonl", [good, row])
    with pytest.raises(UserError, match=rf"rows\.jsonl, {told}"):
        encoded(command, random_llama, path)


def test_rows_that_cannot_train_are_counted_by_reason(random_llama, tmp_path):
    rows = [
        *PREFERENCES[:4],
        {"prompt": "add one", "chosen": "two", "rejected": "two"},
        {"prompt": "add one", "chosen": "two", "rejected": " "},
        {"prompt": "add one", "chosen": "two " * 80, "rejected": "one"},
    ]
    assert demonstration_of({"prompt": "add one", "completion": ""}, "row 1").unusable == "empty_response"
    counts = encoded("reward", random_llama, jsonl(tmp_path / "rows.jsonl", rows)).counts
    assert counts["left_out"] == {"identical_responses": 1, "empty_response": 1, "too_long": 1}
    assert counts["offered"] == counts["train"] + counts["held_out"] + 3


def test_no_prompt_is_on_both_sides_whatever_the_order_of_rows(random_llama, tmp_path):
    rows = [{**row, "prompt": f"add {row['chosen']}"} for row in PREFERENCES]
    splits = [
        encoded("reward", random_llama, jsonl(tmp_path / f"{n}.jsonl", rows[::step])) for n, step in enumerate((1, -1))
    ]
    held = [{row["key"] for row in split.held_out} for split in splits]
    assert held[0] == held[1] and not held[0] & {row["key"] for row in splits[0].train}


def test_prompts_of_a_held_out_file_are_not_trained_on(random_llama, pairs, tmp_path):
    held = jsonl(tmp_path / "held.jsonl", PREFERENCES[:6])
    split = encoded("reward", random_llama, pairs, held_out_path=str(held))
    assert len(split.held_out) == 6 and len(split.train) == 30
    assert split.counts["left_out"] == {"prompt_is_held_out": 6} and split.counts["offered"] == 42


def test_a_data_set_of_the_hub_is_read_by_its_name_and_split(random_llama, monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_list(PREFERENCES if split == "train" else PREFERENCES[:6])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    split = encoded("reward", random_llama, "team/pairs", held_out_path="team/pairs", held_out_split="test")
    assert asked == [("team/pairs", "train"), ("team/pairs", "test")]
    assert (len(split.train), len(split.held_out)) == (30, 6)


def test_a_single_prompt_is_refused_since_one_is_held_out(random_llama, tmp_path):
    with pytest.raises(UserError, match="at least two prompts"):
        encoded("reward", random_llama, jsonl(tmp_path / "rows.jsonl", PREFERENCES[:1]))


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", KINDS)
def test_held_out_rows_were_never_trained_on_and_the_model_learnt(trained, command):
    result, _, folder = trained[command]
    rows = next(Path(stage["path"]) for stage in result.stages if stage["stage"] == "rows")
    train, held = (pq.read_table(rows / f"{name}.parquet")["key"].to_pylist() for name in ("train", "held_out"))
    assert len(train) == 27 and len(held) == 9 and not set(train) & set(held)
    if command == "sft":
        assert result.measures["loss"] < result.measures["start_loss"]
    else:
        assert result.measures["agreement"]["share"] > 0.8
        assert result.measures["agreement_of_length_alone"]["share"] == 0
        assert set(result.measures["by_category"]) == {"odd", "even"}
        assert result.measures["margin_mean"] > 0
    told = pq.read_table(Path(result.stages[-1]["path"]) / "held_out.parquet")
    assert len(told) == 9 and {"loss" if command == "sft" else "reward_chosen"} <= set(told.column_names)
    card = (folder / result.role / "README.md").read_text()
    assert "27 trained on, 9 held out" in card and str(folder) not in card


@pytest.mark.parametrize("command", KINDS)
def test_a_finished_training_is_not_made_again_and_another_one_is_refused(trained, command, monkeypatch):
    result, config, folder = trained[command]
    told = []
    assert train_start_model(command, config, folder, on_stage=told.append).measures == result.measures
    assert [stage["reused"] for stage in told] == [True] * 3
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        train_start_model(command, config.model_copy(update={"seed": 1}), folder)


def test_what_was_trained_is_taken_by_a_run(trained, config, tmp_path):
    from optune.loop.algorithm import run_optune

    policy, reward = trained["sft"][0].model, trained["reward"][0].model
    changes = {"policy.model": str(policy), "iterations": 0, "prompts.limit": 8}
    changes |= {"reward": {"model": str(reward), "max_length": 64}}
    result = run_optune(config.with_overrides(changes), tmp_path / "run")
    assert result.history.frame["reward"].notna().all()


def test_rewards_of_held_out_rows_are_those_of_a_run(trained):
    from optune.config import RewardConfig
    from optune.reward.sequence_classifier import SequenceClassifier
    from optune.types import Prompt, Response

    result = trained["reward"][0]
    row = pq.read_table(Path(result.stages[-1]["path"]) / "held_out.parquet").to_pylist()[0]
    reward = SequenceClassifier(RewardConfig(model=str(result.model)))
    answers = [Response("p", 0, 0, (), row[side], "stop") for side in ("chosen", "rejected")]
    found = reward.score([Prompt("p", row["prompt"])] * 2, answers, seed=0)
    assert found == pytest.approx([row["reward_chosen"], row["reward_rejected"]], abs=1e-5)


def test_a_training_that_was_stopped_while_measuring_does_not_train_again(random_llama, pairs, tmp_path, monkeypatch):
    import optune.pipeline.reward as reward

    calls = []

    def stopped(*_):
        raise KeyboardInterrupt

    def counted(*arguments):
        calls.append(arguments)
        return reward.train(*arguments)

    fields = {name: getattr(reward.TASK, name) for name in reward.TASK.__dataclass_fields__}
    config = configured("reward", random_llama, pairs)
    monkeypatch.setattr(reward, "TASK", type(reward.TASK)(**{**fields, "train": counted, "evaluate": stopped}))
    with pytest.raises(KeyboardInterrupt):
        train_start_model("reward", config, tmp_path)
    assert not (tmp_path / "reward").exists() and len(calls) == 1
    monkeypatch.setattr(reward, "TASK", type(reward.TASK)(**{**fields, "train": counted}))
    assert train_start_model("reward", config, tmp_path).model == tmp_path / "reward" and len(calls) == 1


@pytest.mark.slow
def test_a_killed_training_ends_as_the_undisturbed_one(trained, random_llama, pairs, tmp_path):
    from optune.store import hash_files

    result, config, _ = trained["reward"]
    jsonl(tmp_path / "mine.yaml", [config.model_dump()])
    command = [sys.executable, "-m", "optune", "reward", "--config", "mine.yaml", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    while process.poll() is None and not list(tmp_path.glob("out/stages/reward-train/.*.tmp")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "reward").exists()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    weights = [hash_files(folder)["model.safetensors"] for folder in (tmp_path / "out" / "reward", result.model)]
    assert weights[0] == weights[1]


def test_a_loss_that_weighs_pairs_needs_scores_and_gets_them(trained, random_llama, pairs, tmp_path):
    config = configured("preference", random_llama, pairs, **{"loss.name": "wdpo"})
    result = train_start_model("preference", config, tmp_path / "wdpo")
    counts = next(stage["counts"] for stage in result.stages if stage["stage"] == "train")
    assert 0.7 < counts["beta_2"] < 1 and counts["weights/mean"] > 0.5  # gaps are 1 to 1.35
    bare = jsonl(
        tmp_path / "bare.jsonl", [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in PREFERENCES]
    )
    with pytest.raises(UserError, match=r"bare\.jsonl, row 1: loss 'wdpo' needs `score_chosen`"):
        train_start_model("preference", configured("preference", random_llama, bare, **{"loss.name": "wdpo"}), tmp_path)


def test_what_does_not_fit_is_told_before_anything_is_trained(random_llama, pairs, tmp_path):
    from optune.utils.checkpoints import load_tokenizer

    long = configured(
        "reward", random_llama, jsonl(tmp_path / "a.jsonl", [{**row, "chosen": "one " * 150} for row in PREFERENCES])
    )
    long = long.model_copy(update={"data": long.data.model_copy(update={"max_length": 500})})
    with pytest.raises(UserError, match=r"has 128 positions; lower data.max_length"):
        train_start_model("reward", long, tmp_path / "long")
    shutil.copytree(random_llama, tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('no such roles') }}")
    with pytest.raises(UserError, match=r"pairs\.jsonl, row 1: the chat template .* does not take it: no such roles"):
        train_start_model("preference", configured("preference", tmp_path / "model", pairs), tmp_path / "template")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="its embedding has"):
        train_start_model("sft", configured("sft", tmp_path / "model", pairs), tmp_path / "vocabulary")
    for name in ("long", "template", "vocabulary"):
        assert not list((tmp_path / name).glob("stages/*/*/stage.json"))


def test_a_base_model_gets_a_chat_template_or_is_told_that_it_needs_one(random_llama, tmp_path):
    shutil.copytree(random_llama, tmp_path / "base")
    template = tmp_path / "base" / "chat_template.jinja"
    template.rename(tmp_path / "chat.jinja")
    path = jsonl(tmp_path / "rows.jsonl", DEMONSTRATIONS)
    with pytest.raises(UserError, match=r"rows\.jsonl, row 1: is a chat, .* name one in chat_template"):
        encoded("sft", tmp_path / "base", path)
    for source in (tmp_path / "chat.jinja", random_llama):
        config = configured("sft", tmp_path / "base", path, chat_template=str(source))
        assert task_of("sft").tokenizer(config).chat_template


@pytest.mark.parametrize(
    ("command", "override", "told"),
    [
        ("reward", "training.learning_rat=1", "did you mean training.learning_rate"),
        ("reward", "training.batch_size=12", "must be a multiple of micro_batch_size"),
        ("preference", "training.start=sft", "start is an option of `optune run`"),
        ("sft", "data.held_out=1", "less than 1"),
    ],
)
def test_impossible_options_are_named(command, override, told, capsys):
    assert main([command, "--model", "m", "--data", "d.jsonl", "--out", "never", override]) == 2
    assert told in capsys.readouterr().err and not Path("never").exists()


def test_trackers_get_every_update_and_every_stage(random_llama, pairs, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = configured("reward", random_llama, pairs, report_to="tensorboard")
    train_start_model("reward", config, tmp_path)
    folder = next(path.parent for path in (tmp_path / "reports").rglob("events*"))
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    assert len(events.Scalars("train/loss")) == 8 and "evaluate/margin_mean" in events.Tags()["scalars"]


def test_the_folder_of_a_training_is_no_run_and_names_the_model_in_it(trained, config):
    from optune.finished.audit import audit_run
    from optune.loop.checks import check_run

    folder = trained["reward"][2]
    with pytest.raises(UserError, match="a model that `optune reward` trained, not a run"):
        audit_run(folder)
    with pytest.raises(UserError, match=r"no config\.json; '.*reward/reward' is one"):
        check_run(config.with_overrides({"reward": {"model": str(folder)}}))


# --- measures --------------------------------------------------------------------------------------------------------


def test_the_interval_of_agreement_is_wilsons_and_counts_prompts():
    from scipy import stats

    limits = stats.binomtest(7, 10).proportion_ci(method="wilson")
    assert wilson(0.7, 10) == pytest.approx((limits.low, limits.high), abs=1e-6)
    agrees = [True] * 7 + [False] * 3
    alone = agreement(agrees, [str(place) for place in range(10)])
    together = agreement(agrees, [str(place // 2) for place in range(10)])
    assert alone["share"] == together["share"] == 0.7 and together["low"] < alone["low"] < 0.7
    assert difference(agrees, agrees, "abcdefghij") == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_calibration_is_zero_where_probabilities_are_shares():
    import math

    gap = math.log(3)  # sigma of it is 0.75
    found = calibration([gap, gap, gap, -gap])
    assert found["error"] == pytest.approx(0) and found["bins"] == [{"rows": 4, "probability": 0.75, "agreement": 0.75}]
    assert calibration([10.0, -10.0])["error"] == pytest.approx(0.5, abs=1e-3)
    assert found["loss"] == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)


def test_equal_rewards_and_equal_lengths_do_not_agree():
    rows = [
        {"key": str(place), "category": "", "chosen": c, "rejected": "aa", "score_chosen": None, "score_rejected": None}
        for place, c in enumerate(("aa", "aaa"))
    ]
    found = preference_measures([0.0, 1.0], rows)
    assert found["agreement"]["share"] == found["agreement_of_length_alone"]["share"] == 0.5
    assert found["by_category"] == {} and found["where_chosen_is_longer"]["rows"] == 1


def test_rows_with_one_opening_stay_together():
    plain = demonstration_of(DEMONSTRATIONS[0], "row 1")
    chat = [user(DEMONSTRATIONS[0]["prompt"]), assistant("other"), user("sort cat"), assistant("cat")]
    later = {"chosen": [*chat[:3], assistant("dog")], "rejected": [*chat[:3], assistant("cow")]}
    assert plain.key == demonstration_of({"messages": chat}, "row 2").key == preference_of(later, "row 3").key
    assert plain.key != demonstration_of(DEMONSTRATIONS[1], "row 4").key


def test_a_sample_has_the_size_asked_for(random_llama, pairs):
    counts = encoded("reward", random_llama, pairs, limit=10).counts
    assert counts["offered"] == 10
    assert DataConfig(path="x").held_out == 0.05


# --- real preferences ------------------------------------------------------------------------------------------------


def test_a_reward_model_stands_beside_length_and_the_usual_generator(random_llama, tmp_path):
    from experiments.development.real_preferences import main as real_preferences
    from experiments.development.real_preferences import record

    annotations = []
    for place, row in enumerate(PREFERENCES):
        outputs = {"output_1": row["rejected"], "output_2": row["chosen"]}
        by = {"generator_1": "small", "generator_2": "large"}
        annotations.append({"instruction": row["prompt"], **outputs, **by, "preference": 1.9 if place % 3 else 1.2})
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    assert real_preferences([str(tmp_path / "annotations.json"), "--pairs", str(tmp_path / "pairs.jsonl")]) == 0
    config = configured("reward", random_llama, tmp_path / "pairs.jsonl")
    train_start_model("reward", config, tmp_path / "out")
    found = record(tmp_path / "annotations.json", tmp_path / "out", "nano")
    alone = found["generator_alone"]
    assert alone["generator"] == "large" and alone["rows"] == found["measures"]["agreement"]["rows"] == 9
    assert alone["share"] == pytest.approx(1 - found["measures"]["agreement_of_length_alone"]["share"])


def test_the_table_of_real_preferences_is_the_recorded_one():
    from experiments.development.real_preferences import PLACE, table
    from experiments.documents import written

    assert written(PLACE) == table()


# --- the examples of the documents -----------------------------------------------------------------------------------


def test_the_documents_example_runs_from_data_to_a_run(random_llama, prompt_file, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "own_model.md").read_text()
    section = page.split("## Train the models that a run starts from")[1].split("\n## ")[0]
    commands = re.search(r"```\n(python -m optune sft.*?)```", section, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(random_llama, "path/to/base")
    jsonl(Path("demonstrations.jsonl"), DEMONSTRATIONS)
    jsonl(Path("pairs.jsonl"), PREFERENCES)
    shutil.copy(prompt_file, "prompts.parquet")
    Path("reward.yaml").write_text(re.search(r"```yaml\n(.*?)```", section, re.DOTALL)[1])
    own = {"iterations": 0, "prompts": {"path": "prompts.parquet", "limit": 4}, "generation": {"max_new_tokens": 4}}
    Path("mine.yaml").write_text(json.dumps({**own, "training": {"batch_size": 4, "micro_batch_size": 4}}))
    for command in commands.splitlines():
        words = shlex.split(command, comments=True)
        if words:
            assert words[:3] == ["python", "-m", "optune"]
            assert main(words[3:]) == 0, capsys.readouterr().err
    assert read_json("models/dpo/manifest.json")["config"]["loss"]["name"] == "dpo"
    assert Path("runs/mine-seed0/policy/config.json").exists()
