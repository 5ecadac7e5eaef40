"""What a reasoning model drafts before its answer is never the answer, whatever marks the draft."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judges.choice import parse_choice
from eval.judges.parser import parse_scores
from optune.chat.reasoning import final_answer

DRAFT = "Draft: Assistant 1: 8/10, Assistant 2: 6/10.\n8 6\nBut wait, that misses the slip."
# Before and after the draft, as families of models write them.
SYNTAXES = {
    "think": ("<think>", "</think>"),
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "upper case": ("<THINK>", "</THINK>"),
    "seed": ("<seed:think>", "</seed:think>"),
    "brackets": ("[THINK]", "[/THINK]"),
    "triangles": ("◁think▷", "◁/think▷"),
    "begin of thought": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "start thinking": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "fence": ("```thinking", "```"),
    "escaped": ("&lt;think&gt;", "&lt;/think&gt;"),
    "only an end": ("", "</think>"),
}
HARMONY = "<|channel|>analysis<|message|>{draft}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>"
HEADED = "Here is my thought process:\n{draft}\n\nHere is my response:\n{answer}"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_draft_is_not_read_and_what_follows_it_is(syntax):
    begin, end = SYNTAXES[syntax]
    assert parse_scores(f"{begin}\n{DRAFT}\n{end}\n\n3 9\nThe second is right.") == (3, 9)
    assert parse_choice(f"{begin}\nI lean to A.\n{end}\n\nB") == (1, 2)


@pytest.mark.parametrize("form", [HARMONY, HEADED])
def test_channels_and_headings_tell_the_answer_from_the_draft(form):
    assert parse_scores(form.format(draft=DRAFT, answer="3 9\nThe second is right.")) == (3, 9)


@pytest.mark.parametrize("syntax", [name for name, (begin, _) in SYNTAXES.items() if begin])
def test_a_draft_that_does_not_end_is_no_answer(syntax):
    begin, end = SYNTAXES[syntax]
    for reply in (f"{begin}\n{DRAFT}", f"{begin}\n{DRAFT}\n{end}", f"{begin}\n{DRAFT}\n{end}\n{begin}\n3 9"):
        assert parse_scores(reply) is None


def test_a_draft_in_a_draft_is_a_draft():
    assert parse_scores(f"<think>{DRAFT}<think>1 2</think>\n5 5\n</think>\n3 9") == (3, 9)


def test_channels_without_a_final_one_are_no_answer():
    assert parse_scores(f"<|channel|>analysis<|message|>{DRAFT}<|end|>") is None


@given(st.text("abc 123./\n", max_size=60))
def test_a_reply_without_a_draft_stays_as_it_is(reply):
    assert final_answer(reply) == reply


@given(st.sampled_from(sorted(SYNTAXES)), st.text("Assistn12: /0\n", max_size=80))
def test_nothing_in_a_draft_changes_the_scores(syntax, draft):
    begin, end = SYNTAXES[syntax]
    assert parse_scores(f"{begin}\n{draft}\n{end}\n7 4\nBecause.") == (7, 4)


@pytest.mark.parametrize(
    "reply",
    [
        "Helpfulness: 9 8\nAccuracy: 3 7\nDetail: 5 5",
        "9 8\nAccuracy: 3 7",
        "Assistant 1: helpfulness 9/10, accuracy 3/10. Assistant 2: helpfulness 8/10, accuracy 7/10.",
    ],
)
def test_a_score_for_one_criterion_of_several_is_no_verdict(reply):
    assert parse_scores(reply) is None
