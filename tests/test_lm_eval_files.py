"""Results and sample logs of lm-eval: two models are never one row, and a benchmark is the suite's tasks alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eval.benchmarks.compare import compare
from eval.benchmarks.results import read_results
from eval.benchmarks.run import main
from eval.benchmarks.suites import PAPER, SANDBOX, mmlu_subjects
from optune.types import UserError

FIRST = {"hellaswag": {"acc_norm,none": 0.5, "acc_norm_stderr,none": 0.01}, "mmlu": {"acc,none": 0.6}}
SECOND = {"truthfulqa_mc2": {"acc,none": 0.4}, "gsm8k": {"exact_match,strict-match": 0.3}}
BASE = "pretrained=org/base"


def results_of(*files: dict, folder: Path) -> list:
    """The rows of results files in folders of their own, all called results.json."""
    for number, content in enumerate(files):
        path = folder / str(number) / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return read_results([folder])


def file_of(results: dict, arguments: str | dict | None = BASE, config: dict | None = None, **more) -> dict:
    return {"results": results, "config": {"model": "hf", "model_args": arguments, **(config or {})}, **more}


# --- whom a file measured --------------------------------------------------------------------------------------------

ANOTHER_MODEL = {
    "revision": {"arguments": f"{BASE},revision=step1000"},
    "revision as lm-eval found it": {"config": {"model_revision": "step1000"}},
    "adapter": {"arguments": f"{BASE},peft=org/adapter"},
    "adapter, arguments as an object": {"arguments": {"pretrained": "org/base", "peft": "org/adapter"}},
    "adapter, and the file named after it": {"arguments": f"{BASE},peft=org/a", "model_name": "org/a"},
    "adapter of vLLM": {"arguments": f"{BASE},lora_local_path=adapters/a"},
    "delta weights": {"arguments": f"{BASE},delta=org/delta"},
    "4 bit": {"arguments": f"{BASE},load_in_4bit=True"},
    "4 bit, as an object": {"arguments": {"pretrained": "org/base", "load_in_4bit": True}},
    "quantisation of vLLM": {"arguments": f"{BASE},quantization=awq"},
    "quantised file": {"arguments": f"{BASE},gguf_file=q4.gguf"},
    "dtype of the first leaderboard": {"config": {"model_dtype": "4bit"}},
    "chat template": {"chat_template": "{{ messages }}", "chat_template_sha": "ab12"},
    "chat template without its hash": {"chat_template": "{{ messages }}"},
    "system text": {"system_instruction": "Be brief."},
    "thinking": {"arguments": f"{BASE},enable_thinking=False"},
    "an argument that nobody knows yet": {"arguments": f"{BASE},layers=12"},
    "another name": {"arguments": "pretrained=org/base2"},
    "another name of an endpoint's model": {"arguments": "model=org/base,base_url=http://a/v1"},
}


@pytest.mark.parametrize("difference", ANOTHER_MODEL)
def test_what_a_file_says_of_its_model_makes_a_row_of_its_own(difference, tmp_path):
    rows = results_of(file_of(FIRST), file_of(SECOND, **ANOTHER_MODEL[difference]), folder=tmp_path)
    assert len({row.model for row in rows}) == 2
    assert {frozenset(row.scores) for row in rows} == {
        frozenset({"HellaSwag", "MMLU"}),
        frozenset({"TruthfulQA", "GSM8K"}),
    }
    assert all(row.average(PAPER) is None for row in rows)


THE_SAME_MODEL = {
    "as it is": {},
    "main revision": {"arguments": f"{BASE},revision=main", "config": {"model_revision": "main"}},
    "how it ran": {"arguments": f"{BASE},parallelize=True,trust_remote_code=True,batch_size=8"},
    "present but null": {"arguments": {"pretrained": "org/base", "peft": None, "load_in_4bit": False, "revision": ""}},
    "null in text": {"arguments": f"{BASE},peft=None,load_in_4bit=False"},
    "nulls around": {"versions": None, "task_hashes": None, "chat_template": None, "groups": None, "n-shot": None},
    "spaces": {"arguments": f"{BASE}, revision=main"},
    "commit and dtype that only one file knows": {"config": {"model_sha": "c0ffee", "model_dtype": "torch.bfloat16"}},
}


@pytest.mark.parametrize("alike", THE_SAME_MODEL)
def test_what_says_nothing_of_the_model_makes_no_other_row(alike, tmp_path):
    (row,) = results_of(file_of(FIRST), file_of(SECOND, **THE_SAME_MODEL[alike]), folder=tmp_path)
    assert row.model == "org/base" and row.average(PAPER)[0] == pytest.approx(0.45)


@pytest.mark.parametrize("key", ["model_sha", "model_dtype", "peft_sha"])
def test_a_commit_or_dtype_separates_files_that_contradict_each_other(key, tmp_path):
    values = ("torch.float16", "torch.float32") if key == "model_dtype" else ("c0ffee", "beef")
    files = [file_of(r, config={key: v}) for r, v in zip((FIRST, SECOND), values, strict=True)]
    rows = results_of(*files, folder=tmp_path)
    assert len({row.model for row in rows}) == 2 and all(v.removeprefix("torch.") in str(rows) for v in values)


def test_files_that_name_no_model_are_of_no_common_model(tmp_path):
    rows = results_of({"results": FIRST}, {"results": SECOND}, folder=tmp_path)
    assert len({row.model for row in rows}) == 2


def test_shots_that_contradict_each_other_make_rows_of_their_own(tmp_path):
    ten = file_of({"hellaswag": {"acc_norm,none": 0.8}}, **{"n-shot": {"hellaswag": 10}})
    nought = file_of(FIRST, **{"n-shot": {"hellaswag": 0, "mmlu": 0}})
    usual, other = results_of(nought, ten, file_of(SECOND, **{"n-shot": {"gsm8k": "5"}}), folder=tmp_path)
    assert (usual.model, other.model) == ("org/base", "org/base (shots=10)")
    assert usual.average(PAPER)[0] == pytest.approx(0.45) and other.scores["HellaSwag"].value == 0.8
    with pytest.raises(UserError, match=r"holds HellaSwag of org/base, and so does .*give one"):
        results_of(ten, ten, folder=tmp_path / "twice")


# --- which tasks are a benchmark -------------------------------------------------------------------------------------


def test_a_benchmark_is_its_tasks_and_no_others_of_that_beginning():
    (mmlu,) = (benchmark for benchmark in PAPER if benchmark.is_group)
    assert len(mmlu.tasks) == 57 and set(mmlu.tasks) == {f"mmlu_{subject}" for subject in mmlu_subjects()}
    (group,) = (benchmark for benchmark in SANDBOX if benchmark.is_group)
    assert group.tasks == tuple(f"sandbox_group_{family}" for family in ("opposite", "translate", "find", "pick"))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (["mmlu_anatomy"], "has 1 of the 57 tasks"),
        ([f"mmlu_{s}" for s in mmlu_subjects()] + ["mmlu_pro_math"], "57 of the 57 .* and mmlu_pro_math beside"),
        ([f"mmlu_{s}_generative" for s in mmlu_subjects()], "has 0 of the 57 .* and 52 more"),
    ],
)
def test_a_group_of_other_tasks_is_left_out_and_told(members, says, tmp_path):
    (row,) = results_of(file_of(FIRST, group_subtasks={"mmlu": members}), folder=tmp_path)
    assert list(row.scores) == ["HellaSwag"]
    (note,) = row.notes
    assert note.startswith("MMLU is left out") and re.search(says, note)


def test_what_is_not_read_of_a_results_file_is_told(tmp_path):
    results = {"winogrande": {"acc,none": 0.7}, "hellaswag": {"acc,none": 0.4}, "gsm8k": SECOND["gsm8k"]}
    sizes = {"gsm8k": {"original": 1319, "effective": 100}}
    (row,) = results_of(file_of(results, **{"n-samples": sizes}), folder=tmp_path)
    assert list(row.scores) == ["GSM8K"]
    told = " ".join(row.notes)
    assert "hellaswag has no acc_norm,none (it has acc,none)" in told and "(1): winogrande" in told
    assert "100 of its 1319 items" in told


@pytest.mark.parametrize("value", ["0.61", "0,61", "61%", True, [0.5], {"value": 0.5}])
def test_a_score_that_is_no_number_is_refused_by_name(value, tmp_path):
    with pytest.raises(UserError, match=r"results\.json: hellaswag has acc_norm,none = .* not a number"):
        results_of(file_of({"hellaswag": {"acc_norm,none": value}}), folder=tmp_path)


def test_one_task_twice_in_a_leaderboards_file_is_refused(tmp_path):
    twice = {f"harness|hellaswag|{shots}": {"acc_norm": 0.5} for shots in (0, 10)}
    with pytest.raises(UserError, match="holds hellaswag twice"):
        results_of({"results": twice, "config_general": {"model_name": "m"}}, folder=tmp_path)


def test_the_shots_of_a_group_are_those_of_its_tasks(tmp_path):
    """lm-eval 0.4.1 writes 0 for the group, whatever its tasks had."""
    shots = {"mmlu": 0} | {f"mmlu_{subject}": 5 for subject in mmlu_subjects()}
    (row,) = results_of(file_of(FIRST, config={"num_fewshot": 5}, **{"n-shot": shots}), folder=tmp_path)
    assert row.scores["MMLU"].shots == 5


# --- sample logs -----------------------------------------------------------------------------------------------------


def log(folder: Path, task: str, scores: list, metric: str = "acc", name: str | None = None, **fields) -> None:
    folder.mkdir(exist_ok=True)
    rows = [
        {"doc_hash": f"h{i}", "prompt_hash": "p", "filter": "none", **fields, metric: score}
        for i, score in enumerate(scores)
    ]
    rows = [{key: value for key, value in row.items() if value is not Ellipsis} for row in rows]
    path = folder / (name or f"samples_{task}_2026-01-02T03-04-05.678.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("foreign", ["mmlu_anatomy_continuation", "mmlu_flan_cot_zeroshot_anatomy", "mmlu_pro_math"])
def test_tasks_outside_the_suite_are_never_pooled_and_are_told(foreign, tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    for run, score in ((a, 1.0), (b, 0.0)):
        log(run, foreign, [1 - score] * 10)
    with pytest.raises(UserError, match=f"nothing to compare; .*10 samples of tasks in no benchmark.*: {foreign}"):
        compare(a, b)
    for run, score in ((a, 1.0), (b, 0.0)):
        log(run, "mmlu_anatomy", [score] * 5)
    (anatomy,), averages, notes = compare(a, b)
    assert (anatomy.column, anatomy.n, anatomy.mean_a, anatomy.mean_b) == ("MMLU (1 of 57 tasks)", 5, 1.0, 0.0)
    assert (
        averages == []
        and len(notes) == 2
        and all(f"10 samples of tasks in no benchmark are left out: {foreign}" in n for n in notes)
    )


def test_a_suite_has_an_average_only_where_no_task_is_missing(tmp_path):
    for run in (tmp_path / "a", tmp_path / "b"):
        for benchmark in SANDBOX:
            metric, filtered = benchmark.metric.split(",")
            for task in benchmark.tasks:
                log(run, task, [1.0, 0.0, 1.0], metric, filter=filtered)
    assert [average.suite for average in compare(tmp_path / "a", tmp_path / "b")[1]] == ["sandbox"]
    for run in (tmp_path / "a", tmp_path / "b"):
        next(run.glob("samples_sandbox_group_find_*")).unlink()
    results, averages, _ = compare(tmp_path / "a", tmp_path / "b")
    assert averages == [] and "Sandbox group (3 of 4 tasks)" in [c.column for c in results]


STRANGE_LOGS = {
    "no filter, as old versions have it": {"filter": ...},
    "a filter that is null": {"filter": None},
    "renamed": {"name": "samples_hellaswag.jsonl"},
}


@pytest.mark.parametrize("strange", STRANGE_LOGS)
def test_strange_logs_give_what_plain_ones_give(strange, tmp_path):
    scores = {"a": [1.0, 0.0, 1.0, 1.0], "b": [True, False, False, 0]}
    for run, values in scores.items():
        log(tmp_path / run, "hellaswag", values, "acc_norm")
        log(tmp_path / f"strange-{run}", "hellaswag", values, "acc_norm", **STRANGE_LOGS[strange])
    log_file = next((tmp_path / "strange-a").iterdir())
    log_file.write_bytes(b"\xef\xbb\xbf" + log_file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\n")
    plain = compare(tmp_path / "a", tmp_path / "b")
    assert compare(tmp_path / "strange-a", tmp_path / "strange-b") == plain and plain[0][0].n == 4


SCORED = {"task": "hellaswag", "metric": "acc_norm"}
REFUSED_LOGS = {
    "which filter": ({"task": "gsm8k", "metric": "exact_match", "filter": ...}, "by which filter .*strict-match"),
    "another filter": (
        SCORED | {"filter": "x"},
        "no sample was read by the filter none",
    ),
    "another metric": ({"task": "hellaswag", "metric": "acc"}, "has no acc_norm .*acc"),
    "no hash": (SCORED | {"doc_hash": ...}, "has no doc_hash"),
    "no number": (
        SCORED | {"scores": ["0,5"] * 3},
        "is '0,5', which is not a number",
    ),
    "renamed beyond recognition": ({"task": "x", "name": "log.jsonl"}, r"it has log\.jsonl"),
}


@pytest.mark.parametrize("why", REFUSED_LOGS)
def test_a_log_that_cannot_be_read_says_what_it_lacks(why, tmp_path, capsys):
    fields, says = REFUSED_LOGS[why]
    for run in "ab":
        log(tmp_path / run, **{"scores": [1.0, 0.0, 1.0], **fields})
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and re.search(says, told)


def test_a_score_that_is_null_is_left_out_and_counted(tmp_path):
    log(tmp_path / "a", "hellaswag", [1.0, None, 0.0], "acc_norm")
    log(tmp_path / "b", "hellaswag", [0.0, 1.0, 0.0], "acc_norm")
    (result,), _, notes = compare(tmp_path / "a", tmp_path / "b")
    assert (result.n, result.undefined) == (2, 1) and "1 items left out" in notes[0]


def test_bytes_that_are_no_text_are_one_sentence(tmp_path):
    for run in "ab":
        log(tmp_path / run, "hellaswag", [1.0, 0.0], "acc_norm")
    path = next((tmp_path / "b").iterdir())
    for data, says in (
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        (b"[1]\n", "not an lm-eval sample"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=says):
            compare(tmp_path / "a", tmp_path / "b")
