"""A checkpoint's answers come out in AlpacaEval's form, and say how they were made."""

from __future__ import annotations

import json

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
