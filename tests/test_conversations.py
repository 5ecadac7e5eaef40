"""What a row asks is one question for every reader: used in full, or refused with its row, never in part."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.outputs import prompt_set
from optune.pairs.offline import read_offline_pairs
from optune.prompts.conversation import conversation_of, transcript
from optune.prompts.files import load_prompts, write_prompts
from optune.prompts.tokens import encode_prompts
from optune.types import Prompt, Response, UserError
from optune.utils.checkpoints import load_tokenizer

U, A, S = "user", "assistant", "system"
WORDS = st.text("abcdefgh ", min_size=1, max_size=12).filter(str.strip)


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


HISTORY = chat((S, "Be brief."), (U, "I am Bob."), (A, "Hello."), (U, "Who am I?"))

# The same question in every form that data sets have, each with the turns that it means.
FORMS = {
    "text": ({"prompt": "Hi"}, chat((U, "Hi"))),
    "chat": ({"messages": HISTORY}, HISTORY),
    "chat in prompt": ({"prompt": HISTORY}, HISTORY),
    "an answer at the end is no part of it": ({"messages": [*HISTORY, *chat((A, "Bob."))]}, HISTORY),
    "chat as JSON text": ({"messages": json.dumps(HISTORY)}, HISTORY),
    "prompt beside its history": ({"prompt": "Who am I?", "messages": HISTORY}, HISTORY),
    "UltraChat": ({"prompt": "Hi", "messages": chat((U, "Hi"), (A, "Yo"), (U, "And?"), (A, "!"))}, chat((U, "Hi"))),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
        chat((U, "Hi")),
    ),
    "LIMA": ({"conversations": ["Q1", "A1", "Q2"]}, chat((U, "Q1"), (A, "A1"), (U, "Q2"))),
    "Alpaca": ({"instruction": "Add.", "input": "1 and 2", "output": ""}, chat((U, "Add.\n\n1 and 2"))),
    "Alpaca without input": ({"instruction": "Add.", "input": ""}, chat((U, "Add."))),
    "system column": ({"system": "Be brief.", "prompt": "Hi"}, chat((S, "Be brief."), (U, "Hi"))),
    "null beside": ({"prompt": None, "messages": HISTORY}, HISTORY),
    "empty beside": ({"prompt": "Hi", "messages": []}, chat((U, "Hi"))),
    "empty text beside": ({"prompt": "", "messages": HISTORY}, HISTORY),
    "system column beside a later system turn": (
        {"system": "Be brief.", "messages": [*HISTORY[:3], *chat((S, "Now be kind."), (U, "Who am I?"))]},
        [*HISTORY[:3], *chat((S, "Now be kind."), (U, "Who am I?"))],
    ),
    "null beside in the turns": (
        {"messages": [{"role": None, "from": "human", "content": None, "value": "Hi"}]},
        chat((U, "Hi")),
    ),
    "null beside the other way": (
        {"messages": [{"role": U, "from": None, "content": "Hi", "value": None}]},
        chat((U, "Hi")),
    ),
    "parts": ({"messages": [{"role": U, "content": [{"type": "text", "text": "Hi"}]}]}, chat((U, "Hi"))),
    "null fields of a turn": ({"messages": [{"role": U, "content": "Hi", "tool_calls": None}]}, chat((U, "Hi"))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_every_form_means_the_same_turns_to_every_reader(tmp_path, form, suffix):
    row, turns = FORMS[form]
    path = tmp_path / f"p{suffix}"
    if suffix == ".parquet":
        if "prompt" in row and isinstance(row["prompt"], list):
            pytest.skip("one column of one type, as in every form above")
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row]) if suffix == ".json" else json.dumps(row), "utf-8")
    expected = [dict(turn) for turn in turns]
    assert [p.chat for p in load_prompts(path)] == [expected]
    assert [p.chat for p in prompt_set(str(path))] == [expected]
    write_prompts(tmp_path / "stored.parquet", load_prompts(path))
    assert [p.chat for p in load_prompts(tmp_path / "stored.parquet")] == [expected]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": ["Write.", "Now in French."]}, "lists 2 questions"),
        ({"prompt": "Old", "messages": HISTORY}, "neither the first nor the last user turn"),
        ({"prompt": "a", "instruction": "b"}, "ask different things"),
        ({"messages": [*HISTORY, *chat((A, "x"), ("tool", "22C"))]}, "the last turn to be answered is 'tool'"),
        ({"messages": [*HISTORY, *chat((S, "x"))]}, "the last turn to be answered is 'system'"),
        ({"messages": [{"role": U, "content": "x"}, {"role": A, "content": None, "tool_calls": [{}]}]}, "calls a tool"),
        ({"messages": [{"role": U, "content": None}]}, "a list of"),
        ({"messages": [{"role": U, "content": [{"type": "image_url"}]}]}, "part of type 'image_url'"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "from 'robot'"),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, "a turn is from"),
        ({"prompt": "a", "input": "b"}, "`input` belongs to an `instruction`"),
        ({"system": "a", "messages": HISTORY}, "different; keep one"),
        ({"system": 3, "prompt": "a"}, "`system` must be a text"),
        ({"prompt": b"bytes"}, "a chat is a list of"),
        ({"data": {"prompt": "Hi"}}, r"found: data"),
    ],
)
def test_what_cannot_be_asked_in_full_is_refused_with_its_row(row, sentence):
    with pytest.raises(UserError, match=sentence) as refused:
        conversation_of(row, "file, row 7")
    assert str(refused.value).startswith("file, row 7: ") and "\n" not in str(refused.value)


@given(st.lists(st.tuples(st.sampled_from([U, A, S]), WORDS), min_size=1, max_size=6))
def test_no_turn_before_the_last_question_is_ever_lost(turns):
    given_turns = chat(*turns)
    try:
        asked = conversation_of({"messages": given_turns}, "row")
    except UserError:
        return
    assert [dict(turn) for turn in asked] == given_turns[: len(asked)] and asked[-1]["role"] == U
    assert all(turn["role"] == A for turn in given_turns[len(asked) :])


@pytest.mark.parametrize("prompt_id", [0, "0", False, 0.0])
def test_an_id_that_is_falsy_is_an_id(tmp_path, prompt_id):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt_id": prompt_id, "prompt": "Hi"}))
    assert load_prompts(tmp_path / "p.jsonl")[0].prompt_id == str(prompt_id)
    assert prompt_set(str(tmp_path / "p.jsonl"))[0].prompt_id == str(prompt_id)


def test_a_column_that_is_null_changes_no_id(tmp_path):
    """The id of a row without one is made of what it asks."""
    found = set()
    for number, extra in enumerate(({}, {"prompt": None}, {"messages": None, "id": None}, {"prompt_id": ""})):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps({**extra, "instruction": "Hi"}))
        found.add(load_prompts(path)[0].prompt_id)
    assert len(found) == 1


@pytest.mark.parametrize("absent", [None, float("nan"), ""])
def test_an_id_that_is_absent_leaves_the_next_ones_column(tmp_path, absent):
    rows = [{"prompt": "a", "prompt_id": absent, "id": "x"}, {"prompt": "b", "prompt_id": absent, "id": "y"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    assert [p.prompt_id for p in load_prompts(tmp_path / "p.parquet")] == ["x", "y"]


def test_what_is_not_read_is_counted(tmp_path):
    rows = [
        {"prompt": "Hi", "messages": chat((U, "Hi"), (A, "Yo"), (U, "And?")), "source": "web", "note": None},
        {"prompt": "Ho", "messages": chat((U, "Ho"))},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    counts: dict = {}
    load_prompts(tmp_path / "p.jsonl", counts=counts)
    assert counts == {"later_turns_not_asked": 1, "columns_not_read": ["source"]}


@pytest.mark.parametrize("name", ["P.JSONL", "p.Json", "p.jsonl"])
def test_a_byte_order_mark_is_read_over_and_another_encoding_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + '{"prompt": "Hällo"}\r\n{"prompt": "b"}\r\n'.encode())
    assert [p.text for p in load_prompts(path)] == ["Hällo", "b"]
    path.write_bytes('{"prompt": "a"}'.encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16 text; save it as UTF-8"):
        load_prompts(path)
    path.write_bytes('{"prompt": "a"}\n{"prompt": "é"}'.encode("latin-1"))
    with pytest.raises(UserError, match="row 2: not valid UTF-8"):
        load_prompts(path)


def test_a_conversation_needs_a_template_in_policy_and_reward_model(random_llama):
    tokenizer = load_tokenizer(random_llama)
    tokenizer.chat_template = None
    several = Prompt("p", "Who am I?", tuple(HISTORY))
    with pytest.raises(UserError, match="'p' is a conversation of 4 turns, and the policy's tokenizer has no chat"):
        encode_prompts(tokenizer, [several], 100)
    from optune.reward.sequence_classifier import SequenceClassifier

    classifier = SequenceClassifier.__new__(SequenceClassifier)
    classifier.tokenizer = tokenizer
    with pytest.raises(UserError, match="the reward model's tokenizer has no chat template"):
        classifier.encode([several], [Response("p", 0, 0, (5,), "x", "stop")])


def test_a_judge_reads_the_whole_conversation():
    assert transcript(Prompt("p", "Hi")) == "Hi"
    read = transcript(Prompt("p", "Who am I?", tuple(HISTORY)))
    assert all(turn["content"] in read for turn in HISTORY) and read.startswith("[System]\nBe brief.")


PAIR = {"chosen": [*HISTORY, *chat((A, "sort cat"))], "rejected": [*HISTORY, *chat((A, "list dog"))]}


@pytest.mark.parametrize(
    "asked", [{}, {"prompt": "Who am I?", "messages": HISTORY}, {"prompt": HISTORY}, {"prompt": HISTORY[:2]}]
)
def test_an_offline_pair_keeps_the_conversation_that_its_answers_continue(tmp_path, random_llama, asked):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**asked, **PAIR}))
    pairs = read_offline_pairs(tmp_path / "pairs.jsonl", load_tokenizer(random_llama), 100, 100)
    (prompt,) = pairs.prompts.values()
    assert prompt.chat == HISTORY and pairs.pairs[0].chosen.text == "sort cat"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({**PAIR, "prompt": "Another"}, "not how the conversation of `chosen` begins"),
        ({**PAIR, "rejected": chat((U, "Another"), (A, "x"))}, "continue different conversations"),
        ({**PAIR, "rejected": HISTORY}, "must end with the assistant's answer"),
        ({"prompt": "a", "chosen": "b", "rejected": [{"role": A, "content": None}]}, "with text in both"),
    ],
)
def test_an_offline_pair_whose_question_is_unclear_is_refused(tmp_path, random_llama, row, sentence):
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=sentence):
        read_offline_pairs(tmp_path / "pairs.jsonl", load_tokenizer(random_llama), 100, 100)
