"""What does not fit together is one sentence before anything is generated."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from optune.loop import memory_check
from optune.loop.algorithm import run_optune
from optune.loop.checks import check_run
from optune.loop.memory_check import Memory, Weights, check_memory, memory_here
from optune.types import UserError

ALTERNATING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}"
    "<user> {{ m['content'] }} {% endfor %}"
)
NO_TWO_ALIKE = (
    "{% for m in messages %}{% if not loop.first and m['role'] == loop.previtem['role'] %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}<user> {{ m['content'] }} {% endfor %}"
)
SYSTEM = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "sort cat"}]
TWO_USERS = [{"role": "user", "content": "cat"}, {"role": "user", "content": "sort it"}]


@pytest.fixture
def parts(tmp_path, random_llama, config):
    """A policy and a reward model of their own, one conversation of each shape, and a run of them."""
    from transformers import AutoConfig, LlamaForSequenceClassification

    shutil.copytree(random_llama, tmp_path / "policy")
    shutil.copytree(random_llama, tmp_path / "reward")
    LlamaForSequenceClassification(AutoConfig.from_pretrained(random_llama, num_labels=1)).save_pretrained(
        tmp_path / "reward"
    )
    chats = [[{"role": "user", "content": "sort dog"}], SYSTEM, TWO_USERS]
    rows = [json.dumps({"id": f"p{i}", "messages": chat}) for i, chat in enumerate(chats)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    named = {"policy.model": str(tmp_path / "policy"), "prompts.path": str(tmp_path / "prompts.jsonl")}
    reward = {"reward.kind": "sequence_classifier", "reward.model": str(tmp_path / "reward"), "reward.noise": 0.0}
    return tmp_path, config.with_overrides(named | reward)


def with_template(folder, template):
    (folder / "chat_template.jinja").write_text(template)


def with_token(folder, *_):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)


def with_config(folder, changes):
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def without_end(folder, *_):
    with_config(folder, {"eos_token_id": None})
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": None}))


def test_parts_that_fit_are_listed(parts):
    lines = check_run(parts[1])
    assert len(lines) == 9 and all(line.endswith(".") for line in lines)


@pytest.mark.parametrize(
    ("part", "change", "value", "sentence"),
    [
        ("policy", with_token, None, r"policy.*'\[PAD\]' with the id \d+, but its embedding has \d+ rows"),
        ("reward", with_token, None, r"reward model.*'\[PAD\]' with the id \d+, but its embedding has \d+ rows"),
        ("policy", without_end, None, "policy.*has no end token"),
        ("policy", with_template, ALTERNATING, "policy.*prompt 'p1' .turns: system, user.: no system turns"),
        ("reward", with_template, ALTERNATING, "reward model.*prompt 'p1' .turns: system, user.: no system turns"),
        ("reward", with_template, NO_TWO_ALIKE, "prompt 'p2' .turns: user, user.*alter"),
        ("policy", with_template, "{{ nobody.knows }}", "policy.*prompt 'p0'.*'nobody' is undefined"),
        ("policy", with_config, {"max_position_embeddings": 10}, "policy.*has 10 positions, but prompt 'p"),
        ("reward", with_config, {"max_position_embeddings": 10}, "reward model.*has 10 positions, but prompt 'p"),
        (
            "reward",
            with_config,
            {"id2label": {"0": "a", "1": "b"}},
            r"shape \[1, 32\].*says \[2, 32\]",
        ),
        ("policy", with_config, {"vocab_size": 5000}, "policy.*the weight .* has the shape"),
        ("reward", with_config, {"hidden_size": "wide"}, "can be loaded from .*hidden_size"),
    ],
)
def test_what_does_not_fit_is_a_sentence_before_anything_is_generated(parts, part, change, value, sentence):
    folder, config = parts
    change(folder / part, value)
    with pytest.raises(UserError, match=sentence):
        run_optune(config, folder / "run")
    assert not list((folder / "run").glob("stages/*/*/stage.json"))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "sort cat", "chosen": "cat", "rejected": 3}, "row 1: `rejected`"),
        (
            {"messages": SYSTEM, "chosen": "cat", "rejected": "dog"},
            "offline.*policy.*does not take prompt .*system turns",
        ),
        ({"id": "p0", "prompt": "sort cat", "chosen": "a", "rejected": "b"}, "prompt_id 'p0' is another prompt"),
        (None, "holds no pairs"),
    ],
)
def test_offline_pairs_are_read_before_anything_is_generated(parts, row, sentence):
    folder, config = parts
    (folder / "prompts.jsonl").write_text(json.dumps({"id": "p0", "prompt": "sort dog"}))
    (folder / "offline.jsonl").write_text(json.dumps(row) if row else "")
    with_template(folder / "policy", ALTERNATING)
    with pytest.raises(UserError, match=sentence):
        run_optune(config.with_overrides({"pairs.offline": str(folder / "offline.jsonl")}), folder / "run")
    assert not list((folder / "run").glob("stages/*/*/stage.json"))


def test_a_reward_limit_below_prompt_and_response_is_told(parts):
    with pytest.raises(UserError, match=r"more than reward.max_length \(9\)"):
        check_run(parts[1].with_overrides({"reward.max_length": 9}))


def test_a_causal_model_is_no_reward_model(parts, random_llama):
    with pytest.raises(UserError, match=r"has no weights for score\.weight"):
        check_run(parts[1].with_overrides({"reward.model": str(random_llama)}))


def test_a_reward_model_is_no_policy(parts):
    with pytest.raises(UserError, match=r"has no weights for lm_head\.weight"):
        check_run(parts[1].with_overrides({"policy.model": parts[1].reward.model}))


def test_a_quantised_policy_is_not_trained(parts):
    folder, config = parts
    with_config(folder / "policy", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})
    with pytest.raises(UserError, match=r"policy.*has quantised weights"):
        run_optune(config, folder / "run")


@pytest.mark.parametrize("section", ["generation", "reward", "training"])
def test_a_type_that_the_gpu_does_not_compute_in_is_told(parts, monkeypatch, section):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "Old GPU")
    with pytest.raises(UserError, match=rf"{section}\.dtype: the GPU .Old GPU. does not compute in bfloat16"):
        check_run(parts[1].with_overrides({f"{section}.dtype": "bfloat16"}))


# --- memory ----------------------------------------------------------------------------------------------------------

SEVEN_B = Weights(7_241_732_096, torch.bfloat16)
SMALL = Memory("a small machine", 16_000_000_000)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            r"Sampling with the policy takes at least 29\.0 GB of memory, and a small machine has 16\.0 GB: .*bfloat16",
        ),
        ({"generation.dtype": "auto"}, r"Training the policy takes at least 86\.9 GB .*training\.lora"),
        (
            {"generation.dtype": "auto", "training.lora.r": 8},
            r"Training the policy takes at least 29\.0 GB .*smaller model",
        ),
        (
            {"generation.dtype": "bfloat16", "training.optimizer": "adamw_torch", "launch.mode": "accelerate"}
            | {"launch.processes": 8, "launch.config": "zero3"},
            r"Training the policy takes at least 29\.0 GB",  # whole in each process while it scores
        ),
    ],
)
def test_weights_that_no_memory_holds_are_told_with_what_makes_them_fewer(config, changes, sentence):
    with pytest.raises(UserError, match=sentence) as refused:
        check_memory(config.with_overrides(changes), SEVEN_B, None, SMALL)
    assert "\n" not in str(refused.value)


def test_a_reward_model_counts_in_its_own_type(config):
    enough = {"generation.dtype": "bfloat16", "generation.engine": "server", "training.learner": "mine:learner"}
    config = config.with_overrides(enough)
    with pytest.raises(UserError, match=r"The reward model takes at least 29\.0 GB"):
        check_memory(config, SEVEN_B, SEVEN_B, SMALL)
    assert check_memory(config.with_overrides({"reward.dtype": "auto"}), SEVEN_B, SEVEN_B, SMALL)


@pytest.mark.parametrize(
    "changes",
    [
        {"generation.engine": "server", "training.learner": "mine:learner"},  # neither is known to run here
        {"generation.engine": "server", "launch.mode": "accelerate", "launch.processes": 2, "launch.command": "srun x"},
        {"generation.engine": "server", "launch.mode": "accelerate", "launch.processes": 2, "launch.config": "my.yaml"},
    ],
)
def test_what_runs_elsewhere_is_not_counted(config, changes):
    assert check_memory(config.with_overrides(changes), SEVEN_B, None, SMALL)


def test_a_tiny_model_is_never_refused(config):
    assert check_memory(config, Weights(1_000_000, torch.float32), Weights(1_000_000, torch.float32))
    assert check_memory(config, Weights(10**12, torch.uint8, packed=True), None, SMALL)  # its size is not known


def test_a_containers_limit_counts_and_none_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "limit").write_text("1000000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory_check, "LIMITS", (str(tmp_path / "none"), str(tmp_path / "absent")))
    assert memory_here().bytes > 10**8
    monkeypatch.setattr(memory_check, "LIMITS", (str(tmp_path / "limit"),))
    assert memory_here().bytes == 1_000_000


def test_where_there_is_a_gpu_its_memory_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = SimpleNamespace(name="Big GPU", total_memory=80_000_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: found)
    assert memory_here() == Memory("the GPU (Big GPU)", 80_000_000_000)


def test_a_finished_run_is_not_checked_again(config, tmp_path, monkeypatch):
    import optune.loop.checks

    calls = []
    monkeypatch.setattr(optune.loop.checks, "check_run", lambda *parts: calls.append(parts))
    short = config.with_overrides({"iterations": 0, "prompts.limit": 8})
    run_optune(short, tmp_path / "run")
    run_optune(short, tmp_path / "run")
    assert len(calls) == 1
