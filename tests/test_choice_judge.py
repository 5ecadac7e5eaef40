"""The judge that says A, B or C: what it is sent, how it is read, and orders and verdicts as with a rating."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judges import FORMS, judge_of, make_judge
from eval.judges.choice import CHOICE, letter, parse_choice
from eval.judges.rating import RATING
from eval.judges.sandbox import SandboxJudge
from eval.verdicts import win_rates
from eval.win_score import main, win_score
from optune import sandbox
from optune.config import JudgeConfig

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
PROMPTS = sandbox.prompts("validation", 64)
ONE = [sandbox.TEACHER.write(p, seed=0) for p in PROMPTS]
OTHER = [sandbox.OTHERS[0].write(p, seed=1) for p in PROMPTS]


def rows(texts: list[str]) -> list[dict[str, str]]:
    return [{"prompt_id": p.prompt_id, "instruction": p.text, "output": t} for p, t in zip(PROMPTS, texts, strict=True)]


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        *[("A", (2.0, 1.0)), ("B", (1.0, 2.0)), ("C", (1.0, 1.0)), (" b.\n", (1.0, 2.0)), ("**A**", (2.0, 1.0))],
        *[("Answer: C", (1.0, 1.0)), ("(B)", (1.0, 2.0)), ("The better answer is A.", (2.0, 1.0))],
        *[("A or B", None), ("Both", None), ("", None), (None, None), ("D", None), ("AB", None), ("8 7", None)],
        *[("A. It is longer.", None), ("A" + " " * 300, None), ("I prefer neither", None)],
    ],
)
def test_one_letter_is_read_and_nothing_else_is(reply, scores):
    assert parse_choice(reply) == scores


@given(st.text(max_size=300))
def test_any_reply_is_a_letter_or_unreadable(reply):
    scores = parse_choice(reply)
    assert scores is None or letter(*scores) in reply.upper()


@given(TEXT, TEXT, TEXT)
def test_the_texts_come_back_out_of_the_prompt(question, first, second):
    user = CHOICE.render(question, first, second)[-1]["content"]
    found = CHOICE.read_back(user)
    assert found is not None and CHOICE.render(*found) == CHOICE.render(question, first, second)
    assert RATING.read_back(user) is None


def test_the_sandbox_judge_chooses_what_it_would_rate_higher():
    judge = SandboxJudge()
    for prompt, one, other in zip(PROMPTS, ONE, OTHER, strict=True):
        said = judge.reply(CHOICE.render(prompt.text, one, other)[-1]["content"])
        assert said == letter(*judge.rate(prompt.text, one, other))


def test_both_forms_give_the_same_verdicts_in_both_orders(tmp_path):
    """The sandbox judge sees the same qualities in both; a letter keeps which is higher."""
    found = {}
    for form in FORMS:
        judge = judge_of(JudgeConfig(form=form))
        found[form] = win_score(rows(ONE), rows(OTHER), judge, tmp_path / form)
    counts = [{name: result[name] for name in ("win", "tie", "lose", "unparsed")} for result in found.values()]
    assert counts[0] == counts[1] and counts[0]["win"] != counts[0]["lose"] and counts[0]["unparsed"] == 0
    assert len((tmp_path / "choice" / "replies.jsonl").read_text().splitlines()) == 2 * len(PROMPTS)


def test_the_command_line_takes_the_form(tmp_path, capsys):
    for name, texts in (("good", ONE), ("poor", OTHER)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows(texts)))
    files = ["--outputs", str(tmp_path / "good.json"), "--baseline", str(tmp_path / "poor.json")]
    assert main(["judge", *files, "--judge", "sandbox", "--form", "choice", "--run-dir", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == len(PROMPTS)
    reviews = (tmp_path / "run" / "reviews.jsonl").read_text().splitlines()
    assert {json.loads(line)["reply"] for line in reviews} <= {"A", "B", "C"}


def test_win_rates_are_shares_of_the_scored_prompts():
    assert win_rates(["win", "win", "tie", "lose", "unparsed"]) == {
        **{"win": 50.0, "lose": 25.0, "tie": 25.0},
        **{"n": 4, "unparsed": 1},
    }
    assert win_rates(["unparsed"])["win"] is None


def test_the_default_form_is_no_part_of_a_configuration_and_the_rating():
    assert "form" not in JudgeConfig().model_dump()
    assert make_judge("sandbox").form is RATING and judge_of(JudgeConfig()).form is RATING
