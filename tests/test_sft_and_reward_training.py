"""SFT and Bradley-Terry training on TRL's trainers, and the sandbox's models built with them."""

from __future__ import annotations

import json
from statistics import mean

import pytest

from optune import sandbox
from optune.sandbox.parts import models as sandbox_models
from optune.training.sft import TrainingSettings, as_dataset, encode, hold_out, train_sft
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


def test_answers_computed_once_for_all_their_comparisons_give_the_same_loss_and_gradient(random_llama, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    from optune.training.comparisons_trainer import ComparisonsTrainer

    answers = [[5, 6, 7, 1], [5, 8, 1], [5, 9, 9, 10, 1]]
    rows = [{"chosen_ids": answers[i], "rejected_ids": answers[j]} for i, j in ((0, 1), (0, 2), (1, 2))]
    seen, found = [], []
    for trainer_class in (RewardTrainer, ComparisonsTrainer):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(random_llama, num_labels=1)
        model.register_forward_pre_hook(lambda _, __, kw: seen.append(len(kw["input_ids"])), with_kwargs=True)
        trainer = trainer_class(
            model=model,
            args=RewardConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False),
            train_dataset=as_dataset(rows, ["chosen_ids"], TrainingSettings(learning_rate=1e-3)),
            processing_class=AutoTokenizer.from_pretrained(random_llama),
        )
        loss = trainer.compute_loss(model, trainer.data_collator(rows))
        loss.backward()
        found.append((loss.item(), model.score.weight.grad))
    assert seen == [6, 3]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-7)


def test_rows_are_trained_on_in_their_order_where_answers_are_shared(random_llama, tmp_path):
    from optune.training.reward_model import train_reward_model

    rows = [
        {"prompt": f"say {word}", "chosen": word, "rejected": other}
        for word in ("one", "two", "three", "four")
        for other in ("five", "six")
    ]
    settings = TrainingSettings(learning_rate=1e-2, num_train_epochs=8, batch_size=4, held_out=0.25)
    changed = []
    found = train_reward_model(
        random_llama, llama_tokenizer(random_llama), rows, settings, tmp_path,
        prepare=lambda model: changed.append(model.config.num_labels), each_answer_once=True,
    )  # fmt: skip
    assert changed == [1] and found["rows"] == {"train": 6, "held_out": 2, "too_long": 0}
    assert found["train_loss"] < 0.6


def llama_tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
