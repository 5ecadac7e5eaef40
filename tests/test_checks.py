"""What does not fit together is one sentence before anything is generated."""

from __future__ import annotations

import json
import shutil

import pytest

from optune.loop.algorithm import run_optune
from optune.loop.checks import check_run
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
    assert len(lines) == 7 and all(line.endswith(".") for line in lines)


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


def test_a_reward_limit_below_prompt_and_response_is_told(parts):
    with pytest.raises(UserError, match=r"more than reward.max_length \(9\)"):
        check_run(parts[1].with_overrides({"reward.max_length": 9}))


def test_a_causal_model_is_no_reward_model(parts, random_llama):
    with pytest.raises(UserError, match=r"has no weights for score\.weight"):
        check_run(parts[1].with_overrides({"reward.model": str(random_llama)}))


def test_a_finished_run_is_not_checked_again(config, tmp_path, monkeypatch):
    import optune.loop.checks

    calls = []
    monkeypatch.setattr(optune.loop.checks, "check_run", lambda *parts: calls.append(parts))
    short = config.with_overrides({"iterations": 0, "prompts.limit": 8})
    run_optune(short, tmp_path / "run")
    run_optune(short, tmp_path / "run")
    assert len(calls) == 1
