"""MT-Bench and Arena-Hard: scores worked out by hand, unreadable verdicts, files, any endpoint, and nothing twice."""

from __future__ import annotations

import json
import threading
from collections import Counter

import httpx2
import numpy as np
import pytest

from eval import arena_hard, mt_bench
from eval.arena_hard import evaluate as arena_cli
from eval.arena_hard.games import game, parse_verdict
from eval.arena_hard.games import summarize as score_games
from eval.judges import Judge
from eval.mt_bench import evaluate as mt_cli
from eval.mt_bench.grading import parse_grade
from eval.questions import Question, read_answers, read_questions
from eval.stats import bootstrap_ratio
from optune.chat.client import ChatSettings
from optune.chat.endpoint import completions, in_process, on_loopback
from optune.types import UserError

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["write w1", "write w2"]},
    {"question_id": 101, "category": "math", "turns": ["sum m1", "sum m2"], "reference": ["ref m1", "ref m2"]},
    {"question_id": 102, "category": "math", "turns": ["sum n1", "sum n2"]},
]
GRADES = {"w1": "8", "w2": "6", "m1": "3", "m2": "4.5", "n1": "2", "n2": "no grade"}  # by the answer graded


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answers(rows, model="tested", mark="answer"):
    def turn(text):
        return f"{mark} {(text['content'] if isinstance(text, dict) else text).split()[1]}"

    return [
        {
            "question_id": r["question_id"],
            "model_id": model,
            "choices": [{"index": 0, "turns": list(map(turn, r["turns"]))}],
        }
        for r in rows
    ]


def grader(prompt: str) -> str:
    """Grades the last answer shown, by the table above."""
    graded = next(name for name in ("w2", "m2", "n2", "w1", "m1", "n1") if f"answer {name}" in prompt)
    return f"It says [[1]], which is an array.\nGrade: [[{GRADES[graded]}]]"


def scripted(reply, seen=None) -> Judge:
    def answer(prompt):
        if seen is not None:
            seen.append(prompt)
        return reply(prompt)

    return Judge(
        ChatSettings("scripted", price_in=0, price_out=0), transport=in_process(completions("scripted", answer))
    )


@pytest.fixture
def mt_files(tmp_path):
    return write(tmp_path / "q.jsonl", QUESTIONS), write(tmp_path / "a.jsonl", answers(QUESTIONS))


# --- MT-Bench ---


def test_mt_bench_scores_are_those_worked_out_by_hand(mt_files, tmp_path):
    questions = read_questions(mt_files[0], turns=2)
    found = mt_cli.mt_bench(questions, read_answers(mt_files[1], questions), scripted(grader), tmp_path / "run")
    assert found["score"] == (8 + 6 + 3 + 4.5 + 2) / 5 and found["grades"] == 5
    assert found["turns"]["1"]["score"] == pytest.approx((8 + 3 + 2) / 3)
    assert found["turns"]["2"]["score"] == (6 + 4.5) / 2
    assert found["categories"]["math"]["score"] == pytest.approx((3 + 4.5 + 2) / 3)
    assert found["categories"]["writing"] == {"score": 7, "interval": None, "grades": 2}  # one question, no interval
    assert (found["unparsed"], found["without_reference"], found["test_model"]) == (1, 1, "tested")
    assert found["interval"]["low"] < found["score"] < found["interval"]["high"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "grades.jsonl").read_text().splitlines()]
    assert [row["grade"] for row in rows] == [8, 6, 3, 4.5, 2, None] and rows[0]["question_id"] == 81


def test_the_second_turn_shows_the_first_and_only_guided_categories_a_reference(mt_files, tmp_path):
    seen = []
    questions = read_questions(mt_files[0], turns=2)
    mt_cli.mt_bench(questions, read_answers(mt_files[1], questions), scripted(grader, seen), tmp_path / "run")
    second = next(prompt for prompt in seen if "answer w2" in prompt)
    assert "write w1" in second and "answer w1" in second and "orrect" not in second.split("[First question]")[1]
    assert any("ref m1" in p and "ref m2" not in p for p in seen) and any("ref m2" in p for p in seen)
    assert all("{" not in prompt for prompt in seen)


def test_nothing_is_asked_twice_and_unreadable_grades_only_on_request(mt_files, tmp_path):
    seen = []
    questions = read_questions(mt_files[0], turns=2)
    run = (questions, read_answers(mt_files[1], questions), scripted(grader, seen), tmp_path / "run")
    first = mt_cli.mt_bench(*run)
    assert mt_cli.mt_bench(*run) == first and len(seen) == 6
    mt_cli.mt_bench(*run, retry_unparsed=True)
    assert len(seen) == 7
    other = read_answers(write(tmp_path / "b.jsonl", answers(QUESTIONS, "other")), questions)
    with pytest.raises(UserError, match="other test_model"):
        mt_cli.mt_bench(questions, other, *run[2:])


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("Grade: [[7]]", 7),
        ("good [[7.5/10]]", 7.5),
        ("the matrix [[1]]\nGrade: [[9]]", 9),
        ("Grade: [[9]]\nThat is all.", 9),
        ("[[3]] or [[4]]", None),
        ("the array [[3]]\nis sorted", None),
        ("[[0]]", None),
        ("[[11]]", None),
        ("Grade: 7", None),
        ("", None),
        (None, None),
    ],
)
def test_a_grade_is_read_or_none(reply, grade):
    assert parse_grade(reply) == grade


def test_the_command_line_reads_references_and_asks_an_endpoint(mt_files, tmp_path, capsys):
    references = write(tmp_path / "r.jsonl", answers(QUESTIONS[2:], "gold", mark="known"))
    server = on_loopback(completions("m", lambda prompt: "Fine.\nGrade: [[10]]" if "known" in prompt else "[[5]]"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    options = ["--questions", mt_files[0], "--answers", mt_files[1], "--references", references, "--judge", "m"]
    assert mt_cli.main(list(map(str, ["judge", *options, "--base-url", url, "--run-dir", tmp_path / "run"]))) == 0
    server.shutdown()
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["score"] == (4 * 5 + 2 * 10) / 6 and found["without_reference"] == 0
    assert "6 calls to make" in shown.err


# --- Arena-Hard ---

HARD = [{"question_id": f"h{i}", "turns": [{"content": f"task t{i}"}]} for i in range(4)]
# By task the verdicts shown in the orders AB and BA, with the test model's answer as A in the first.
SAID = {
    "t0": ("[[A>>B]]", "[[B>A]]"),  # much better, better
    "t1": ("[[A=B]]", "[[A>B]]"),  # tie, worse
    "t2": ("[[B>>A]]", "[[B<A]]"),  # much worse, worse
    "t3": ("[[A>B]]", "I cannot say."),
}


def referee(prompt: str) -> str:
    task = next(name for name in SAID if f"task {name}" in prompt)
    first = prompt.index("answer t") < prompt.index("baseline t")
    return f"My own answer is this.\n{SAID[task][not first]}"


@pytest.fixture
def arena(tmp_path):
    questions = read_questions(write(tmp_path / "h.jsonl", HARD), turns=1)
    tested = read_answers(write(tmp_path / "t.jsonl", answers(HARD)), questions)
    return questions, tested, read_answers(write(tmp_path / "b.jsonl", answers(HARD, "base", "baseline")), questions)


def test_arena_hard_scores_are_those_worked_out_by_hand(arena, tmp_path):
    found = arena_cli.arena_hard(*arena, scripted(referee), tmp_path / "run")
    won, played = 3 + 1 + 0.5, 3 + 1 + 1 + 1 + 3 + 1  # t3 has one verdict that cannot be read: it is left out
    assert found["win_rate"] == pytest.approx(100 * won / played)
    assert found["log_odds"] == pytest.approx(np.log(won / (played - won)))
    assert (found["n"], found["unparsed"], found["unparsed_games"]) == (3, 1, 1)
    assert found["games"] == {"much_better": 1, "better": 1, "tie": 1, "worse": 2, "much_worse": 1}
    assert found["flip_share"] == 0 and found["first_position_share"] == 3 / 5
    assert found["interval"]["low"] <= found["win_rate"] <= found["interval"]["high"]
    assert found["length"] == {"test_model": {"characters": 9, "words": 2}, "baseline": {"characters": 11, "words": 2}}


def test_the_closed_form_is_the_bradley_terry_fit_of_all_models_at_once():
    from sklearn.linear_model import LogisticRegression

    questions = [Question(str(i), "", ("q",)) for i in range(40)]
    rng = np.random.default_rng(0)
    models = [{(q.key, o): int(rng.choice([-2, -1, 0, 1, 2], p=p)) for q in questions for o in ("AB", "BA")} for p in (
        [0.1, 0.2, 0.2, 0.3, 0.2], [0.4, 0.3, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2])]  # fmt: skip
    rows, labels, weights = [], [], []
    for place, games in enumerate(models):
        for level in games.values():
            for label, share in ((1, (1 + np.sign(level)) / 2), (0, (1 - np.sign(level)) / 2)):
                rows.append(np.eye(3)[place])
                labels.append(label)
                weights.append(share * (3 if abs(level) == 2 else 1))
    fit = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(rows, labels, weights)
    found = [score_games(questions, games)["log_odds"] for games in models]
    assert found == pytest.approx(fit.coef_[0].tolist(), abs=1e-4)


def test_swapping_the_models_mirrors_the_win_rate():
    questions = [Question(str(i), "", ("q",)) for i in range(3)]
    games = {
        (str(i), o): level
        for i, pair in enumerate([(2, -1), (0, 1), (None, 2)])
        for o, level in zip(("AB", "BA"), pair, strict=True)
    }
    here = score_games(questions, games)
    there = score_games(questions, {place: level and -level for place, level in games.items()})
    assert here["win_rate"] + there["win_rate"] == pytest.approx(100) and here["n"] == there["n"] == 2
    assert here["flip_share"] == 0.5


@pytest.mark.parametrize(
    ("reply", "level"),
    [
        ("[[A>>B]]", 2),
        ("so: [[A>B]].", 1),
        ("**[[A=B]]**", 0),
        ("[[B > A]]", -1),
        ("[[A<<B]]", -2),
        ("[[A>B]] at first\nno: [[B>A]]", -1),
        ("[[A>B]] or [[B>A]]", None),
        ("[[A>A]]", None),
        ("A>B", None),
        (None, None),
    ],
)
def test_a_verdict_is_read_or_none(reply, level):
    assert parse_verdict(reply) == level
    assert game(reply, "BA") == (None if level is None else -level)


def test_all_games_won_has_no_finite_strength():
    found = score_games([Question("q", "", ("t",))], {("q", "AB"): 2, ("q", "BA"): 1})
    assert (found["win_rate"], found["log_odds"], found["interval"]) == (100, None, None)


def test_an_endpoint_with_faults_is_asked_until_every_game_is_settled_and_none_twice(arena, tmp_path):
    from fault_endpoint import FaultyTransport

    transport = FaultyTransport(share=0.4)
    judge = Judge(ChatSettings("m", backoff=0.01, max_backoff=0.01, max_attempts=20), transport=transport)
    found = arena_cli.arena_hard(*arena, judge, tmp_path / "run")
    assert all(failure["final"] for failure in found["usage"].get("failures", ()))
    assert found["n"] == 0 and found["unparsed"] == 4
    assert found["win_rate"] is None and Counter(transport.answered.values()).keys() <= {0, 1}
    asked = sum(transport.asked.values())
    arena_cli.arena_hard(*arena, judge, tmp_path / "run")
    assert sum(transport.asked.values()) == asked


def test_a_judge_that_fails_for_good_leaves_no_score_and_is_asked_again_on_request(arena, tmp_path):
    calls = Counter()

    def handle(request):
        calls["n"] += 1
        if calls["n"] == 1:
            choice = {"message": {"role": "assistant", "content": "[[A>B]]"}}
            return httpx2.Response(200, json={"choices": [choice]})
        return httpx2.Response(400, json={"error": {"message": "too long", "code": "context_length_exceeded"}})

    judge = Judge(ChatSettings("m", concurrency=1), transport=httpx2.MockTransport(handle))
    found = arena_cli.arena_hard(*arena, judge, tmp_path / "run")
    assert found["usage"]["failed_calls"] == 7 and found["n"] == 0
    before = calls["n"]
    arena_cli.arena_hard(*arena, judge, tmp_path / "run")
    assert calls["n"] == before
    arena_cli.arena_hard(*arena, judge, tmp_path / "run", retry_unparsed=True)
    assert calls["n"] == before + 7


# --- files, and answering ---


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"turns": ["a", "b"]}, "row 1: needs an object with `question_id`"),
        ({"question_id": 1, "turns": "a"}, "row 1: `turns` must be a list of texts"),
        ({"question_id": 1, "turns": ["a", {"text": "b"}]}, "`turns` must be a list of texts"),
        ({"question_id": 1, "turns": ["a"]}, "has 1 turns; this benchmark's have 2"),
        ({"question_id": 1, "turns": ["a", "b"], "reference": [3]}, "`reference` must be a list of texts"),
    ],
)
def test_a_bad_question_is_named(tmp_path, row, told):
    with pytest.raises(UserError, match=told):
        read_questions(write(tmp_path / "q.jsonl", [row]), turns=2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[1:], "question '81' has no answer"),
        (lambda rows: [*rows, rows[0]], "row 4: the question '81' is answered a second time"),
        (lambda rows: [{**rows[0], "choices": []}], "row 1: needs `choices`"),
        (lambda rows: [{**rows[0], "choices": [{"turns": ["a"]}]}, *rows[1:]], "'81' has 1 answers for 2 turns"),
        (lambda rows: [{**rows[0], "choices": [{"turns": ["a", " "]}]}, *rows[1:]], "to question '81' is empty"),
        (lambda rows: [{**rows[0], "model_id": "x"}, *rows[1:]], "answers of 2 models"),
    ],
)
def test_answers_that_do_not_fit_are_named(mt_files, tmp_path, change, told):
    questions = read_questions(mt_files[0], turns=2)
    with pytest.raises(UserError, match=told):
        read_answers(write(tmp_path / "c.jsonl", change(answers(QUESTIONS))), questions)


def test_a_checkpoint_answers_both_turns_and_arena_questions(random_llama, tmp_path, capsys):
    rows = [
        {"question_id": i, "category": c, "turns": ["sort cat dog", "and red"]} for i, c in ((1, "math"), (2, "stem"))
    ]
    questions = write(tmp_path / "q.jsonl", rows)
    options = ["--checkpoint", random_llama, "--max-new-tokens", 4, "--generator", "tiny"]
    arguments = ["answer", *options, "--questions", questions, "--out", tmp_path / "a.jsonl"]
    assert mt_cli.main(list(map(str, arguments))) == 0
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [len(row["choices"][0]["turns"]) for row in found] == [2, 2] and found[0]["model_id"] == "tiny"
    assert "greedy" in found[0]["decoding"] and "temperature 0.1" in found[1]["decoding"]
    assert read_answers(tmp_path / "a.jsonl", read_questions(questions, turns=2), allow_empty=True).model == "tiny"
    assert mt_cli.main(list(map(str, arguments))) == 2 and "is there already" in capsys.readouterr().err
    hard = write(tmp_path / "h.jsonl", [{"question_id": "x", "turns": [{"content": "sort cat dog"}]}])
    arguments = ["answer", *options, "--questions", hard, "--out", tmp_path / "b.jsonl"]
    assert arena_cli.main(list(map(str, arguments))) == 0


def test_the_packages_say_what_they_are():
    assert "Zheng et al." in mt_bench.__doc__ and "Li et al." in arena_hard.__doc__


def test_a_ratio_is_resampled_by_units():
    found = bootstrap_ratio([3, 1, 0], [3, 1, 2])
    assert found.estimate == pytest.approx(4 / 6) and found.low >= 0 and found.high <= 1
    assert bootstrap_ratio([1, 1], [2, 2]).low == 0.5
    with pytest.raises(ValueError, match="positive size"):
        bootstrap_ratio([1, 1], [0, 2])


def test_a_category_or_name_of_0_is_one(tmp_path):
    question = {"question_id": 0, "category": 0, "turns": ["a"]}
    (found,) = read_questions(write(tmp_path / "q.jsonl", [question]), turns=1)
    assert (found.key, found.category) == ("0", "0")
    row = {"question_id": 0, "model_id": 0, "choices": [{"index": 0, "turns": ["x"]}]}
    assert read_answers(write(tmp_path / "a.jsonl", [row]), [found]).model == "0"
