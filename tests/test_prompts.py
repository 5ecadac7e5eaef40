"""Prompt files: every form that users have is read, and what cannot be read is named by file, row and column."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune.config import PromptsConfig
from optune.prompts.files import load_prompts, write_prompts
from optune.prompts.sources import fixed
from optune.types import Prompt, UserError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hi."},
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_plain_text_and_chat_rows_are_read(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", [{"prompt": "One?"}, {"prompt_id": "b", "messages": CHAT}, {"prompt": CHAT[1:]}])
    one, two, three = load_prompts(path)
    assert one.text == "One?" and one.chat == [{"role": "user", "content": "One?"}]
    assert two.prompt_id == "b" and two.text == "Hello?" and [m["role"] for m in two.messages] == ["system", "user"]
    assert three.messages == () and three.text == "Hello?"  # a chat of one user turn is a plain prompt


def test_ultrachats_schema_takes_the_prompt_and_not_the_answers(tmp_path):
    row = {"prompt": "Hello?", "prompt_id": "x", "messages": CHAT[1:]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "u.parquet")
    assert load_prompts(tmp_path / "u.parquet") == [Prompt("x", "Hello?")]


def test_ultrafeedbacks_schema_takes_the_chat(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"prompt": CHAT[1:2]}]), tmp_path / "u.parquet")
    assert load_prompts(tmp_path / "u.parquet")[0].text == "Hello?"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no prompts"),
        (b'{"prompt": "a"}\nnonsense\n', "row 2: not a JSON object"),
        (b'{"prompt": "a"}\n{"question": "b"}\n', r"row 2: no column `prompt` or `messages` \(found: question\)"),
        (b'{"prompt": "  "}\n', "row 1: the prompt is empty"),
        (
            b'{"prompt_id": 1, "prompt": "a"}\n{"prompt_id": 1, "prompt": "b"}\n',
            "row 2: prompt_id '1' was given before",
        ),
        (b'"text"\n', "row 1: expected an object"),
        (b'{"prompt": "a"}\n\n{"x": 1}\n', "row 3: no column"),
        (b'{"messages": "hello"}\n', "row 1: `messages` is text, but no JSON list"),
        (b'{"messages": [{"role": "user"}]}\n', "row 1: a chat is a list of"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}\n', "no user turn"),
        (b'{"prompt": "\\ud800"}\n', "row 1: the prompt holds a lone surrogate"),
        (b'{"prompt": "\xff"}\n', "row 1: not valid UTF-8"),
        (b'{"prompt": 7}\n', "row 1: a chat is a list of"),
    ],
)
def test_bad_rows_are_named(tmp_path, content, sentence):
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load_prompts(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_prompts(tmp_path / "none.jsonl")
    (tmp_path / "p.txt").write_text("a")
    with pytest.raises(UserError, match=r"read from \.jsonl, \.json, \.csv or \.parquet"):
        load_prompts(tmp_path / "p.txt")
    (tmp_path / "p.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        load_prompts(tmp_path / "p.parquet")


def test_rows_without_ids_that_repeat_a_text_are_one_prompt(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", [{"prompt": "a"}, {"prompt": "a"}, {"prompt": "b"}])
    assert [p.text for p in load_prompts(path)] == ["a", "b"]


def test_a_limit_takes_a_fixed_sample(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", [{"prompt": f"prompt {i}"} for i in range(100)])
    first = fixed(PromptsConfig(path=str(path), limit=10))
    assert first == fixed(PromptsConfig(path=str(path), limit=10)) and len(first) == 10
    assert first != fixed(PromptsConfig(path=str(path), limit=10, sample_seed=1))


def test_what_is_written_is_read_back(tmp_path):
    prompts = [Prompt("a", "Hello?", tuple(CHAT[:2]), "greeting"), Prompt("b", "Two?")]
    write_prompts(tmp_path / "p.parquet", prompts)
    assert load_prompts(tmp_path / "p.parquet") == prompts


@given(st.binary(max_size=200))
def test_any_bytes_are_prompts_or_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(data)
    try:
        assert load_prompts(path)
    except UserError as error:
        assert str(path) in str(error)
