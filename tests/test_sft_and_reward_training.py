"""SFT and Bradley-Terry training on TRL's trainers, and the sandbox's models built with them."""

from __future__ import annotations

import json
from statistics import mean

import pytest

from optune import sandbox
from optune.sandbox.parts import models as sandbox_models
from optune.training.sft import TrainingSettings, encode, hold_out, train_sft
from optune.types import UserError

SETTINGS = TrainingSettings(learning_rate=1e-3, batch_size=8, max_length=32)
ROWS = [
    {"prompt": f"repeat these words : {a} {b}", "completion": f"{a} {b} ."}
    for a in ("cat", "dog")
    for b in ("hat", "pie")
]


@pytest.fixture(scope="module")
def tokenizer():
    return sandbox_models.word_tokenizer()


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    root = tmp_path_factory.mktemp("sandbox")
    return root, sandbox_models.build(1000, root, sandbox_models.NANO)


def test_the_tokenizer_keeps_every_word_and_its_template_marks_the_turns(tokenizer):
    text = " ".join(sandbox.VOCABULARY)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    prompt, full = encode(
        tokenizer, [{"prompt": "add one and two and six for tom", "completion": "nine ."}], "completion"
    )[0]
    assert full[: len(prompt)] == prompt
    assert tokenizer.decode(full[len(prompt) :]) == "nine . <eos>"
    assert tokenizer.decode(prompt) == "<user> add one and two and six for tom <assistant>"


def test_held_out_prompts_are_never_trained_on():
    rows = [{"prompt": str(i // 3), "completion": "x"} for i in range(300)]
    train, held = hold_out(rows, TrainingSettings(learning_rate=1.0, held_out=0.1))
    assert len(train) + len(held) == 300 and len(held) == 30
    assert not {r["prompt"] for r in train} & {r["prompt"] for r in held}


def test_rows_that_cannot_train_are_refused_or_counted(tokenizer, tmp_path):
    model = sandbox_models.random_policy(0, sandbox_models.NANO, tokenizer)
    with pytest.raises(UserError, match="no rows"):
        train_sft(model, tokenizer, [], SETTINGS, tmp_path)
    long = [{"prompt": "cat", "completion": "dog " * 40}, {"prompt": "cow", "completion": "dog"}]
    metrics = train_sft(model, tokenizer, [*ROWS, *long], SETTINGS, tmp_path / "sft")
    assert sum(metrics["rows"].values()) == 6
    assert metrics["rows"]["too_long"] == 1


def test_prompts_may_be_chat_messages(tokenizer):
    chat = [{"prompt": [{"role": "user", "content": row["prompt"]}], "completion": row["completion"]} for row in ROWS]
    assert encode(tokenizer, chat, "completion") == encode(tokenizer, ROWS, "completion")


def test_a_nano_build_leaves_three_loadable_folders_and_its_reward_model_beats_chance(nano):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    _, models = nano
    for folder in (models.policy, models.baseline):
        AutoModelForCausalLM.from_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder).chat_template
    assert AutoModelForSequenceClassification.from_pretrained(models.reward).config.num_labels == 1
    for folder in (models.policy, models.reward, models.baseline):
        assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert models.report["reward"]["held_out_accuracy"] > 0.55
    assert models.report["sandbox_hash"] == sandbox.content_hash()


def test_a_build_is_made_once_and_keyed_by_seed_settings_and_world(nano, monkeypatch):
    root, models = nano
    assert sandbox_models.build(1000, root, sandbox_models.NANO) == models
    assert finished(root) == [sandbox_models.build_key(1000, sandbox_models.NANO)]
    key = sandbox_models.build_key(1000, sandbox_models.NANO)
    assert key != sandbox_models.build_key(1001, sandbox_models.NANO) != sandbox_models.build_key(1001)
    monkeypatch.setattr(sandbox, "content_hash", lambda: "another world")
    assert key != sandbox_models.build_key(1000, sandbox_models.NANO)


def finished(root) -> list[str]:
    """Folders that count as builds: not locks, nor what is being built."""
    return [path.name for path in root.iterdir() if not path.name.startswith(".")]


def test_an_interrupted_build_leaves_nothing_that_counts(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox_models, "_train_policy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sandbox_models.build(1000, tmp_path, sandbox_models.NANO)
    assert finished(tmp_path) == []


def test_the_report_of_a_build_holds_every_figure(nano):
    _, models = nano
    report = sandbox_models.report(models, prompts=64)
    json.dumps(report)
    assert set(report["gold_by_family"]) == set(sandbox.FAMILIES)
    assert report["gold_policy"] == pytest.approx(mean(report["gold_by_family"].values()), abs=0.5)
    assert 0 <= report["agreement_all"] <= 1 and -1 <= report["rank_correlation_across_prompts"] <= 1
