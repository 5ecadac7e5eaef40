"""The reply parser reads every honest form and never guesses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.judges.form import template_of
from eval.judges.parser import off_scale, parse_scores
from eval.judges.rating import PATH, read_back, render, template_hash

REVIEWS = Path(__file__).parents[2] / "shared" / "data" / "reviews" / "gpt4_and_gpt35_reviews.jsonl"

READABLE = [
    ("8 9", (8, 9)),
    ("8 9\nAssistant 1 gave 3 reasons, Assistant 2 gave 4.", (8, 9)),
    ("\n  8.5 9  \n", (8.5, 9)),
    ("9, 8\nBecause.", (9, 8)),
    ("8,5 9,0", (8.5, 9)),
    ("7,5\n9,0\nDie zweite ist besser.", (7.5, 9)),
    ("10,8", (10, 8)),
    ("8/10 7/10", (8, 7)),
    ("8/10, 7/10.\nGood.", (8, 7)),
    ("8 out of 10 and 7 out of 10", (8, 7)),
    ("(8, 9)", (8, 9)),
    ("[8 9]", (8, 9)),
    ("**8 9**", (8, 9)),
    ("`8` `9`", (8, 9)),
    ("8 | 9", (8, 9)),
    ("8\t9", (8, 9)),
    ("8; 9", (8, 9)),
    ("8 and 9", (8, 9)),
    ("Scores: 8 9", (8, 9)),
    ("Scores:\n8 9\nBecause.", (8, 9)),
    ('"8 9"', (8, 9)),
    ("- Assistant 1: 8\n- Assistant 2: 9", (8, 9)),
    ("Score: 8, 9", (8, 9)),
    ("The scores are: 8 and 9", (8, 9)),
    ("8\n9\nThe second is better.", (8, 9)),
    ("\uff18 \uff19", (8, 9)),
    ("8\u00a09", (8, 9)),
    ("8 9\r\nwindows", (8, 9)),
    ("0 9", (0, 9)),
    ("Assistant 1: 8 Assistant 2: 9", (8, 9)),
    ("Assistant 1: 8, Assistant 2: 9\nBecause.", (8, 9)),
    ("Assistant 1: 8. Assistant 2: 9.", (8, 9)),
    ("Assistant 1: 8\nAssistant 2: 9\n\nBoth are good.", (8, 9)),
    ("**Assistant 1:** 8/10\n**Assistant 2:** 9/10", (8, 9)),
    ("Assistant 2: 9 Assistant 1: 8", (8, 9)),
    ("Assistant A: 8/10; Assistant B: 9/10", (8, 9)),
    ("Assistant1: 8 Assistant2: 9", (8, 9)),
    ("Assistant 1 score: 8; Assistant 2 score: 9", (8, 9)),
    ("Answer 1: 7/10\nAnswer 2: 4/10", (7, 4)),
    ("Let me think.\nScores:\nAssistant 1: 10\nAssistant 2: 4\nSo the first wins.", (10, 4)),
    ("I would give Assistant 1 a score of 8 and Assistant 2 a score of 6.5.", (8, 6.5)),
    ("I would rate Assistant 1's answer a 7 out of 10 and Assistant 2's answer a 9 out of 10.", (7, 9)),
    ("x = 4, so both are wrong.\nThe scores are (1, 7).", (1, 7)),
    ("We assign a score of 5 to Assistant 1 and a score of 9 to Assistant 2.", (5, 9)),
    ("The scores for Assistant 1 and Assistant 2 are 4 and 9, respectively.", (4, 9)),
    ("Both assistants receive a score of 10.", (10, 10)),
]

UNREADABLE = [
    "810\n8",  # two lines with a number each, one of them no score
    None,
    "",
    "   \n ",
    "8",
    "8/10",
    "8/9",
    "8 9 7",
    "9,8",  # two scores, or one with a decimal comma
    "8,5 9,2",
    "-1 -1",
    "-1 8",
    "Scores:\nboth are fine, 8 9",
    "Output: 3 4",
    "8 to 9",
    "2 and 3 are prime numbers, and so are 5 and 7.",
    "7 8 are the numbers asked for.",
    "1999 2004",
    "110\n8",
    "199\n200",
    "The first answer lists 3 items and the second 5.",
    "Both answers are good.",
    "I'm sorry, but I cannot rate these answers.",
    "I cannot provide scores. The format would be: Assistant 1: 8/10 Assistant 2: 9/10",
    "Assistant 1: 39\nAssistant 2: 40",
    "Assistant 1: 8 apples. Assistant 2: 9 apples.",
    "They answered as follows.\nAssistant 1: 5\nAssistant 2: 10\nThe right answer is 7.",
    "Assistant 1: 8/10",
    "Assistant 1: 8/10. Assistant 2: 9/10. On reflection, Assistant 1: 9/10.",
    "Assistant 1: 8/10\nAssistant 12: 9/10",
    "8/10 9/100",
    "Assistant 1: 8/10 Assistant 2: 9/100",
    "Assistant 1: 7 to 8; Assistant 2: 9",
    "I would give full marks to Assistant 1 and a score of 9 to Assistant 2.",
    "I would give Assistant A and Assistant B a score of 8 and 9, respectively.",
    "Assistant 1 says that the output is (3, 4).",
    "Assistant 1's score is 8 points below Assistant 2's score of 9.",
    "8.5.1 9",
    "8² 9",
    "eight nine",
]


@pytest.mark.parametrize(("reply", "scores"), READABLE)
def test_reads_every_form_judges_use(reply, scores):
    assert parse_scores(reply) == scores


@pytest.mark.parametrize("reply", UNREADABLE)
def test_leaves_the_rest_unread(reply):
    assert parse_scores(reply) is None


def test_scores_off_the_scale_are_told_apart():
    assert off_scale((0, 9)) and off_scale((8, 11)) and not off_scale((1, 10))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="0123456789./,;: ()\n-AasitnB12score ofut", max_size=60))
def test_any_text_is_survived(reply):
    scores = parse_scores(reply)
    assert scores is None or all(0 <= score <= 100 for score in scores)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 20).map(lambda i: i / 2),
    st.integers(0, 20).map(lambda i: i / 2),
    st.sampled_from([" ", ", ", " and ", "\t"]),
    st.text(max_size=200),
)
def test_the_explanation_never_changes_the_first_line(first, second, between, explanation):
    assert parse_scores(f"{first:g}{between}{second:g}\n{explanation}") == (first, second)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=("Nd", "No", "Nl")), max_size=200))
def test_no_digits_no_scores(reply):
    assert parse_scores(reply) is None


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_the_rating_prompt_holds_the_texts_as_they_are(question, first, second):
    start, after_question, between, end = re.split(r"\{\w+\}", template_of(PATH)[1])
    user = render(question, first, second)[1]["content"]
    assert user == start + question + after_question + first + between + second + end


def test_the_rating_prompt_is_table_6():
    assert template_hash() == "2490f2436a9ebdda915a286e365907f704dd1e4d3b75c676bde90607390e27bb"
    system, user = template_of(PATH)
    assert system.startswith("You are a helpful and precise assistant")
    assert user.index("{question}") < user.index("{answer_1}") < user.index("{answer_2}")


def test_a_filled_prompt_can_be_read_back():
    assert read_back(render("q {answer_1}?", "a\n{b}", "")[1]["content"]) == ("q {answer_1}?", "a\n{b}", "")
    assert read_back("something else") is None


@pytest.mark.skipif(not REVIEWS.exists(), reason="the real replies are not here")
def test_real_replies_parse_and_agree_with_the_recorded_scores():
    """Three of 1,440 differ: their text plainly says other scores than the label, which was fixed by hand."""
    rows = [json.loads(line) for line in REVIEWS.read_text("utf-8").splitlines()]
    found = [parse_scores(row["text"]) for row in rows]
    recorded = [None if -1 in row["rec"] else tuple(row["rec"]) for row in rows]
    agree = sum(a == b for a, b in zip(found, recorded, strict=True))
    assert agree / len(rows) >= 0.97
    other = {(a, b) for a, b in zip(found, recorded, strict=True) if a is not None and a != b}
    assert other <= {((10, 4), (10, 2)), ((9, 9), (8, 8))}
