"""A checkpoint's answers come out in AlpacaEval's form, and say how they were made."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from eval import outputs
from optune.types import UserError


def run(*arguments: object) -> int:
    return outputs.main([str(a) for a in arguments])


@pytest.fixture
def answered(random_llama, tmp_path):
    out = tmp_path / "outputs.json"
    options = ("--limit", 5, "--max-new-tokens", 4, "--generator", "mine")
    assert run("--model", random_llama, "--prompts", "sandbox:lima", "--out", out, *options) == 0
    return out


def test_rows_have_alpaca_evals_form_and_state_the_decoding(answered):
    from optune.sandbox import prompts

    rows = json.loads(answered.read_text())
    assert [row["instruction"] for row in rows] == [p.text for p in prompts("lima", 5)]
    assert {row["generator"] for row in rows} == {"mine"}
    assert {row["decoding"] for row in rows} == {"greedy, at most 4 new tokens, hf engine, float32"}
    assert all(isinstance(row["output"], str) for row in rows)


def test_a_leaderboard_config_lies_beside(answered):
    config = yaml.safe_load(answered.with_suffix(".configs.yaml").read_text())
    assert config["mine"]["completions_kwargs"]["max_new_tokens"] == 4
    assert config["mine"]["completions_kwargs"]["do_sample"] is False


def test_an_existing_file_is_not_overwritten(answered, random_llama, capsys):
    before = answered.read_bytes()
    assert run("--model", random_llama, "--prompts", "sandbox:lima", "--out", answered) == 2
    assert "is there already" in capsys.readouterr().err
    assert answered.read_bytes() == before


def test_greedy_answers_are_the_same_again(random_llama):
    from optune.config import SamplingSettings

    settings = SamplingSettings(n=1, temperature=0, max_new_tokens=4)
    prompts = outputs.prompt_set("validation")[:4]
    once, again = (outputs.answer_prompts(random_llama, prompts, settings, seed=seed) for seed in (0, 1))
    assert once == again


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpaca.json", '[{"instruction": "one", "dataset": "koala"}, {"instruction": "two"}]'),
        ("lima.jsonl", '{"conversations": ["one"]}\n{"conversations": ["two"]}\n'),
        ("own.jsonl", '{"prompt": "one"}\n{"prompt": "two"}\n'),
        ("chat.jsonl", '{"messages": [{"role": "user", "content": "one"}]}\n{"prompt": "two"}\n'),
    ],
)
def test_local_files_of_every_form(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert [p.text for p in outputs.prompt_set(str(tmp_path / name))] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "[]", "at least one"),
        ("a.json", '[{"instruction": "x"}, {"output": "y"}]', "row 2"),
        ("a.json", '[{"instruction": "x"}, {"instruction": "x"}]', "row 2"),
        ("a.jsonl", '{"instruction": "x"}\n{"instr', "row 2"),
    ],
)
def test_a_bad_prompt_file_is_named_with_its_row(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told):
        outputs.prompt_set(str(tmp_path / name))


def test_an_unknown_prompt_set_names_the_known_ones(capsys):
    for name in ("nosuch", "sandbox:train"):
        assert run("--model", "m", "--prompts", name, "--out", "o.json") == 2
        assert "sandbox:lima" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--temperature", -1), ("--limit", 0)])
def test_an_impossible_option_is_named(capsys, option):
    assert run("--model", "m", "--prompts", "test", "--out", "o.json", *option) == 2
    assert option[0] in capsys.readouterr().err


def test_an_engines_own_options_reach_it():
    from eval.outputs import _settings

    own = _settings({"engine": "server"}, "http://127.0.0.1:9/v1", ["server.concurrency=3", "batch_size=7"])
    assert (own.server.base_url, own.server.concurrency, own.batch_size) == ("http://127.0.0.1:9/v1", 3, 7)
    with pytest.raises(UserError, match=r"server\.concurency: Extra inputs"):
        _settings({}, None, ["server.concurency=3"])
    with pytest.raises(UserError, match="name=value"):
        _settings({}, None, ["workers"])


def files_in(folder):
    return ("--model", folder / "model", "--prompts", folder / "p.json", "--out", folder / "o.json")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (
            "{{ raise_exception('no system turns') }}",
            r"chat template does not take prompt 'p' .turns: system, user.: no sys",
        ),
        ("{{ nobody.knows }}", "'nobody' is undefined"),
    ],
)
def test_a_conversation_that_the_template_does_not_take_is_one_sentence(tmp_path, random_llama, capsys, template, told):
    shutil.copytree(random_llama, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    chat = [{"role": "system", "content": "x"}, {"role": "user", "content": "sort cat"}]
    (tmp_path / "p.json").write_text(json.dumps([{"prompt_id": "p", "messages": chat}]))
    assert run("--model", tmp_path / "model", "--prompts", tmp_path / "p.json", "--out", tmp_path / "o.json") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and re.search(told, error)


def test_a_text_longer_than_a_table_of_positions_is_one_sentence(tmp_path, random_llama, capsys):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(random_llama)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=12, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "p.json").write_text(json.dumps([{"instruction": "sort cat"}]))
    argv = ["--model", tmp_path / "model", "--prompts", tmp_path / "p.json", "--out", tmp_path / "o.json"]
    assert run(*argv, "--max-new-tokens", 40) == 2
    assert "has 12 positions" in capsys.readouterr().err.splitlines()[-1]
    assert run(*files_in(tmp_path), "--max-new-tokens", 2) == 0
