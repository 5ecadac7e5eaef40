"""The world of instructions: prompts, constraints and their checkers, gold, rewards."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from eval.alpaca_eval.evaluate import annotator_of, evaluate
from eval.judges import make_judge
from eval.judges.instructions import InstructionsJudge
from eval.judges.sandbox import JudgeNoise
from eval.outputs import prompt_set
from eval.win_score import win_score
from experiments.compute import measure
from optune import instructions, sandbox
from optune.config import JudgeConfig, RewardConfig, RunConfig, TrainingConfig, load_config
from optune.instructions import KINDS, SIZES, SPLITS, TOPICS, Constraint, prompts, read
from optune.instructions.constraints import NEAR, constraints_in, go_together, sentences
from optune.instructions.editor import edited
from optune.instructions.fluency import EMPTY, Fluency, plain
from optune.instructions.parts import offline, reward_model
from optune.instructions.parts.names import resolve_instructions
from optune.instructions.parts.offline import OfflineBuild
from optune.instructions.parts.reward_model import RewardBuild
from optune.instructions.preferences import preference_rows
from optune.instructions.topics import mentions, stem
from optune.packaged_models.cache import packaged_model
from optune.prompts.files import load_prompts
from optune.reward import REWARDS, reward_inputs
from optune.store import content_hash
from optune.types import Prompt, Response, UserError
from optune.utils.files import write_json
from optune.utils.registry import resolve

OF_THEIR_OWN = ("train", "preference", "offline", "validation", "test")
ANSWER = "Bees make sweet honey in a hive. They visit many flowers, and they dance."
ANSWERS = (
    ANSWER,
    ANSWER.upper(),
    ANSWER.lower(),
    f"{ANSWER} {ANSWER} {ANSWER}",
    "Every morning I remember the secret of my garden",
    "The world is a place where people share their food with friends",
    "- Bees live in hives.\n- They make honey.\n* They also dance.",
)


def kinds_of(split: str) -> Counter:
    return Counter(c.kind for p in prompts(split) for c in read(p.text).constraints)


def test_splits_share_no_prompt_and_the_tests_topics_are_never_trained_on():
    texts = {split: {p.text for p in prompts(split)} for split in SIZES}
    assert {split: len(found) for split, found in texts.items()} == SIZES
    assert all(not texts[a] & texts[b] for a, b in itertools.combinations(OF_THEIR_OWN, 2))
    topics = {split: {read(text).topic for text in texts[split]} for split in SIZES}
    assert not (topics["train"] | topics["preference"] | topics["offline"]) & (topics["validation"] | topics["test"])
    assert not topics["validation"] & topics["test"]
    assert len(texts["test"]) >= 500 and [p.text for p in prompts("test300")] == [p.text for p in prompts("test", 300)]


def test_every_kind_is_asked_about_as_often_as_another_and_a_third_of_prompts_has_two_constraints():
    for split in ("train", "test300"):
        counts = kinds_of(split)
        assert set(counts) == set(KINDS) and len(KINDS) >= 12
        assert max(counts.values()) < 3 * min(counts.values())
        two = sum(p.category == "two" for p in prompts(split)) / SIZES[split]
        assert 0.25 < two < 0.42


def test_a_prompts_text_alone_says_what_to_check():
    for split in OF_THEIR_OWN:
        for prompt in prompts(split):
            instruction = read(prompt.text)
            assert instruction.prompt == prompt
            assert len(instruction.constraints) == 1 or go_together(*instruction.constraints)


@pytest.mark.parametrize(
    "text",
    ["", "Write a poem.", "Write a short text about honey.", "Write a short text about x. Do not use any commas.",
     "Write a short text about honey. Do not use any commas. And rhyme."],
)  # fmt: skip
def test_a_text_that_is_no_prompt_of_this_world_is_named(text):
    with pytest.raises(UserError, match="Not a prompt of the instructions"):
        read(text)


@pytest.mark.parametrize("split, n", [("tests", 1), ("test", 601)])
def test_an_unknown_split_and_too_many_prompts_are_named(split, n):
    with pytest.raises(UserError, match=split):
        prompts(split, n)


def test_prompts_and_hash_are_the_same_in_another_process():
    code = "from optune import instructions as w; print(w.content_hash(), w.prompts('test')[-1].prompt_id)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == [instructions.content_hash(), prompts("test")[-1].prompt_id]


def test_a_topic_has_words_and_inflected_forms_count():
    assert len(TOPICS) >= 200 and all(len(words) >= 7 for words in TOPICS.values())
    assert sum(map(len, SPLITS.values())) == len(TOPICS)
    assert mentions("honey", "Bees live in hives.") == (2, False)
    assert mentions("ice cream", "Ice cream is cold.") == (1, True)
    for inflected, base in (("running", "run"), ("leaves", "leaf"), ("berries", "berry"), ("baked", "bake")):
        assert stem(inflected) == stem(base)


CASES: list[tuple[str, dict[str, str], str, str]] = [
    ("upper", {}, "BEES MAKE HONEY.", "Bees make HONEY."),
    ("lower", {}, "bees make honey.", "Bees make honey."),
    ("at_most", {"most": "4"}, "Bees make sweet honey.", "Bees make very sweet honey."),
    ("at_least", {"least": "4"}, "Bees make sweet honey.", "Bees make honey."),
    ("sentences", {"count": "2"}, "Bees fly. They make honey 2.5 times a day!", "Bees fly."),
    ("bullets", {"bullets": "2"}, "* bees\n* hives", "* bees\n* hives\n* nectar"),
    ("bullets", {"bullets": "2"}, "Honey:\n- bees\n- hives", "bees and hives"),
    ("numbered", {"items": "2"}, "1. bees\n2. hives", "1. bees\n3. hives"),
    ("include", {"first": "secret", "second": "world"}, "The World keeps secrets.", "The world is secretive."),
    ("avoid", {"first": "the", "second": "is"}, "Bees make this honey.", "This is sweet."),
    ("frequency", {"word": "bee", "times": "2"}, "A bee and other bees.", "A bee has been here."),
    ("no_commas", {}, "Bees make honey.", "Bees, here, make honey."),
    ("begin", {"start": "Believe me"}, "Believe me, bees work.", "Bees work, believe me."),
    ("begin", {"start": "Honestly"}, '"honestly: bees."', "Bees work."),
    ("end", {"end": "world"}, "Bees feed the World.", "The world has bees."),
    ("quoted", {}, 'Bees make "honey".', '"Bees make honey."'),
    ("capitals", {"shouts": "2"}, "Bees make SWEET HONEY.", "BEES MAKE HONEY."),
    ("question", {}, "Bees make honey. Do you like it?", "Do you like it? I do."),
    ("title", {}, "<<Honey>>\nBees make honey.", "<<Honey>>"),
    ("title", {}, "<<Honey>> Bees make honey.", "Honey: bees make honey."),
    ("postscript", {}, "Bees make honey.\nP.S. They also dance.", "P.S. They also dance."),
    ("highlight", {"marks": "2"}, "*Bees* make **honey**.", "*Bees* make honey."),
    ("exclaim", {}, "Bees fly! They work!", "Bees fly! They work."),
]


@pytest.mark.parametrize("kind, slots, good, bad", CASES)
def test_a_checker_tells_a_met_constraint_from_a_broken_one(kind, slots, good, bad):
    constraint = Constraint(kind, tuple(slots.items()))
    assert constraint.met(good) and constraint.credit(good) == 1.0
    assert not constraint.met(bad) and 0 <= constraint.credit(bad) <= NEAR
    assert constraint.credit("") == constraint.credit(" \n") == 0.0
    assert constraints_in(f"Write. {constraint.sentence}") == [constraint]


def test_every_kind_has_a_case():
    assert {kind for kind, *_ in CASES} == set(KINDS)


@given(st.sampled_from(prompts("validation")), st.text(max_size=80) | st.just(ANSWER) | st.just("*\n-\n1. \n<<>>\"'!?"))
def test_credit_lies_between_0_and_1_for_any_answer(prompt, answer):
    for constraint in read(prompt.text).constraints:
        assert 0.0 <= constraint.credit(answer) <= 1.0


def test_sentences_are_counted_by_their_ends():
    for text, count in (("Go. Stop! Why?", 3), ("It costs 2.5 euros", 1), ('He said "no."', 1), ("Wait... what?!", 2)):
        assert sentences(text) == count


IFEVAL: dict[str, tuple[str, Callable[[dict[str, str]], dict[str, Any]], bool]] = {
    "upper": ("CapitalLettersEnglishChecker", lambda s: {}, False),
    "lower": ("LowercaseLettersEnglishChecker", lambda s: {}, False),
    "no_commas": ("CommaChecker", lambda s: {}, True),
    "at_most": ("NumberOfWords", lambda s: {"relation": "less than", "num_words": int(s["most"]) + 1}, True),
    "at_least": ("NumberOfWords", lambda s: {"relation": "at least", "num_words": int(s["least"])}, True),
    "bullets": ("BulletListChecker", lambda s: {"num_bullets": int(s["bullets"])}, True),
    "include": ("KeywordChecker", lambda s: {"keywords": list(s.values())}, False),
    "avoid": ("ForbiddenWords", lambda s: {"forbidden_words": list(s.values())}, True),
    "frequency": (
        "KeywordFrequencyChecker",
        lambda s: {"relation": "at least", "keyword": s["word"], "frequency": int(s["times"])},
        False,
    ),
    "title": ("TitleChecker", lambda s: {}, False),
    "postscript": ("PostscriptChecker", lambda s: {"postscript_marker": "P.S."}, False),
    "highlight": ("HighlightSectionChecker", lambda s: {"num_highlights": int(s["marks"])}, False),
}
"""IFEval's checker of a kind, its arguments, and whether both mean the very same (else ours is the stricter)."""


def test_what_is_met_here_is_met_in_ifeval_too(monkeypatch):
    for package in ("langdetect", "immutabledict", "lm_eval"):
        pytest.importorskip(package)
    monkeypatch.setattr("nltk.download", lambda *_, **__: True)  # asked for on import; no checker used here needs it
    from lm_eval.tasks.ifeval import instructions as ifeval

    monkeypatch.setattr(ifeval.langdetect, "detect", lambda text: "en")  # it guesses at texts as short as these
    texts = [*ANSWERS, *(good for _, _, good, _ in CASES), *(bad for _, _, _, bad in CASES)]
    asked = {c for p in prompts("validation") for c in read(p.text).constraints if c.kind in IFEVAL}
    asked |= {Constraint(kind, tuple(slots.items())) for kind, slots, *_ in CASES if kind in IFEVAL}
    met = Counter()
    for constraint, text in itertools.product(sorted(asked, key=str), texts):
        name, arguments, same = IFEVAL[constraint.kind]
        checker = getattr(ifeval, name)("")
        checker.build_description(**arguments(dict(constraint.slots)))
        theirs, ours = bool(checker.check_following(text)), constraint.met(text)
        met[constraint.kind] += ours
        assert theirs or not ours, (constraint, text)
        assert ours or not same or not theirs, (constraint, text)
    assert set(met) == set(IFEVAL) and min(met.values()) > 0


GRADED = [json.loads(line) for line in Path(__file__).with_name("instruction_answers.jsonl").read_text().splitlines()]
"""Answers with the grades (1 to 10) that this world's authors gave them by eye before there was a rubric, and their
nats per token under the start policy."""


def golds() -> list[float]:
    return [instructions.gold(row["prompt"], row["answer"], row["nats"]) for row in GRADED]


def test_gold_ranks_answers_as_its_authors_did_by_eye_before():
    table = pd.DataFrame({"prompt": [r["prompt"] for r in GRADED], "grade": [r["grade"] for r in GRADED]})
    table["gold"] = golds()
    assert len(table) >= 60
    assert table["gold"].corr(table["grade"], method="spearman") > 0.9
    pairs = table.merge(table, on="prompt").query("grade_x > grade_y")
    assert (pairs["gold_x"] > pairs["gold_y"]).mean() > 0.9


def test_gamed_answers_are_worth_less_than_honest_ones_that_fail():
    gamed = [g for g, row in zip(golds(), GRADED, strict=True) if row["grade"] <= 2]
    honest = [g for g, row in zip(golds(), GRADED, strict=True) if row["grade"] in (5, 6)]
    assert len(gamed) > 25 and max(gamed) < 3.6 and fmean(gamed) < 2.6 < 4 < fmean(honest)


def test_constraints_are_most_of_gold_in_a_perfect_text_and_little_of_it_in_a_worthless_one():
    """As shares of gold's range: 0.65 and 0.15; and a perfect text is worth 0.85 if all constraints are met, else 0.35.

    Real answers, each asked for every graded constraint, at their own fluency and at none.
    """
    asked = {constraint for row in GRADED for constraint in read(row["prompt"]).constraints}
    worth: dict[tuple[str, str], set[float]] = {}
    for row, constraint, fluent in itertools.product(GRADED, asked, (True, False)):
        prompt = f"{read(row['prompt']).sentence} {constraint.sentence}"
        answer = prompt, row["answer"], row["nats"] if fluent else 100.0
        parts, share = instructions.quality(*answer), round((instructions.gold(*answer) - 1) / 9, 9)
        if {parts.met, parts.text} <= {0, 1}:
            key = "met" if parts.met else "missed", "perfect" if parts.text else "worthless"
            worth.setdefault(key, set()).add(share)
    value = {key: shares.pop() for key, shares in worth.items() if len(shares) == 1}
    assert value["met", "perfect"] - value["missed", "perfect"] == pytest.approx(0.65)
    assert value["met", "worthless"] - value["missed", "worthless"] == pytest.approx(0.15)
    assert value["met", "perfect"] - value["met", "worthless"] == pytest.approx(0.85)
    assert value["missed", "perfect"] - value["missed", "worthless"] == pytest.approx(0.35)


@pytest.mark.parametrize("answer", ["", " \n", "...", "!?", "🙂"])
def test_an_answer_without_a_word_is_gold_one(answer):
    assert instructions.gold(prompts("test")[0].text, answer, 1.0) == 1.0


@given(st.sampled_from(prompts("validation")), st.text(max_size=80) | st.just(ANSWER), st.floats(0, 100))
def test_gold_is_bounded_for_any_answer(prompt, answer, nats):
    assert 1.0 <= instructions.gold(prompt.text, answer, nats) <= 10.0


def scored(settings: RewardConfig, answers: list[str], seed: int = 0) -> list[float]:
    responses = [Response(COMMAS.prompt_id, i, 0, (), text, "stop") for i, text in enumerate(answers)]
    reward = resolve(REWARDS, settings.kind, "reward")(settings)
    return reward.score([COMMAS] * len(answers), responses, seed)


COMMAS = Prompt("p", "Write a short text about honesty. Do not use any commas. The last word must be 'world'.")


def test_the_checker_is_the_mean_credit_of_the_constraints():
    answers = ["Honesty feeds the world.", "Honesty feeds us all.", "Yes, honesty, and the world, feeds, us.", ""]
    assert scored(RewardConfig(kind="checker"), answers) == pytest.approx([1.0, 0.5, 0.15, 0.0])


def test_the_imperfect_checker_errs_by_its_noise_alike_for_the_same_answer_and_differently_by_seed():
    answers = [f"Honesty number {i} feeds the world." for i in range(400)]
    settings = RewardConfig(kind="imperfect_checker", noise=0.2)
    rewards = scored(settings, [*answers, answers[0]])
    assert rewards[0] == rewards[-1] and scored(settings, answers) == rewards[:-1]
    assert fmean(rewards) == pytest.approx(1.0, abs=0.04)
    assert stdev(rewards) == pytest.approx(0.2, rel=0.15)
    assert scored(settings, answers, seed=1) != rewards[:-1]


def test_the_imperfect_checker_without_noise_is_refused():
    with pytest.raises(ValueError, match="needs noise above 0"):
        RewardConfig(kind="imperfect_checker")


def test_a_checkers_rules_are_part_of_a_stages_key():
    assert reward_inputs(RewardConfig(kind="checker")) == {"reward_model": instructions.content_hash()}
    assert reward_inputs(RewardConfig(kind="gold")) == {"reward_model": sandbox.content_hash()}
    assert reward_inputs(RewardConfig(model="m")) == {"reward_model": content_hash("m")}


@pytest.mark.parametrize(
    "answer, same_as",
    [("BEES MAKE HONEY. THEY DANCE.", "Bees make honey. They dance."), ("*Bees* \"make\"", "Bees make"),
     ("- bees fly\n- they dance", "Bees fly\nThey dance"), ("1. Bees fly.", "Bees fly."), ("<<Bees>> fly", "Bees fly")],
)  # fmt: skip
def test_what_a_constraint_makes_of_a_form_does_not_count_against_fluency(answer, same_as):
    assert plain(answer) == same_as


def test_nats_do_not_depend_on_the_batch_and_are_computed_once(random_llama):
    texts = [p.text for p in prompts("validation", 6)]
    answers = ["say one two", "tom", "", "list one two three four and five", "say", "tom tom"]
    together = Fluency(random_llama).nats(texts, answers)
    scorer = Fluency(random_llama, batch_size=1)
    assert scorer.nats(texts, answers) == pytest.approx(together, abs=2e-3)
    assert together[2] == EMPTY and all(0 < n < 20 for n in together[:2])
    scorer.model = None
    assert scorer.nats(texts[::-1], answers[::-1]) == pytest.approx(together[::-1], abs=2e-3)


def test_the_judge_sees_gold_with_noise(random_llama):
    question = prompts("test")[0].text
    exact = InstructionsJudge(random_llama, JudgeNoise(answer_sd=0, call_rate=0, grid=0.001))
    gold = instructions.gold(question, ANSWER, Fluency(random_llama).nats([question], [ANSWER])[0])
    assert exact.rate(question, ANSWER, "") == pytest.approx((gold, 1.0), abs=2e-3)
    noisy = InstructionsJudge(random_llama)
    assert noisy.name != exact.name
    assert noisy.rate(question, ANSWER, "") == noisy.rate(question, ANSWER, "") != exact.rate(question, ANSWER, "")


def test_answers_are_judged_as_text_through_the_client(random_llama, tmp_path):
    asked = prompts("test", 24)
    good = [f"Many people like {read(p.text).topic}, and they tell each other about it every day." for p in asked]
    sides = [
        [{"instruction": p.text, "output": text} for p, text in zip(asked, texts, strict=True)]
        for texts in (good, ["no"] * 24)
    ]
    judge = make_judge("instructions", str(random_llama))
    found = win_score(*sides, judge, tmp_path)
    assert found["n"] == 24 and found["unparsed"] == 0 and found["win_score"] > 50 and found["usage"]["cost"] == 0
    assert win_score(*sides[::-1], judge, tmp_path / "mirrored")["win_score"] < 50


def test_as_alpacaevals_annotator_the_judge_prefers_the_better_answer(random_llama, tmp_path):
    asked = prompts("test", 24)
    good = [f"Many people like {read(p.text).topic}, and they tell each other about it every day." for p in asked]
    files = []
    for name, texts in (("good", good), ("bad", ["no"] * 24)):
        rows = [{"instruction": p.text, "output": t, "generator": name} for p, t in zip(asked, texts, strict=True)]
        files.append(write_json(tmp_path / f"{name}.json", rows))
    judge = annotator_of(JudgeConfig(name="instructions", model=str(random_llama)))
    rates = evaluate(*files, judge=judge, run_dir=tmp_path / "run")
    assert rates["win_rate"] > 53 and rates["n"] == 24 and rates["unparsed"] == 0
    mirrored = evaluate(*files[::-1], judge=judge, run_dir=tmp_path / "mirrored")
    assert mirrored["win_rate"] < 47


def test_the_judge_without_a_start_policy_is_refused():
    for model in (None, "no/such/folder"):
        with pytest.raises(UserError, match="start policy's folder"):
            make_judge("instructions", model)


def test_annotators_prefer_the_better_answer_as_often_as_bradley_and_terry_say():
    asked, wins = prompts("preference", 1500), 0
    for prompt in asked:
        rows = preference_rows(prompt, ["good", "bad", "bad too"], [3.5, 3.0, 3.05], limit=9)
        assert len(rows) == 2  # a gap of 0.05 is a tie
        wins += sum(row["chosen"] == "good" for row in rows)
    expected = (1 / (1 + math.exp(-1.0)) + 1 / (1 + math.exp(-0.9))) / 2
    assert wins / (2 * len(asked)) == pytest.approx(expected, abs=0.03)
    assert len(preference_rows(asked[0], ["a", "b", "c"], [1.0, 5.0, 9.0], limit=2)) == 2


def test_answers_to_other_topics_are_about_other_topics():
    asked = prompts("preference", 40)
    own = [[f"about {read(p.text).topic}"] for p in asked]
    for prompt in asked:
        others = reward_model._other_topics(prompt, asked, own, 3, seed=0)
        assert len(others) == 3 and f"about {read(prompt.text).topic}" not in others


def test_builds_take_parts_of_their_own_of_the_prompts():
    parts = [{p.text for p in reward_model._prompts_of(seed, RewardBuild())} for seed in range(3)]
    assert all(len(part) == 400 for part in parts) and not parts[0] & parts[1] and not parts[1] & parts[2]


def test_the_offline_baseline_makes_as_many_updates_as_an_online_arm():
    build, config = OfflineBuild(), load_config("smollm2")
    online = (config.iterations + 1) * config.prompts.limit / config.training.batch_size
    assert build.pairs / build.training.batch_size == online == 32
    assert build.training.epochs == config.training.epochs == 1


def test_agreement_counts_pairs_of_one_prompt_that_differ_in_gold():
    group = pd.DataFrame({"gold": [1.0, 2.0, 2.0, 4.0], "reward": [0.1, 0.3, 0.2, 0.25], "met": 0.5, "text": 0.5})
    gaps = reward_model._gaps(group)
    assert len(gaps) == 5 and reward_model._agreement(gaps) == pytest.approx(4 / 5)


ROUGH = "Bees, as we all know, make honey. They dance! And the hive, which is warm and dark, is full of them all the ti"


@pytest.mark.parametrize("kind", KINDS)
def test_the_editor_makes_an_answer_meet_its_constraints(kind):
    asked = [i for i in (read(p.text) for p in prompts("offline")) if kind in {c.kind for c in i.constraints}]
    met = [c.met(edited(i, ROUGH)) for i in asked for c in i.constraints]
    assert len(met) > 50 and fmean(met) > 0.85  # two constraints can be too much for rules
    assert all(edited(i, edited(i, ROUGH)) == edited(i, ROUGH) for i in asked if all(met))


def test_the_editor_leaves_alone_what_meets_the_constraints():
    instruction = read("Write a short text about honey. Do not use any commas.")
    assert edited(instruction, "Bees make honey.") == "Bees make honey."


def config_of(**overrides: Any) -> RunConfig:
    return RunConfig(
        policy={"model": "start"}, reward={"kind": "checker"}, prompts={"path": "instructions:validation"}
    ).with_overrides(overrides)


def test_names_of_this_world_become_files_and_its_judge_gets_the_start_policy(tmp_path):
    config = resolve_instructions(
        config_of(**{"evaluation": {"baseline": "b", "judge": {"name": "instructions"}}}), tmp_path
    )
    assert load_prompts(config.prompts.path) == prompts("validation")
    assert config.evaluation.judge.model == "start" and config.evaluation.baseline == "b"
    plain_config = config_of(**{"prompts.path": "my.jsonl"})
    assert resolve_instructions(plain_config, tmp_path) == plain_config


@pytest.mark.parametrize("name", ["instructions:trian", "instructions:reward@x", "instructions:test@1"])
def test_an_unknown_name_of_this_world_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="There is no"):
        resolve_instructions(config_of(**{"prompts.path": name}), tmp_path)


def test_offline_preferences_are_between_other_writers_answers(random_llama, tmp_path):
    settings = OfflineBuild(prompts=6, pairs=6, max_new_tokens=4)
    file = offline.pairs(random_llama, 0, tmp_path, settings)
    table = pd.read_parquet(file)
    assert list(table) == ["prompt_id", "prompt", "chosen", "rejected"] and len(table) == 6
    assert set(table.prompt) <= {p.text for p in prompts("offline", 6)}
    assert (table.chosen != table.rejected).all()
    assert offline.pairs(random_llama, 0, tmp_path, settings) == file
    with pytest.raises(UserError, match="fewer than 99"):
        offline.pairs(random_llama, 1, tmp_path, replace(settings, pairs=99))


def test_a_build_shows_how_far_each_of_its_parts_is(random_llama, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reward_model, "PADDING", AutoTokenizer.from_pretrained(random_llama).eos_token)
    quick = TrainingConfig(batch_size=2, micro_batch_size=2)
    offline.baseline(random_llama, 3, tmp_path, OfflineBuild(prompts=6, pairs=6, max_new_tokens=4, training=quick))
    sizes = RewardBuild(prompts=8, samples=2, off_topic=1, edited=1, max_new_tokens=4, layers=1)
    reward_model.build(random_llama, 3, tmp_path, sizes)
    told = capsys.readouterr().err
    for part in (
        "offline pairs, build 3: sampling: 100%.* 12/12",
        "offline pairs, build 3: grading: 100%.* 6/6",
        "baseline, build 3: training: 100%.* 3/3",
        "reward model, build 3: sampling: 100%.* 16/16",
        "reward model, build 3: fluency: 100%",
        "reward model, build 3: training: 100%",
    ):
        assert re.search(part, told), part
    reward_model.build(random_llama, 3, tmp_path, sizes)
    assert not capsys.readouterr().err  # what is there is taken


def test_the_evaluation_takes_this_worlds_splits_by_name_and_measures_its_gold(random_llama):
    assert prompt_set("instructions:test300") == prompts("test300")
    with pytest.raises(UserError, match="Unknown split"):
        prompt_set("instructions:tests")
    row = {"instruction": "Write a short text about honey. Do not use any commas.", "output": "Bees make honey."}
    found = measure._instructions_quality([row, {**row, "output": "Bees, bees."}], str(random_llama))
    assert found["met"][0] == 1.0 and not any(found["met"][1:])
    assert found["gold"][0] > found["gold"][1] and found["gold_mean"] == pytest.approx(fmean(found["gold"]))


@pytest.mark.slow
def test_the_real_start_policy_still_gives_the_recorded_nats():
    nats = Fluency(packaged_model("smollm2-135m-instruct")).nats(
        [row["prompt"] for row in GRADED], [row["answer"] for row in GRADED]
    )
    assert nats == pytest.approx([row["nats"] for row in GRADED], abs=0.05)
