"""Hostile input to every reader and parser: a result that holds, or one sentence that names the file. Never a crash.

`fuzzing.py` says how many cases there are. Well-formed but strange input is in `test_fuzz_strange.py`.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fuzzing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import BY_HYPOTHESIS, cases, seeded, small_study
from hypothesis import given
from hypothesis import strategies as st

from eval.benchmarks.results import as_json, markdown, read_results
from eval.human_study.ratings import import_ratings, read_ratings
from eval.human_study.study import CHOICES, Study
from eval.judges.parser import parse_scores
from eval.outputs import prompt_set
from eval.win_score import read_outputs, read_reviews
from optune.chat.client import read_completion
from optune.chat.reply_log import ReplyLog
from optune.config import RunConfig, load_config, parse_config
from optune.generate.server import read_choice
from optune.pipeline.rows import as_stored, demonstration_of, preference_of, read_split, write_rows
from optune.pipeline.settings import DataConfig
from optune.prompts.files import load_prompts, write_prompts
from optune.selection.from_file import read_rewards
from optune.types import UserError

counted, folder = fuzzing.counted, fuzzing.folder  # fixtures

HOSTILE_TEXTS = [
    "",
    " ",
    "\0",
    "\ud800",
    "=1+1",
    "\u2028",
    "\u202e",
    "a" * 5000,
    "{}",
    "[" * 3000,
    "1e999",
    "１２",
    "\r\n",
    "',\"\t;",
]
HOSTILE = [None, True, False, 0, -1, 1, 2**70, 0.5, -0.0, 1e308, math.nan, math.inf, [], {}, [[]], [None], {"a": 1}]
HOSTILE += HOSTILE_TEXTS


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one to three of its nodes replaced, removed, doubled or renamed."""
    value = [copy.deepcopy(value)]  # a root of its own, so that the whole value can be replaced, too
    for _ in range(rng.randint(1, 3)):
        node: Any = value
        while True:
            place = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            inner = node[place]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
                break
            node = inner
        match rng.randrange(5):
            case 0 if isinstance(node, dict):
                del node[place]
            case 1 if isinstance(node, dict):
                node[rng.choice(HOSTILE_TEXTS)] = node.pop(place)
            case 2 if isinstance(node, list) and node is not value:
                node.insert(place, copy.deepcopy(inner))
            case 3 if isinstance(inner, str):
                cut = rng.randint(0, len(inner))
                node[place] = inner[:cut] + rng.choice(HOSTILE_TEXTS) + inner[cut:]
            case _:
                node[place] = copy.deepcopy(rng.choice(HOSTILE))
        if not value[0]:
            break
    return value[0]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes as they are, or cut off, or with some of them changed, or with others put in."""
    match rng.randrange(4):
        case 0:
            return data[: rng.randint(0, len(data))]
        case 1:
            changed = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                if changed:
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)
        case 2:
            cut = rng.randint(0, len(data))
            return (
                data[:cut]
                + rng.choice([b"\xff\xfe", b"\0", b"\r", b"[" * 9999, b"\xed\xa0\x80", b"NaN", b'"', b",\n"])
                + data[cut:]
            )
    return data


def as_text(value: Any, rng: random.Random) -> bytes:
    """A JSON value as a file's bytes, now and then damaged."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return damaged(text, rng) if rng.random() < 0.3 else text


def or_one_sentence(read: Callable[[Path], Any], path: Path) -> Any:
    """What was read; None where it was refused with a sentence that names the file."""
    try:
        return read(path)
    except UserError as error:
        assert path.name in str(error)
        return None


def parts(words: str, separator: str = "|") -> list[str]:
    return words.split(separator)


# --- judge replies ---


NUMBERS = ["1", "10", "8", "9.5", "8.0", "0", "11", "100", "1000", "-3", "7,5", "１０", "8/10", "8 out of 10"]
WORDS = parts(
    "Assistant 1|Assistant 2|Answer A|AI Assistant 2|Both assistants|score|a score of|Scores:|rating|: |, | and |"
    " to |\n|\r\n|. |**|(|)|[|]|/10|out of 10|'s|is|I cannot rate|respectively|—|\u2028|\0|`|“|_"
)
REPLY_PARTS = NUMBERS * 2 + WORDS
STRANGE = [*"０９．／*`#_²½٣১", "\u2028", "\u202e", "\0", "\ud800", "\U0001f600", "\r\n", "e9", "９"]
PIECES = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=8))


def text_of(rng: random.Random, words: Sequence[str], most: int) -> str:
    """Up to `most` of these words, and of characters of all kinds between them."""
    kinds = [
        lambda: rng.choice(words),
        lambda: rng.choice(words),
        lambda: "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randint(0, 8))),
        lambda: "".join(rng.choice(STRANGE) for _ in range(rng.randint(0, 4))),
    ]
    return "".join(rng.choice(kinds)() for _ in range(rng.randint(0, most)))


@given(st.lists(PIECES, max_size=12).map("".join))
@cases(0.25)
def test_any_reply_is_two_numbers_that_it_holds_or_none(reply):
    check_reply(reply)


@seeded(0.25, first=BY_HYPOTHESIS)
def test_any_further_reply_is_two_numbers_that_it_holds_or_none(rng):
    check_reply(text_of(rng, REPLY_PARTS, 12))


def check_reply(reply: str) -> None:
    scores = parse_scores(reply)
    if scores is not None:
        narrow = reply.translate({code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)})
        assert all(0 <= s <= 100 and math.isfinite(s) for s in scores)
        assert set(scores) <= {float(number) for number in re.findall(r"\d+(?:\.\d+)?", re.sub(r"[*`#_]", "", narrow))}


SCORES = [n / 2 for n in range(2, 21)]
FORMS = (
    "{a:g} {b:g}\n{prose}",
    "{a:g}, {b:g}\n{prose}",
    "**{a:g} {b:g}**\n\n{prose}",
    "Scores: {a:g} {b:g}\n{prose}",
    "Assistant 1: {a:g}\nAssistant 2: {b:g}\n{prose}",
    "{prose}\nScores:\nAssistant 1: {a:g}/10\nAssistant 2: {b:g}/10",
    "{prose}\nI give Assistant 1 a score of {a:g} and Assistant 2 a score of {b:g}.",
)
PROSE = parts("the first answer is clear and helpful but long while second lacks detail", " ")


@seeded(0.1)
def test_scores_in_a_known_form_are_read_as_they_are(rng):
    a, b, words = rng.choice(SCORES), rng.choice(SCORES), rng.choices(PROSE, k=rng.randint(1, 12))
    reply = rng.choice(FORMS).format(a=a, b=b, prose=" ".join(words).capitalize() + ".")
    assert parse_scores(reply) == (a, b), reply


@seeded(0.01)
def test_a_reply_that_repeats_itself_takes_no_time(rng):
    piece, started = text_of(rng, REPLY_PARTS, 4), time.process_time()
    parse_scores((piece * rng.randint(1, 2000))[:50_000])
    assert time.process_time() - started < 5


CHAT_BODY = {"id": "1", "model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
CHAT_BODY |= {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "8 9"}}]}
TEXT_BODY = {"choices": [{"text": "a b", "finish_reason": "stop", "token_ids": [1, 2], "logprobs": {"content": []}}]}


@seeded(0.02)
def test_any_body_of_an_endpoint_is_a_reply_or_a_value_error(folder, rng):
    """What the clients take for a failure that may pass."""
    chat = rng.random() < 0.5
    body = as_text(mutated(CHAT_BODY if chat else TEXT_BODY, rng), rng)
    try:
        found = read_completion("key", body) if chat else read_choice(body)
    except ValueError:
        return
    if chat:
        with ReplyLog(folder / "log.jsonl") as log:
            log.append(found)
        with ReplyLog(folder / "log.jsonl") as log:
            assert log.replies == {"key": found} and found.text.strip()
        (folder / "log.jsonl").unlink()
    else:
        assert isinstance(found["text"], str)


# --- prompts, answers and rewards ---

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
PROMPT_ROWS = [
    {"prompt": "One?"},
    {"prompt_id": "b", "messages": CHAT, "category": "greeting"},
    {"id": 7, "prompt": CHAT},
    {"prompt_id": "d", "messages": json.dumps(CHAT)},
    {"instruction": "Two?", "output": "Yes.", "prompt_id": "e"},
    {"conversations": ["Three?", "No."], "dataset": "x"},
]


@seeded(0.2)
def test_any_prompt_file_is_prompts_that_can_be_written_again_or_one_sentence(folder, rng):
    rows = mutated(rng.sample(PROMPT_ROWS, rng.randint(1, 4)), rng)
    kind = rng.choice(("jsonl", "parquet", "json", "csv"))
    path = folder / f"prompts.{kind}"
    if kind == "parquet":
        path.write_bytes(_parquet(rows, rng))
    elif kind == "jsonl" and isinstance(rows, list):
        path.write_bytes(b"".join(as_text(row, rng) + b"\n" for row in rows))
    else:
        path.write_bytes(as_text(rows, rng))
    for read in (load_prompts, lambda path: prompt_set(str(path))):
        prompts = or_one_sentence(read, path)
        if prompts is not None:
            assert prompts and all(p.text.strip() for p in prompts)
            assert len({p.prompt_id for p in prompts}) == len(prompts)
            write_prompts(folder / "again.parquet", prompts)
            assert load_prompts(folder / "again.parquet") == prompts


TRAINING_ROWS = [
    (demonstration_of, {"prompt": "One?", "completion": "Yes."}),
    (demonstration_of, {"prompt": CHAT, "completion": [{"role": "assistant", "content": "Yes."}]}),
    (demonstration_of, {"messages": [*CHAT, {"role": "assistant", "content": "Hi."}], "category": "greeting"}),
    (demonstration_of, {"messages": json.dumps([*CHAT, {"role": "assistant", "content": "Hi."}])}),
    (demonstration_of, {"text": "Once upon a time."}),
    (preference_of, {"prompt": "One?", "chosen": "Yes.", "rejected": "No.", "score_chosen": 1, "score_rejected": "0"}),
    (preference_of, {"chosen": "Well, yes.", "rejected": "Well, no."}),
    (preference_of, {side: [*CHAT, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}),
]


@seeded(0.1)
def test_any_row_to_train_on_is_stored_or_one_sentence(folder, rng):
    parse, row = rng.choice(TRAINING_ROWS)
    rows = [mutated(row, rng), row]
    path = folder / "train.jsonl"
    path.write_bytes(b"".join(as_text(one, rng) + b"\n" for one in rows))

    def encode(one: Any) -> dict[str, Any]:
        return {"length": 1, **(as_stored(one) if parse is preference_of else {"text": str(one.turns) + one.text})}

    data = DataConfig(path=str(path), held_out=0.5)
    split = or_one_sentence(lambda _: read_split(data, parse, encode, 0), path)
    if split is not None:
        assert split.counts["offered"] == 2
        write_rows(folder / "train.parquet", [*split.train, *split.held_out])


def _parquet(rows: Any, rng: random.Random) -> bytes:
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    file = io.BytesIO()
    try:
        table = pa.Table.from_pylist(rows or [{"prompt": "a"}])
        pq.write_table(table, io.BytesIO())
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # no such table can exist
        table = pa.table({"prompt": pa.array([b"\xff", b"ok"]).cast(pa.binary())})
    if rng.random() < 0.1:
        invalid = pa.array([b"a\xffb", b"ok"]).view(pa.string()) if rng.random() < 0.5 else pa.array([1, None])
        table = pa.table({"prompt": invalid})
    pq.write_table(table, file)
    return damaged(file.getvalue(), rng) if rng.random() < 0.3 else file.getvalue()


ANSWERS = [{"instruction": "a?", "output": "b", "prompt_id": "1"}, {"instruction": "c?", "output": ""}]
REVIEWS = [{"prompt_id": "1", "order": o, "reply": r} for o, r in (("AB", "8 9"), ("BA", "9 8"))]
REWARDS = [{"prompt_id": "a", "reward": 0.5}, {"prompt_id": 2, "reward": "1e3"}]


@seeded(0.1)
def test_any_file_of_answers_reviews_or_rewards_is_read_or_refused(folder, rng):
    read, rows = rng.choice([(read_outputs, ANSWERS), (read_reviews, REVIEWS), (read_rewards, REWARDS)])
    rows = mutated(rows, rng)
    path = folder / "rows.jsonl"
    lines = rows if isinstance(rows, list) else [rows]
    path.write_bytes(b"".join(as_text(row, rng) + b"\n" for row in lines))
    found = or_one_sentence(read, path)
    if found is not None and read is read_rewards:
        assert all(math.isfinite(reward) for reward in found[1])
    if found is not None and read is read_reviews:
        assert all(v.outcome in ("win", "tie", "lose", "unparsed") for v in found[0])


# --- configuration ---

NANO = load_config("nano").model_dump()
YAML_PARTS = ["[" * 500, "- " * 500]  # too deep for the reader; its time grows with the square
YAML_PARTS += parts(
    "seed|: |\n|  |- |[|]|{|}|&a |*a|!!python/name:os.system |!!binary |<<: |preset|nano|0.5|.inf|1e999|null|~|'|\"|# |"
    "policy|model|selection|ratio|\t|? |: *a|%YAML 9\n|---\n|2001-01-01|0x1f|1_000|\0|\ud800|"
    "2001-99-99|!!int |!!bool |!!timestamp |!!set |12:99:99"
)


@seeded(0.1)
def test_any_configuration_is_valid_or_says_in_one_sentence_what_is_wrong(rng):
    data = mutated(NANO, rng)
    try:
        config = parse_config(data, "mine.yaml")
    except UserError as error:
        assert str(error).startswith("mine.yaml: ")
    else:
        assert isinstance(config, RunConfig) and 0 < config.selection.ratio <= 1 and config.generation.n >= 2
        assert parse_config(json.loads(json.dumps(config.model_dump())), "again") == config


@given(st.lists(st.one_of(st.sampled_from(YAML_PARTS), st.text(max_size=4)), max_size=20).map("".join))
@cases(0.05)
def test_any_yaml_file_is_a_configuration_or_one_sentence(folder, text):
    check_yaml(folder, text)


@seeded(0.05, first=BY_HYPOTHESIS)
def test_any_further_yaml_file_is_a_configuration_or_one_sentence(folder, rng):
    check_yaml(folder, text_of(rng, YAML_PARTS, 20))


def check_yaml(folder: Path, text: str) -> None:
    path = folder / "mine.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_config(file=path), RunConfig)
    except UserError as error:
        assert "\n" not in str(error).strip()


# --- ratings ---


@pytest.fixture(scope="module")
def study(folder: Path) -> tuple[Path, Study]:
    """A study of 4 prompts and 2 raters."""
    return small_study(folder, lambda name, i: f"{name} says {i}")


@seeded(0.09)
def test_any_ratings_file_gives_ratings_of_the_study_and_every_row_is_accounted_for(study, rng):
    folder, drawn = study
    rater = rng.choice(drawn.raters)
    kind = rng.choice(("page", "label studio", "csv"))
    path = folder / f"returned.{'csv' if kind == 'csv' else 'json'}"
    if kind == "csv":
        path.write_bytes(damaged(_csv(drawn, rater, rng), rng))
    else:
        whole = _page(drawn, rater) if kind == "page" else _label_studio(drawn, rater)
        path.write_bytes(as_text(mutated(whole, rng), rng))
    (folder / "study" / "ratings.jsonl").unlink(missing_ok=True)
    report = import_ratings(folder / "study", [path])
    kept = read_ratings(folder / "study", drawn)
    assert report.accepted == len(kept) and all(r.choice in CHOICES for r in kept)
    mine = {item.item_id for item in drawn.items_of(kept[0].rater)} if kept else set()
    assert {r.item for r in kept} <= mine and len({r.item for r in kept}) == len(kept)
    assert report.accepted + report.refused + report.files_refused > 0 or not kept


def _page(study: Study, rater: str) -> dict[str, Any]:
    rows = [
        {"item": item.item_id, "item_digest": study.item_digest(item), "choice": "1", "rated_at": "2026-01-01"}
        for item in study.items_of(rater)
    ]
    head = {"format": "human-study-ratings/1", "study": study.study_id, "rater": rater}
    return {**head, "page_digest": study.page_digests[rater], "simulated": False, "ratings": rows}


def _label_studio(study: Study, rater: str) -> list[dict[str, Any]]:
    tasks = []
    for item in study.items_of(rater):
        names = zip(("question", "answer_1", "answer_2"), study.texts(item), strict=True)
        data = {"study": study.study_id, "rater": rater, "item": item.item_id, **dict(names)}
        result = [{"from_name": "rating", "value": {"choices": ["2"]}}]
        tasks.append({"data": data, "annotations": [{"result": result, "created_at": "2026", "was_cancelled": False}]})
    return tasks


def _csv(study: Study, rater: str, rng: random.Random) -> bytes:
    from eval.human_study.spreadsheet import COLUMNS

    rows = [[study.study_id, rater, i.item_id, *study.texts(i), "same"] for i in study.items_of(rater)]
    rows = mutated(rows, rng)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=rng.choice(",;\t"))
    writer.writerow(COLUMNS)
    writer.writerows(
        [map(str, row) if isinstance(row, list) else [str(row)] for row in (rows or [])]
        if isinstance(rows, list)
        else []
    )
    return text.getvalue().encode("utf-8", "surrogatepass")


# --- lm-eval results ---

RESULTS = {
    "results": {
        "gsm8k": {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.01, "alias": "gsm8k"},
        "hellaswag": {"acc_norm,none": 0.6, "acc_norm_stderr,none": 0.005},
        "truthfulqa_mc2": {"acc,none": 0.4, "acc_stderr,none": 0.01},
        "mmlu_anatomy": {"acc,none": 0.5, "acc_stderr,none": 0.04},
        "harness|hendrycksTest-anatomy|5": {"acc": 0.5, "acc_stderr": 0.04},
    },
    "groups": {"mmlu": {"acc,none": 0.55, "acc_stderr,none": 0.004}},
    "group_subtasks": {"mmlu": ["mmlu_anatomy"], "gsm8k": []},
    "config": {"model": "hf", "model_args": {"pretrained": "some/model"}, "limit": None, "num_fewshot": 5},
    "versions": {"gsm8k": 3.0, "hellaswag": 1.0},
    "n-shot": {"gsm8k": 5, "hellaswag": 10},
    "n-samples": {"gsm8k": {"original": 1319, "effective": 1319}},
    "task_hashes": {"gsm8k": "0" * 64},
    "model_name": "some/model",
}


@seeded(0.1)
def test_any_results_file_is_scores_or_one_sentence(folder, rng):
    path = folder / "results.json"
    path.write_bytes(as_text(mutated(RESULTS, rng), rng))
    models = or_one_sentence(lambda path: read_results([path]), path)
    for model in models or []:
        told = {s: v for v in RESULTS["results"].values() for s in v.values() if isinstance(s, float)}
        for score in model.scores.values():
            assert math.isnan(score.value) or 0 <= score.value <= 1
            assert score.task.startswith("mmlu") or score.value in told or not 0 < score.value < 1
    if models is not None:
        assert isinstance(markdown(models), str) and json.dumps(as_json(models))
