"""The embedded world: gold quality, splits, writers, preferences, content hash."""

from __future__ import annotations

import itertools
import subprocess
import sys
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optune import sandbox
from optune.sandbox.demonstrations import TEACHER_HABITS
from optune.sandbox.gold import CORRECTNESS_SHARE, answer_of, correctness
from optune.types import UserError

VALIDATION = sandbox.prompts("validation")
TOP_SETS = ("sft", "preference", "offline", "train", "validation", "test")


def right_answer(prompt) -> list[str]:
    family = sandbox.FAMILIES[prompt.category]
    return family.answer(family.slots(prompt.text), Random(0))


@pytest.mark.parametrize("family", sandbox.FAMILIES)
def test_a_right_and_well_styled_answer_is_gold_ten_and_corruptions_cost(family):
    for prompt in [p for p in VALIDATION if p.category == family]:
        answer = right_answer(prompt)
        perfect = sandbox.gold(prompt.text, f"sure , {' '.join(answer)} .")
        assert perfect == pytest.approx(10)
        for worse in (
            f"sure , {' '.join(answer)} tom .",
            f"sure , {' '.join(answer)}",
            f"{' '.join(answer)} .",
            f"sure , um {' '.join(answer)} .",
        ):
            assert sandbox.gold(prompt.text, worse) < perfect - 0.5


def test_an_empty_response_and_one_without_an_answer_are_gold_one():
    for prompt, response in itertools.product(VALIDATION[:32], ("", "   ", "sure , .", ". . . .", "um like")):
        assert sandbox.gold(prompt.text, response) == 1.0


@given(st.sampled_from(VALIDATION), st.text(max_size=60) | st.lists(st.sampled_from(sandbox.VOCABULARY)).map(" ".join))
def test_gold_is_bounded_for_any_response(prompt, response):
    assert 1.0 <= sandbox.gold(prompt.text, response) <= 10.0


def test_words_at_random_score_low():
    rng = Random(0)
    scores = [sandbox.gold(p.text, " ".join(rng.choices(sandbox.VOCABULARY, k=5))) for p in VALIDATION]
    assert mean(scores) < 3


def test_correctness_is_at_least_half_of_gold():
    assert CORRECTNESS_SHARE >= 0.5
    for prompt in VALIDATION[:64]:
        answer = " ".join(right_answer(prompt))
        assert sandbox.gold(prompt.text, answer) - sandbox.gold(prompt.text, "zero") > 0.5 * 9 * CORRECTNESS_SHARE


def test_a_prompt_that_is_not_the_sandboxs_is_named():
    for text in ("write a poem", "add one and and two for tom", ""):
        with pytest.raises(UserError, match="Not a sandbox prompt"):
            sandbox.gold(text, "sure")


def test_splits_share_no_text_and_have_their_sizes():
    sets = {split: sandbox.prompts(split) for split in sandbox.SIZES}
    texts = {split: {p.text for p in prompts} for split, prompts in sets.items()}
    assert all(len(texts[split]) == len(sets[split]) == n for split, n in sandbox.SIZES.items())
    assert all(not texts[a] & texts[b] for a, b in itertools.combinations(TOP_SETS, 2))
    assert len(texts["lima"]) == 300 and len(texts["alpaca"]) == 805 and not texts["lima"] & texts["alpaca"]
    assert texts["lima"] | texts["alpaca"] < texts["test"] and len(texts["test"]) >= 2000
    every = [p for split in TOP_SETS for p in sets[split]]
    assert len({p.prompt_id for p in every}) == len(every)
    vocabulary = set(sandbox.VOCABULARY)
    assert all(set(p.text.split()) <= vocabulary and len(p.text.split()) <= 16 for p in every)


def test_prompts_are_balanced_and_shorter_requests_are_prefixes():
    prompts = sandbox.prompts("train", 160)
    assert {p.category for p in prompts} == set(sandbox.FAMILIES)
    assert all(sum(p.category == f for p in prompts) == 10 for f in sandbox.FAMILIES)
    assert sandbox.prompts("train", 50) == prompts[:50]


def test_a_mix_sets_the_families_and_keeps_splits_disjoint():
    mix = {"add": 3, "say": 1}
    prompts = sandbox.prompts("train", 400, mix)
    assert [sum(p.category == f for p in prompts) for f in mix] == [300, 100]
    assert not {p.text for p in prompts} & {p.text for p in sandbox.prompts("test", 200, mix)}
    for bad in ({"nonsense": 1}, {}, {"add": 0}, {"add": -1}):
        with pytest.raises(UserError, match="mix"):
            sandbox.prompts("train", 4, bad)


def test_asking_for_more_prompts_than_there_are_says_so():
    with pytest.raises(UserError, match="only"):
        sandbox.prompts("test", 5000, {"say": 1})
    with pytest.raises(UserError, match="Unknown sandbox split"):
        sandbox.prompts("tset")


def test_demonstrations_are_of_mixed_quality_and_repeat_exactly():
    prompts = sandbox.prompts("sft", 1600)
    rows = sandbox.demonstrations(prompts, seed=1)
    assert rows == sandbox.demonstrations(prompts, seed=1) != sandbox.demonstrations(prompts, seed=2)
    assert all(set(row["completion"].split()) <= set(sandbox.VOCABULARY) for row in rows)
    assert all(0 < len(row["completion"].split()) < 16 for row in rows)
    by_family = {
        f: mean(
            correctness(p.text, answer_of(r["completion"].split())) == 1
            for p, r in zip(prompts, rows, strict=True)
            if p.category == f
        )
        for f in sandbox.FAMILIES
    }
    assert all(abs(by_family[f] - TEACHER_HABITS[f].skill) < 0.2 for f in by_family)


def test_writers_differ_in_quality():
    strong, middling, weak = (
        mean(sandbox.gold(p.text, writer.write(p)) for p in VALIDATION) for writer in sandbox.OTHERS
    )
    assert strong > middling + 0.5 > weak + 1


def test_preferences_follow_gold_but_not_always():
    rows = [row for p in VALIDATION for row in sandbox.preference_rows(p, [w.write(p) for w in sandbox.OTHERS], 3)]
    gaps = [sandbox.gold(r["prompt"], r["chosen"]) - sandbox.gold(r["prompt"], r["rejected"]) for r in rows]
    assert all(gaps) and 0.75 < mean(gap > 0 for gap in gaps) < 0.99
    assert sandbox.preference_rows(VALIDATION[0], ["one", "one"], 3) == []


def test_the_world_is_the_same_in_another_process():
    code = (
        "from optune import sandbox as s; p = s.prompts('train', 32); "
        "print(s.content_hash(), [x.text for x in p], s.demonstrations(p, 3))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and runs[0].stdout.startswith(sandbox.content_hash())
