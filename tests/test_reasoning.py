"""What a reasoning model drafts before its answer is never the answer, whatever marks the draft."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.arena_hard.games import parse_verdict
from eval.judges.choice import parse_choice
from eval.judges.parser import parse_scores
from eval.judging import whole_text
from eval.mt_bench.grading import parse_grade
from optune.chat.reasoning import final_answer
from optune.chat.reply_log import Reply

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
    "full-width bars": ("<｜begin▁of▁thinking｜>", "<｜end▁of▁thinking｜>"),
    "inner prefix": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "unused tokens": ("<unused94>thought", "<unused95>"),
    "folded away": ('<details type="reasoning" done="true">', "</details>"),
    "braces": ("{thinking}", "{/thinking}"),
    "a name that nobody knows yet": ("<rationale>", "</rationale>"),
    "a name with a number": ('<plan_2 kind="x">', "</plan_2>"),
    "in other letters": ("<思考>", "</思考>"),
    "a comment": ("<!--", "-->"),
    "two blocks": ("<plan>Look.</plan><notes>", "</notes>"),
}
HARMONY = "<|channel|>analysis<|message|>{draft}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>"
HEADED = "Here is my thought process:\n{draft}\n\nHere is my response:\n{answer}"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_draft_is_not_read_and_what_follows_it_is(syntax):
    begin, end = SYNTAXES[syntax]
    assert parse_scores(f"{begin}\n{DRAFT}\n{end}\n\n3 9\nThe second is right.") == (3, 9)
    assert parse_choice(f"{begin}\nI lean to A.\n{end}\n\nB") == (1, 2)


# Every judge's parser: a draft in its own form, the answer, and what the answer says.
PARSERS = {
    "two scores": (parse_scores, "8 6", "3 9", (3, 9)),
    "a letter": (parse_choice, "A", "B", (1, 2)),
    "a grade": (parse_grade, "Rating: [[9]]", "Rating: [[3]]", 3),
    "a verdict": (parse_verdict, "[[A>>B]]", "[[B>A]]", -1),
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_no_judges_parser_reads_a_draft(syntax, parser):
    begin, end = SYNTAXES[syntax]
    parse, draft, answer, said = PARSERS[parser]
    assert parse(f"{begin}\n{draft}\n{end}\n\n{answer}") == said
    if begin:
        for reply in (f"{begin}\n{draft}", f"{begin}\n{draft}\n{end}", f"{begin}\n{draft}\n{end}\nHm, I cannot say."):
            assert parse(reply) is None


@pytest.mark.parametrize("parser", ["a grade", "a verdict"])
def test_a_verdict_that_comes_last_is_not_read_in_a_reply_that_was_cut_off(parser):
    parse, draft, answer, said = PARSERS[parser]
    assert parse(whole_text(Reply("key", answer, finish_reason="stop"))) == said
    assert parse(whole_text(Reply("key", f"{draft} was my first thought,", finish_reason="length"))) is None


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
        "For helpfulness, Assistant 1: 9/10 and Assistant 2: 8/10.",
    ],
)
def test_a_score_for_one_criterion_of_several_is_no_verdict(reply):
    assert parse_scores(reply) is None


@pytest.mark.parametrize("criterion", ["Accuracy", "**Helpfulness**", "2. Level of detail", "For clarity"])
def test_a_grade_or_verdict_on_one_criterion_is_none(criterion):
    mark = "," if criterion.startswith("For") else ":"
    assert parse_grade(f"Rating of each:\nRelevance: [[9]]\n{criterion}{mark} [[3]]") is None
    assert parse_verdict(f"Relevance: [[A>B]]\n{criterion}{mark} [[B>A]]") is None
    assert parse_grade(f"{criterion}{mark} 3 of 5\nOverall: [[6]]") == 6


@pytest.mark.parametrize(
    "reply",
    [
        '{"reasoning": "Assistant 1: 8/10, Assistant 2: 6/10. But wait.", "scores": [3, 9]}',
        '```json\n{"draft": "Assistant 1: 8/10, Assistant 2: 6/10"}\n```',
        "First draft: Assistant 1: 8/10, Assistant 2: 6/10.\nAfter a check:\n3 9",
        "Assistant 1: 8/10. Assistant 2: 6/10. Hmm, wait: 3 9.",
        "8 6\nOn reflection I would change this to 3 9.",
        "8 6\n\nCorrection:\n3 9",
    ],
)
def test_a_verdict_that_the_reply_itself_takes_back_is_none(reply):
    assert parse_scores(reply) is None


@pytest.mark.parametrize("around", ["<answer>", "<verdict>", "<score>", "<b>", "<p class='x'>"])
def test_what_stands_around_the_answer_itself_is_no_draft(around):
    """Read, or unreadable; what it holds is never lost to a later line."""
    closing = f"</{around.strip('<>').split()[0]}>"
    assert final_answer(f"{around}3 9{closing}\nThe second.") is not None
    assert parse_scores(f"{around}3 9{closing}\n8 6") is None
