"""Files of answers, preferences and rewards: a row is used in full by every reader, or refused with its number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval.alpaca_eval.evaluate import pair_outputs, recorded_annotations
from eval.answers import read_outputs
from eval.human_study.analysis import read_verdicts
from eval.human_study.study import read_answers
from eval.reward_agreement import read_preferences
from eval.win_score import match
from optune.selection.from_file import read_rewards
from optune.types import UserError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "I am Bob."},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Who am I?"},
]
TURNS = "[System]\nBe brief.\n\n[User]\nI am Bob.\n\n[Assistant]\nHello.\n\n[User]\nWho am I?"

# What a row says beside its instruction, and what a judge and a rater are to read.
ASKED = {
    "the instruction alone": ({"instruction": "Add."}, "Add."),
    "an input": ({"instruction": "Add.", "input": "1 and 2"}, "Add.\n\n1 and 2"),
    "an empty input": ({"instruction": "Add.", "input": ""}, "Add."),
    "an input that is null": ({"instruction": "Add.", "input": None}, "Add."),
    "a system text": ({"instruction": "Add.", "system": "Be brief."}, "[System]\nBe brief.\n\n[User]\nAdd."),
    "the turns before": ({"instruction": "Who am I?", "messages": CHAT}, TURNS),
}


def write(path: Path, rows: list) -> Path:
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)
    return path


@pytest.mark.parametrize("form", ASKED)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_judges_and_raters_read_all_that_was_asked(tmp_path, form, suffix):
    row, asked = ASKED[form]
    path = write(tmp_path / f"o{suffix}", [{**row, "output": "3"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [found["instruction"] for found in read_outputs(path)] == [asked]
    assert [found.instruction for found in read_answers(path)] == [asked]
    assert pair_outputs(path, path)["instruction"].tolist() == [asked]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"instruction": "Hi", "messages": CHAT}, "neither the first nor the last user turn"),
        ({"instruction": "Hi", "input": 3}, "`input` must be a text"),
        ({"instruction": "Hi", "input": "\ud800"}, "lone surrogate"),
        ({"instruction": "Hi", "prompt_id": True}, "`prompt_id` must be a text or a whole number"),
        ({"instruction": "Hi", "id": [1]}, "`id` must be a text or a whole number"),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_row(tmp_path, row, told):
    path = write(tmp_path / "o.json", [{"instruction": "a", "output": "b"}, {**row, "output": "x"}])
    for read in (read_outputs, read_answers):
        with pytest.raises(UserError, match=rf"o\.json, row 2: .*{told}"):
            read(path)


def test_the_same_instruction_with_other_inputs_is_another_prompt(tmp_path):
    rows = [{"instruction": "Add.", "input": i, "output": f"to {i}"} for i in ("1 and 2", "3 and 4")]
    outputs, reference = write(tmp_path / "o.json", rows), write(tmp_path / "r.json", rows[::-1])
    contests = match(read_outputs(outputs), read_outputs(reference))
    assert [(c.answer, c.baseline) for c in contests] == [("to 1 and 2",) * 2, ("to 3 and 4",) * 2]
    pairs = pair_outputs(outputs, reference)
    assert (pairs["output_1"] == pairs["output_2"]).all() and len(pairs) == 2


@pytest.mark.parametrize("column", ["prompt_id", "id"])
@pytest.mark.parametrize("absent", [{}, {"prompt_id": None}, {"prompt_id": ""}])
@pytest.mark.parametrize("first", [0, "0"])
def test_ids_pair_answers_where_instructions_repeat_whatever_stands_for_no_id(tmp_path, column, absent, first):
    rows = [{**absent, column: i, "instruction": "Write a poem.", "output": f"to {i}"} for i in (first, 1)]
    outputs, baseline = write(tmp_path / "o.json", rows), write(tmp_path / "b.json", rows[::-1])
    contests = match(read_outputs(outputs), read_outputs(baseline))
    assert all(c.answer == c.baseline for c in contests)
    assert [c.prompt_id for c in contests] == ["0", "1"] == [answer.prompt_id for answer in read_answers(outputs)]


def test_numbers_of_answers_that_differ_do_not_part_the_same_instructions(tmp_path):
    """Many files count their rows in `id`: where the instructions tell prompts apart, they do."""
    a, b = ([{"id": i + shift, "instruction": f"Q{i}", "output": "x"} for i in range(3)] for shift in (0, 7))
    assert len(match(a, b)) == 3


# --- AlpacaEval's annotations ----------------------------------------------------------------------------------------


def annotations(tmp_path: Path, *preferences, **more) -> list[float]:
    """The preferences as they are read, one annotation each."""
    rows = [{"instruction": f"q{i}", "output": f"o{i}"} for i in range(len(preferences))]
    base = [{"instruction": f"q{i}", "output": f"r{i}"} for i in range(len(preferences))]
    pairs = pair_outputs(write(tmp_path / "o.json", rows), write(tmp_path / "r.json", base))
    told = [
        {"instruction": f"q{i}", "output_1": f"r{i}", "output_2": f"o{i}", "preference": p, **more}
        for i, p in enumerate(preferences)
    ]
    return recorded_annotations(write(tmp_path / "a.json", told), pairs)["preference"].tolist()


def test_preferences_are_what_they_say(tmp_path):
    assert annotations(tmp_path, 1, 2, 1.25, "1.75", 0, "0.0") == [1, 2, 1.25, 1.75, 1.5, 1.5]
    unread = annotations(tmp_path, None, float("nan"), -1)
    assert all(value != value for value in unread)


@pytest.mark.parametrize("preference", ["1,7", True, "", [1], {"p": 1}, 10**400, float("inf"), 2.5, "two"])
def test_a_preference_that_is_none_is_refused_with_its_row(tmp_path, preference):
    with pytest.raises(UserError, match=r"a\.json: row 2 has the preference .* not a number from 1 to 2"):
        annotations(tmp_path, 1.5, preference)


@pytest.mark.parametrize("annotator", [None, "", 7, ["a"], {"a": 1}])
def test_a_strange_annotator_is_a_name(tmp_path, annotator):
    assert annotations(tmp_path, 1.5, 1.25, annotator=annotator) == [1.5, 1.25]


# --- preferences, verdicts, rewards ----------------------------------------------------------------------------------


def test_preferences_for_reward_models_keep_every_turn(tmp_path):
    sides = {"chosen": "Bob.", "rejected": "Dunno.", "category": "memory"}
    rows = [{"messages": CHAT, **sides}, {"instruction": "Add.", "input": "1 and 2", **sides}]
    chat, plain = read_preferences(write(tmp_path / "p.jsonl", rows))
    assert (chat["prompt"], list(chat["messages"])) == ("Who am I?", CHAT)
    assert (plain["prompt"], plain["messages"]) == ("Add.\n\n1 and 2", ())
    with pytest.raises(UserError, match=r"row 1: .*neither the first nor the last"):
        read_preferences(write(tmp_path / "q.jsonl", [{"prompt": "Old", "messages": CHAT, **sides}]))


def test_a_judges_verdicts_without_an_id_go_by_their_instruction(tmp_path):
    rows = [{"prompt_id": None, "instruction": f"Q{i}", "outcome": o} for i, o in enumerate(("win", "tie"))]
    rows += [{"prompt_id": 0, "outcome": None, "verdict": "lose"}]
    path = write(tmp_path / "v.jsonl", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n  \n")
    assert read_verdicts(path) == {"Q0": "win", "Q1": "tie", "0": "lose"}


@pytest.mark.parametrize(
    "data",
    [
        b"prompt_id,reward\n0,0.5\n1,-2\n",
        b"\xef\xbb\xbfprompt_id,reward\r\n0,0.5\r\n1,-2\r\n,\r\n,\r\n",
        b"prompt_id,reward\n0,0.5\n\n1,-2\n\n",
        b"prompt_id;reward\n0;0.5\n1;-2\n;\n",
        b"prompt_id\treward\n0\t0.5\n1\t-2\n",
        b'"prompt_id","reward","note"\n"0","0.5",""\n"1","-2",""\n"","",""\n',
    ],
)
def test_rewards_of_a_spreadsheet_are_read_as_they_are(tmp_path, data):
    (tmp_path / "r.csv").write_bytes(data)
    assert read_rewards(tmp_path / "r.csv") == (["0", "1"], [0.5, -2.0])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("prompt_id;reward\na;0,5\n", "write decimals with a point"),
        ("prompt_id,reward\na,\n", "no value for `reward`"),
        ("id,reward\na,1\n", r"no value for `prompt_id`.*it has id, reward"),
    ],
)
def test_rewards_that_are_not_clear_are_refused_with_their_row(tmp_path, row, told):
    (tmp_path / "r.csv").write_text(row)
    with pytest.raises(UserError, match=rf"r\.csv, row 1: .*{told}"):
        read_rewards(tmp_path / "r.csv")


@pytest.mark.parametrize("reward", [True, None, "", float("nan"), 10**400, [1]])
@pytest.mark.parametrize("prompt_id", ["a", 0])
def test_a_reward_that_is_no_number_is_refused(tmp_path, prompt_id, reward):
    path = write(tmp_path / "r.jsonl", [{"prompt_id": prompt_id, "reward": reward}])
    with pytest.raises(UserError, match=r"r\.jsonl, row 1: "):
        read_rewards(path)


@pytest.mark.parametrize("prompt_id", [None, "", float("nan"), [1]])
def test_a_row_without_an_id_is_refused(tmp_path, prompt_id):
    with pytest.raises(UserError, match="no value for `prompt_id`"):
        read_rewards(write(tmp_path / "r.jsonl", [{"prompt_id": prompt_id, "reward": 1}]))


# --- half a character ------------------------------------------------------------------------------------------------

HALF = "smile \ud83d"


@pytest.mark.parametrize("field", ["instruction", "output", "prompt_id", "id", "generator", "category"])
def test_half_a_character_is_refused_with_its_row_and_field(tmp_path, field):
    row = {"instruction": "a", "output": "b"}
    path = write(tmp_path / "o.json", [row, {**row, "instruction": "c", field: HALF}])
    for read in (read_outputs, read_answers):
        with pytest.raises(UserError, match=rf"o\.json, row 2: `{field}` holds a lone surrogate"):
            read(path)


@pytest.mark.parametrize("field", ["output_2", "annotator"])
def test_half_a_character_of_an_annotation_is_refused_with_its_row(tmp_path, field):
    with pytest.raises(UserError, match=rf"row 1: `{field}` holds a lone surrogate"):
        annotations(tmp_path, 1.5, **{field: HALF})
    assert annotations(tmp_path, 1.5, raw_completion=HALF) == [1.5]


def test_half_a_character_in_an_id_of_a_reward_is_refused_with_its_row(tmp_path):
    with pytest.raises(UserError, match=r"row 1: the prompt_id holds a lone surrogate"):
        read_rewards(write(tmp_path / "r.jsonl", [{"prompt_id": HALF, "reward": 1}]))


def test_what_no_terminal_shows_is_printed_and_written_as_its_escape(tmp_path):
    content = {"results": {"hellaswag": {"acc_norm,none": 0.5}, HALF: {}}, "model_name": HALF}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    command = [sys.executable, "-m", "eval.benchmarks", "import", str(path), "--out", str(tmp_path / "table")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and "smile \\ud83d" in done.stdout
    assert json.loads((tmp_path / "table" / "table.json").read_text())[0]["model"] == HALF
