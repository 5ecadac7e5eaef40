"""Well-formed but strange input to every reader and parser: not only no crash, but the right value.

Each case begins with the value and writes it down as some user, spreadsheet, server or model would: with null fields,
ids of 0, extra turns, drafts of reasoning models, decimal commas, empty rows at the end, byte-order marks. What is read
must be that value. `fuzzing.py` says how many cases there are.
"""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import fuzzing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fuzzing import seeded, small_study

from eval.alpaca_eval.evaluate import pair_outputs, recorded_annotations
from eval.answers import read_outputs
from eval.arena_hard.games import parse_verdict
from eval.benchmarks.compare import compare
from eval.benchmarks.results import read_results
from eval.benchmarks.suites import PAPER
from eval.human_study.ratings import import_ratings, read_ratings
from eval.human_study.study import Study, read_answers
from eval.judges.choice import parse_choice
from eval.judges.parser import parse_scores
from eval.mt_bench.grading import parse_grade
from eval.outputs import prompt_set
from eval.win_score import match, read_reviews
from optune.chat.client import read_completion
from optune.config import load_config
from optune.generate.server import read_choice
from optune.pairs.offline import read_offline_pairs
from optune.prompts.files import load_prompts
from optune.selection.from_file import read_rewards
from optune.utils.checkpoints import load_tokenizer

counted, folder = fuzzing.counted, fuzzing.folder  # fixtures

BOM = b"\xef\xbb\xbf"
WORDS = [
    "sort",
    "cat",
    "dog.",
    "Is it?",
    "7,5",
    "0",
    "null",
    "",
    "ÄÖ",
    "日本",
    "\u2028",
    "\x85",
    '"',
    "'",
    "{x}",
    "<b>",
    "=",
]
Turns = list[dict[str, str]]


def text_of(rng: random.Random) -> str:
    """A text with at least one visible word."""
    return " ".join(["say", *rng.choices(WORDS, k=rng.randint(0, 3))])


def ids_of(rng: random.Random, n: int) -> list[Any]:
    """Different ids, falsy ones among them."""
    return rng.sample([0, 1, "x", "007", "2026-01-02", "1e5", "null", "-3", 12345678901234567890, "=1"], n)


def with_nulls(row: dict[str, Any], rng: random.Random, *names: str) -> dict[str, Any]:
    """The row with some of the fields that it has not, present but null or empty, in any order."""
    absent = {name: rng.choice([None, None, ""]) for name in names if name not in row and rng.random() < 0.5}
    items = [*row.items(), *absent.items()]
    rng.shuffle(items)
    return dict(items)


def write_rows(path: Path, rows: list[dict[str, Any]], rng: random.Random) -> Path:
    """Rows as JSONL, JSON or Parquet, by the file's name; the texts with a mark, other line ends and blank lines."""
    escape = rng.random() < 0.5
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema(rows)), path)
        return path
    if path.suffix == ".json":
        text = json.dumps(rows, ensure_ascii=escape, indent=rng.choice([None, 1]))
    else:
        end = rng.choice(["\n", "\r\n"])
        text = end.join(json.dumps(row, ensure_ascii=escape) for row in rows) + end * rng.randint(0, 3)
    path.write_bytes((BOM if rng.random() < 0.5 else b"") + text.encode())
    return path


def _schema(rows: list[dict[str, Any]]) -> pa.Schema:
    """All columns, of which some rows may have none."""
    columns = {name: value for row in rows for name, value in row.items() if value is not None}
    names = dict.fromkeys(name for row in rows for name in row)
    types = {name: pa.infer_type([columns[name]]) if name in columns else pa.null() for name in names}
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


# --- what is asked ---------------------------------------------------------------------------------------------------


def turns_of(rng: random.Random) -> Turns:
    """A conversation that ends with the user, now and then with a system turn and earlier ones."""
    turns = [{"role": "user", "content": text_of(rng)}]
    for _ in range(rng.choice([0, 0, 1, 2])):
        turns = [{"role": r, "content": text_of(rng)} for r in ("user", "assistant")] + turns
    if rng.random() < 0.3:
        turns = [{"role": "system", "content": text_of(rng)}, *turns]
    return turns


def asking(turns: Turns, rng: random.Random) -> dict[str, Any]:
    """The columns that ask this, in one of the forms that data sets have."""
    answered = [*turns, *([{"role": "assistant", "content": "An answer."}] if rng.random() < 0.4 else [])]
    system = turns[0]["role"] == "system"
    forms = [{"messages": answered}, {"messages": json.dumps(answered)}, {"conversations": _sharegpt(answered)}]
    forms.append(
        {"messages": [{"role": t["role"], "content": [{"type": "text", "text": t["content"]}]} for t in answered]}
    )
    forms.append({"prompt": turns[-1]["content"], "messages": answered})
    if system:
        forms.append({"system": turns[0]["content"], "messages": answered[1:]})
    if not system and len(turns) > 1:
        forms.append({"conversations": [turn["content"] for turn in answered]})
    if len(turns) == 1:
        forms += [{"prompt": turns[0]["content"]}, {"instruction": turns[0]["content"], "output": "An answer."}]
        first, _, last = turns[0]["content"].partition(" ")
        if last.strip():
            turns[0]["content"] = f"{first}\n\n{last}"
            return {"instruction": first, "input": last}
    return rng.choice(forms)


def _sharegpt(turns: Turns) -> list[dict[str, Any]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[turn["role"]], "value": turn["content"], "weight": None} for turn in turns]


def prompt_rows(rng: random.Random) -> tuple[list[dict[str, Any]], list[tuple[str, Turns]]]:
    """Rows of one form, and the id and turns of each."""
    chosen, form = ids_of(rng, rng.randint(1, 4)), rng.random()
    rows, expected = [], []
    for given in chosen:
        turns = turns_of(rng)
        row = asking(turns, random.Random(form))
        row = with_nulls(
            {**row, rng.choice(["prompt_id", "id"]): given}, rng, "prompt_id", "input", "system", "category"
        )
        rows.append(row)
        expected.append((str(given), turns))
    return rows, expected


@seeded(0.04)
def test_strange_prompt_files_ask_what_they_say(folder, rng):
    rows, expected = prompt_rows(rng)
    for suffix in (".jsonl", ".json"):
        path = write_rows(folder / f"prompts{suffix}", rows, rng)
        for read in (load_prompts, lambda path: prompt_set(str(path))):
            assert [(p.prompt_id, p.chat) for p in read(path)] == expected, rows


@seeded(0.01)
def test_strange_columns_of_a_table_ask_what_they_say(folder, rng):
    rows = [{"prompt": text_of(rng), "prompt_id": None, "id": f"q{i}"} for i in range(rng.randint(1, 4))]
    kept = [(row["id"], row["prompt"]) for row in rows]
    more = {"messages": None, "category": None, "system": None, "input": ""}
    rows = [{**row, **{k: v for k, v in more.items() if k in rng.sample(list(more), 2)}} for row in rows]
    names = {name for row in rows for name in row}
    path = write_rows(folder / "p.parquet", [{name: row.get(name) for name in names} for row in rows], rng)
    assert [(p.prompt_id, p.text) for p in load_prompts(path)] == kept


@pytest.fixture(scope="module")
def tokenizer(random_llama):
    return load_tokenizer(random_llama)


@seeded(0.01)
def test_strange_offline_pairs_are_what_they_say(folder, tokenizer, rng):
    rows, expected = prompt_rows(rng)
    sides = []
    for row, (_, turns) in zip(rows, expected, strict=True):
        chosen, rejected = f"good {text_of(rng)}", f"bad {text_of(rng)}"
        scores = rng.choice([(None, None), (0, -1), (0.0, -0.5)])
        whole = rng.random() < 0.5 and "input" not in row and "output" not in row
        row |= {"chosen": chosen, "rejected": rejected, "score_chosen": scores[0], "score_rejected": scores[1]}
        if whole:  # each answer as the whole chat
            row |= {side: [*turns, {"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
        sides.append((chosen, rejected, *scores))
    offline = read_offline_pairs(write_rows(folder / "off.jsonl", rows, rng), tokenizer, 10_000, 10_000)
    found = [(p.chosen.text, p.rejected.text, p.chosen.reward, p.rejected.reward) for p in offline.pairs]
    assert found == sides and not offline.left_out
    assert [(i, p.chat) for i, p in offline.prompts.items()] == expected


@seeded(0.03)
def test_strange_files_of_answers_pair_as_they_say(folder, rng):
    chosen = ids_of(rng, rng.randint(1, 4))
    column, same = rng.choice(["prompt_id", "id"]), rng.random() < 0.5
    rows = [
        {column: i, "instruction": "Write." if same else f"Write {n}.", "output": f"out {n}"}
        for n, i in enumerate(chosen)
    ]
    expected = [(row["instruction"], row["output"], row["output"]) for row in rows]
    rows = [with_nulls(row, rng, "prompt_id", "input", "messages", "generator", "category", "system") for row in rows]
    suffix = rng.choice([".json", ".jsonl"])
    outputs = write_rows(folder / f"o{suffix}", rows, rng)
    baseline = write_rows(folder / f"b{suffix}", rng.sample(rows, len(rows)), rng)
    contests = match(read_outputs(outputs), read_outputs(baseline))
    assert [(c.instruction, c.answer, c.baseline) for c in contests] == expected
    answers = read_answers(outputs)
    assert [a.prompt_id for a in answers] == [str(i) for i in chosen]
    assert [a.output for a in answers] == [f"out {n}" for n in range(len(rows))]


# --- what a judge says -----------------------------------------------------------------------------------------------

DRAFTS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<unused94>thought", "<unused95>"),
    ("```thinking", "```"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("<details>", "</details>"),
    ("<plan>", "</plan>"),
    ("<思考>", "</思考>"),
    ("<!--", "-->"),
    ("Here is my thought process:", "Here is my response:"),
]
IDEAS = ["8 6", "Assistant 1: 8/10, Assistant 2: 6/10.", "[[A>>B]]", "Rating: [[9]]", "A", "But wait,", "1999", "7,5"]


def drafted(answer: str, rng: random.Random) -> str:
    """The answer behind a draft of some family's, with verdicts in it."""
    begin, end = rng.choice(DRAFTS)
    draft = "\n".join(rng.choices(IDEAS, k=rng.randint(0, 5)))
    gap = rng.choice(["\n", "\n\n", "\n \n"])
    return f"{begin}\n{draft}\n{end}{gap}{answer}"


@seeded(0.06)
def test_drafts_change_no_verdict_and_without_an_answer_there_is_none(rng):
    a, b = rng.sample([n / 2 for n in range(2, 21)], 2)
    grade, level, letter = rng.randint(1, 10), rng.choice([2, 1, 0, -1, -2]), rng.choice("ABC")
    verdict = {2: "A>>B", 1: "A>B", 0: "A=B", -1: "B>A", -2: "B>>A"}[level]
    assert parse_scores(drafted(f"{a:g} {b:g}\nBecause it is so.", rng)) == (a, b)
    assert parse_grade(drafted(f"It is fine.\nRating: [[{grade}]]", rng)) == grade
    assert parse_verdict(drafted(f"My verdict: [[{verdict}]]", rng)) == level
    assert parse_choice(drafted(letter, rng)) == parse_choice(letter)
    cut = drafted("", rng).rstrip()
    for parse in (parse_scores, parse_grade, parse_verdict, parse_choice):
        assert parse(cut) is None, cut


@seeded(0.04)
def test_decimal_commas_are_decimals_or_unclear(rng):
    a, b = (rng.choice([n / 2 for n in range(2, 21)]) for _ in "ab")
    comma = [f"{x:.1f}".replace(".", ",") for x in (a, b)]
    between = rng.choice([" ", "\n", "; ", " | "])
    labelled = f"Assistant 1: {comma[0]}/10\nAssistant 2: {comma[1]}/10\nGut."
    assert parse_scores(labelled) == (a, b)
    assert parse_scores(f"{between.join(comma)}\nDie zweite ist besser.") in ((a, b), None)
    assert parse_scores(comma[0]) is None or "10" in comma[0]


@seeded(0.02)
def test_strange_reviews_are_the_replies_they_hold(folder, rng):
    rows = []
    for prompt_id in rng.sample([0, "", "a", 7, "7 "], 2):
        a, b = rng.sample(range(1, 11), 2)
        replies = {"AB": drafted(f"{a} {b}\nSo.", rng), "BA": f"{b} {a}"}
        rows += [with_nulls({"prompt_id": prompt_id, "order": o, "reply": r}, rng, "error") for o, r in replies.items()]
        rows[-1]["expected"] = "win" if a > b else "lose"
    wanted = [row.pop("expected") for row in rows if "expected" in row]
    rows = [row | {"finish_reason": rng.choice([None, "stop"])} for row in rows]
    verdicts, missing = read_reviews(write_rows(folder / "reviews.jsonl", rows, rng))
    assert [v.outcome for v in verdicts] == wanted and missing == 0


@seeded(0.04)
def test_strange_bodies_of_endpoints_are_the_replies_they_hold(rng):
    text, used = f"{text_of(rng)}.", [rng.choice([0, 7, 7.0]) for _ in range(2)]
    content = rng.choice([text, [{"type": "text", "text": text}]])
    if isinstance(content, list) and rng.random() < 0.5:
        content = [{"type": "thinking", "thinking": "8 6"}, *content]
    names = rng.choice([("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")])
    message = with_nulls({"role": "assistant", "content": content}, rng, "refusal", "tool_calls", "reasoning_content")
    choice = with_nulls({"message": message, "finish_reason": rng.choice(["stop", "length"])}, rng, "logprobs", "error")
    usage = {**dict(zip(names, used, strict=True)), "details": None}
    body = with_nulls({"choices": [choice], "usage": usage}, rng, "error", "id", "object", "model")
    space = rng.choice([b"", b"\n\n  \n"])  # what keeps a connection alive
    reply = read_completion("key", space + json.dumps(body).encode())
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == (text, *map(int, used))
    completion = with_nulls({"text": text, "finish_reason": "stop"}, rng, "logprobs", "token_ids", "error")
    assert read_choice(space + json.dumps({"choices": [completion], "error": None}).encode())["text"] == text


# --- annotations, rewards, ratings -----------------------------------------------------------------------------------


@seeded(0.005)
def test_strange_annotations_are_the_preferences_they_hold(folder, rng):
    n = rng.randint(1, 4)
    outputs, reference = (
        write_rows(folder / f"{name}.json", [{"instruction": f"q{i}", "output": f"{name}{i}"} for i in range(n)], rng)
        for name in "or"
    )
    wanted = [rng.choice([1, 2, 1.0, 1.25, 0, None, -1]) for _ in range(n)]
    rows = [
        with_nulls(
            {"instruction": f"q{i}", "output_1": f"r{i}", "output_2": f"o{i}", "preference": p},
            rng,
            "annotator",
            "raw_completion",
            "time_per_example",
        )
        for i, p in enumerate(wanted)
    ]
    pairs = pair_outputs(outputs, reference)
    found = recorded_annotations(write_rows(folder / "a.json", rng.sample(rows, n), rng), pairs)
    by_text = dict(zip(found["instruction"], found["preference"].fillna(-1), strict=True))
    means = {0: 1.5, None: -1}
    assert [by_text[f"q{i}"] for i in range(n)] == [means.get(p, p) for p in wanted]


@seeded(0.03)
def test_strange_files_of_rewards_are_the_rewards_they_hold(folder, rng):
    chosen = [str(i) for i in ids_of(rng, rng.randint(1, 4))]
    rewards = [rng.choice([0, -1.5, 2, 1e-3]) for _ in chosen]
    path = folder / f"r{rng.choice(['.csv', '.jsonl'])}"
    rows = [{"prompt_id": i, "reward": r} for i, r in zip(chosen, rewards, strict=True)]
    if path.suffix == ".jsonl":
        write_rows(path, [with_nulls(row, rng, "note") for row in rows], rng)
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=rng.choice(",;\t"), quoting=rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
        writer.writerows([("prompt_id", "reward", "note"), *((*row.values(), "") for row in rows)])
        writer.writerows([("", "", "")] * rng.randint(0, 3))
        path.write_bytes((BOM if rng.random() < 0.5 else b"") + text.getvalue().encode())
    assert read_rewards(path) == (chosen, [float(r) for r in rewards])


@pytest.fixture(scope="module")
def study(folder: Path) -> tuple[Path, Study]:
    """A study of 4 prompts, whose texts a spreadsheet may take for something else, and 2 raters."""
    hostile = ["1e5", "=1+1", "2026-01-02", "TRUE"]
    return small_study(folder, lambda name, i: f"{hostile[i]}{name * (i > 2)}")


@seeded(0.01)
def test_strange_returned_files_give_the_ratings_they_hold(study, rng):
    folder, drawn = study
    rater = rng.choice(drawn.raters)
    wanted = {item.item_id: rng.choice(["1", "2", "same", None]) for item in drawn.items_of(rater)}
    kind = rng.choice(["csv", "page", "label studio"])
    path = folder / f"back.{'csv' if kind == 'csv' else 'json'}"
    if kind == "csv":
        path.write_bytes(_spreadsheet(folder / "study" / "csv" / f"{rater}.csv", list(wanted.values()), rng))
    else:
        content = _page(drawn, rater, wanted) if kind == "page" else _label_studio(folder, rater, wanted, rng)
        path.write_bytes((BOM if rng.random() < 0.5 else b"") + json.dumps(content).encode())
    (folder / "study" / "ratings.jsonl").unlink(missing_ok=True)
    for _ in range(2):  # the second time, all of it is known
        report = import_ratings(folder / "study", [path])
        assert not report.refusals
        kept = {rating.item: rating.choice for rating in read_ratings(folder / "study", drawn)}
        assert kept == {item: choice for item, choice in wanted.items() if choice}


def _spreadsheet(path: Path, choices: list[str | None], rng: random.Random) -> bytes:
    """The rater's table as a spreadsheet saves it: another delimiter, numbers as such, empty rows at the end."""
    header, *rows = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
    said = [rng.choice(["Same", " same "]) if c == "same" else c or rng.choice(["", " "]) for c in choices]
    rows = [[*row[:-1], choice] for row, choice in zip(rows, said, strict=True)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=rng.choice(",;\t"), lineterminator=rng.choice(["\n", "\r\n"]))
    writer.writerows([header, *rows, *[[""] * rng.choice([0, 3, len(header)])] * rng.randint(0, 3)])
    return (BOM if rng.random() < 0.7 else b"") + text.getvalue().encode()


def _page(study: Study, rater: str, choices: dict[str, str | None]) -> dict[str, Any]:
    rows = [
        {"item": i.item_id, "item_digest": study.item_digest(i), "choice": choices[i.item_id]}
        for i in study.items_of(rater)
    ]
    head = {"format": "human-study-ratings/1", "study": study.study_id, "rater": rater, "simulated": None}
    return {**head, "page_digest": study.page_digests[rater], "ratings": rows}


def _label_studio(folder: Path, rater: str, choices: dict[str, str | None], rng: random.Random) -> list[dict[str, Any]]:
    tasks = json.loads((folder / "study" / "label_studio" / f"tasks-{rater}.json").read_text())
    for task in tasks:
        choice = choices[task["data"]["item"]]
        value = {"choices": [choice]} if choice else {"choices": rng.choice([None, []])}
        result = [{"from_name": "rating", "value": value}] if choice or rng.random() < 0.5 else []
        task["annotations"] = [{"result": result, "created_at": None, "was_cancelled": rng.choice([None, False])}]
    return tasks


# --- lm-eval ---------------------------------------------------------------------------------------------------------

DIFFERENT = ["revision=v2", "peft=org/a", "load_in_4bit=True", "gguf_file=x", "quantization=awq", "odd=0", "delta=d"]
ALIKE = ["batch_size=8", "revision=main", "peft=None", "load_in_4bit=False", "parallelize=True", "device=cpu"]


@seeded(0.02)
def test_strange_results_are_the_scores_they_hold_one_row_a_model(folder, rng):
    """Two files, of one model or of two, with what says nothing of a model among the arguments."""
    other = rng.random() < 0.5
    tasks = {"hellaswag": "acc_norm,none", "truthfulqa_mc2": "acc,none", "gsm8k": "exact_match,strict-match"}
    values = {task: rng.choice([0, 0.0, 0.25, 1, 1.0]) for task in tasks}
    split = rng.randint(1, 2)
    paths = []
    for number, names in enumerate((list(tasks)[:split], list(tasks)[split:])):
        arguments = ["pretrained=org/m", *rng.sample(ALIKE, 2), *(rng.sample(DIFFERENT, 2) if other and number else [])]
        given: Any = ",".join(arguments)
        if rng.random() < 0.5:
            given = dict(argument.split("=") for argument in arguments)
        results = {t: {tasks[t]: values[t], "alias": None, "extra": None} for t in names}
        content = with_nulls({"results": results, "config": {"model_args": given, "limit": None}}, rng)
        content |= {name: None for name in ("versions", "task_hashes", "n-shot", "groups") if rng.random() < 0.5}
        paths.append(folder / f"results_{number}.json")
        paths[-1].write_bytes((BOM if rng.random() < 0.5 else b"") + json.dumps(content).encode())
    rows = read_results(paths)
    assert len(rows) == 1 + other
    found = {score.task: score.value for row in rows for score in row.scores.values()}
    assert found == {task: float(value) for task, value in values.items()}
    assert all(row.average(PAPER) is None for row in rows)


@seeded(0.005)
def test_strange_sample_logs_are_the_scores_they_hold(folder, rng):
    scores = {run: [rng.choice([0, 1, True, 0.0, 1.0]) for _ in range(5)] for run in "ab"}
    for run, values in scores.items():
        for old in (folder / run).glob("*"):
            old.unlink()
        (folder / run).mkdir(exist_ok=True)
        rows = [
            {"doc_hash": f"h{i}", "prompt_hash": "p", "acc_norm": v, "filter": "none"} for i, v in enumerate(values)
        ]
        if rng.random() < 0.5:
            rows = [row | {"filter": None} for row in rows]
        name = rng.choice(["samples_hellaswag.jsonl", "samples_hellaswag_2026-01-02T03-04-05.6.jsonl"])
        write_rows(folder / run / name, rng.sample(rows, 5), rng)
        foreign = folder / run / "samples_hellaswag_multi_2026-01-02T03-04-05.6.jsonl"
        write_rows(foreign, [row | {"acc_norm": 1.0} for row in rows], rng)
    (found,), _, notes = compare(folder / "a", folder / "b")
    assert (found.n, found.mean_a, found.mean_b) == (5, sum(scores["a"]) / 5, sum(scores["b"]) / 5)
    assert len(notes) == 2 and all("hellaswag_multi" in note for note in notes)


# --- configuration ---------------------------------------------------------------------------------------------------

MINE = {
    "seed": 0,
    "iterations": 0,
    "policy": {"model": "sft"},
    "reward": {"model": "rm", "max_length": 256},
    "prompts": {"path": "p.jsonl", "limit": None, "max_tokens": 16},
    "generation": {"max_new_tokens": 8, "temperature": 1.0, "top_p": 0.9},
    "training": {"learning_rate": 5.0e-7, "lora": None},
    "selection": {"strategy": "lowest_reward", "ratio": 0.5},
}


@seeded(0.01)
def test_strange_yaml_is_the_configuration_that_it_says(folder, rng):
    path, plain = folder / "mine.yaml", folder / "plain.yaml"
    plain.write_text(yaml.safe_dump(MINE))
    empty = {name: None for name in ("pairs", "loss") if rng.random() < 0.5}  # every line commented out
    sections = list({**MINE, **empty}.items())
    rng.shuffle(sections)
    style = rng.choice(["block", "flow", "whole flow", "quoted"])
    if style == "quoted":  # a section of texts alone: quoted numbers are texts
        sections.sort(key=lambda section: section[0] != "policy")
        text = yaml.safe_dump(dict(sections[:1]), default_style='"') + yaml.safe_dump(dict(sections[1:]))
    else:
        flow = {"block": False, "flow": None, "whole flow": True}[style]
        text = yaml.safe_dump(dict(sections), sort_keys=False, default_flow_style=flow)
    if style != "whole flow":
        comments = ["", "# seed: 9\n", "\n", "   \n"]
        text = "".join(line + rng.choice(comments) for line in text.splitlines(keepends=True))
    text = rng.choice(["", "---\n"]) + text + rng.choice(["", "...\n", "\n\n"])
    text = text.replace("\n", rng.choice(["\n", "\r\n"]))
    path.write_bytes((BOM if rng.random() < 0.5 else b"") + text.encode())
    assert load_config(file=path) == load_config(file=plain)
