"""How far a free judge agrees with recorded preferences: counted by hand on made-up rows, through the real client."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eval.judge_agreement import Annotated, agreement, main, read_annotations
from eval.verdicts import from_scores
from optune.types import UserError

LONG, SHORT = "a long and careful answer", "no"
ROWS = [  # the annotator prefers: the longer one, the longer one, the shorter one, neither
    {"instruction": "Why 0?", "output_1": LONG, "output_2": SHORT, "preference": 1.0000004},
    {"instruction": "Why 1?", "output_1": SHORT, "output_2": LONG, "preference": 1.98},
    {"instruction": "Why 2?", "output_1": LONG, "output_2": SHORT, "preference": 2},
    {"instruction": "Why 3?", "output_1": LONG, "output_2": SHORT, "preference": 1.5},
]
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text("utf-8")
JUDGES = f"""
{re.search(r"```python(.*?)```", PAGE, re.DOTALL)[1]}

def first_shown(question, first, second):
    return 8.0, 3.0
"""


@pytest.fixture
def told(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(JUDGES)
    (tmp_path / "annotations.json").write_text(json.dumps(ROWS))

    def ask(judge, *more):
        run = ["--run-dir", str(tmp_path / judge), *more]
        named = ["--judge", f"{tmp_path / 'mine.py'}:{judge}"]
        assert main([str(tmp_path / "annotations.json"), *named, *run]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_the_pages_judge_is_asked_in_both_orders_and_stands_beside_length_and_the_usual_winner(told):
    found = told("rate")
    assert (found["rows"], found["recorded_ties"], found["unparsed"], found["ties"]) == (4, 1, 0, 0)
    assert (found["agreed"]["agreed"], found["agreed"]["n"]) == (2, 3)
    assert found["agreed"]["output_1_preferred"] == {"agreed": 1, "n": 1}
    assert found["agreed"]["output_2_preferred"] == {"agreed": 1, "n": 2}
    controls = found["controls_on_the_same_rows"]
    assert controls["longer answer"] == found["agreed"] and controls["always output_1"]["agreed"] == 1
    share = found["agreed"]["share"]
    assert share["estimate"] == pytest.approx(2 / 3) and share["low"] < 2 / 3 < share["high"]


def test_a_judge_that_prefers_a_position_ties_everywhere_and_agrees_nowhere(told):
    found = told("first_shown")
    assert found["ties"] == 3 and found["agreed"]["agreed"] == 0 and found["agreed_where_decided"] is None
    assert found["order"]["first_position_share"] == 1.0 and found["order"]["flip_share"] == 1.0


def test_the_same_command_asks_nothing_again(told, tmp_path):
    first = told("rate")
    log = (tmp_path / "rate" / "replies.jsonl").read_text()
    assert told("rate", "--offline") == first == json.loads((tmp_path / "rate" / "agreement.json").read_text())
    assert (tmp_path / "rate" / "replies.jsonl").read_text() == log


def test_unparsed_replies_are_left_out_of_judge_and_controls_alike():
    rows = [Annotated(str(i), "Why?", (LONG, SHORT), preferred) for i, preferred in enumerate((0, 0, 1))]
    outcomes = [from_scores("x", (9.0, 1.0), scores).outcome for scores in ((9.0, 1.0), None, (9.0, 9.0))]
    found = agreement(rows, outcomes)
    assert (found["unparsed"], found["agreed"]["n"], found["agreed"]["agreed"]) == (1, 2, 1)
    assert found["controls_on_the_same_rows"]["longer answer"]["n"] == 2
    assert agreement(rows, ["unparsed"] * 3)["agreed"] is None


def test_a_limit_draws_the_same_rows_each_time_with_their_numbers_and_a_larger_one_adds_to_them(tmp_path):
    path = tmp_path / "annotations.jsonl"
    path.write_text("".join(json.dumps({**ROWS[0], "instruction": f"Why {i}?"}) + "\n" for i in range(20)))
    drawn = read_annotations(path, 5)
    assert drawn == read_annotations(path, 5) and len(drawn) == 5
    assert {row.row for row in drawn} < {row.row for row in read_annotations(path, 9)}
    assert all(row.instruction == f"Why {int(row.row) - 1}?" for row in drawn)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"preference": None}, "row 1: `preference` must be a number from 1"),
        ({"preference": 3}, "row 1: `preference` must be a number from 1"),
        ({"output_2": None}, "row 1: needs a text `output_2`"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, changed, said):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([{**ROWS[0], **changed}]))
    with pytest.raises(UserError, match=said):
        read_annotations(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="at least one"):
        read_annotations(path)


def test_the_pages_table_is_the_recorded_one():
    from experiments.development.judge_agreement import PLACE, table
    from experiments.documents import written

    assert written(PLACE) == table()
