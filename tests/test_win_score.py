"""Eq. 7 by the win rule, from files, through the sandbox judge, and paired."""

from __future__ import annotations

import itertools
import json

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import win_score as cli
from eval.judges import JUDGES, Judge, make_judge
from eval.judges.sandbox import JudgeNoise, SandboxJudge, rate
from eval.verdicts import from_scores, summarize, verdict_of
from eval.win_score import match, read_verdicts, win_score
from experiments.development.calibrate_judge import calibrate, distance, shares
from optune.chat.client import ChatSettings
from optune.chat.endpoint import on_loopback
from optune.types import UserError

WIN, TIE, LOSE = (9.0, 8.0), (8.0, 8.0), (7.0, 8.0)
BY_RULE = {  # the two replies' verdicts -> the prompt's
    (WIN, WIN): "win",
    (WIN, TIE): "win",
    (WIN, LOSE): "tie",
    (TIE, TIE): "tie",
    (LOSE, TIE): "lose",
    (LOSE, LOSE): "lose",
}


# --- the rule ---


@pytest.mark.parametrize(("replies", "outcome"), BY_RULE.items())
def test_the_win_rule_in_both_orders(replies, outcome):
    assert from_scores("p", *replies).outcome == outcome
    assert from_scores("p", *replies[::-1]).outcome == outcome


def test_the_second_order_shows_the_baseline_first():
    verdict = verdict_of("p", "9 7\nthe first", "7 9\nthe second")
    assert verdict.outcome == "win" and verdict.scores_ba == (9, 7)


@pytest.mark.parametrize("reply", [None, "", "no idea", "8"])
def test_an_unreadable_reply_leaves_the_prompt_unparsed(reply):
    assert verdict_of("p", reply, "1 9").outcome == "unparsed"
    found = summarize([verdict_of("p", reply, "1 9"), verdict_of("q", "9 1", "1 9")])
    assert (found["n"], found["unparsed"], found["win"], found["lose"], found["win_score"]) == (1, 1, 1, 0, 150)


def test_eq_7_by_hand():
    verdicts = [
        from_scores(str(i), *pair) for i, pair in enumerate([(WIN, WIN)] * 5 + [(WIN, LOSE)] * 3 + [(LOSE, TIE)] * 2)
    ]
    found = summarize(verdicts)
    assert (found["win"], found["tie"], found["lose"], found["n"]) == (5, 3, 2, 10)
    assert found["win_score"] == 80
    assert found["interval"]["low"] < 80 < found["interval"]["high"]
    assert found["flip_share"] == 0.3 and found["unequal_share"] == 0.5 and found["reply_tie_share"] == 0.1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([WIN, TIE, LOSE, None])] * 2), max_size=12))
def test_swapping_the_models_mirrors_the_score(pairs):
    swap = lambda scores: scores and scores[::-1]  # noqa: E731
    here = summarize([from_scores(str(i), *p) for i, p in enumerate(pairs)], interval=False)
    there = summarize([from_scores(str(i), *map(swap, p)) for i, p in enumerate(pairs)], interval=False)
    assert (here["win"], here["lose"], here["tie"], here["n"]) == (
        there["lose"],
        there["win"],
        there["tie"],
        there["n"],
    )
    if here["n"]:
        assert here["win_score"] + there["win_score"] == pytest.approx(100)
        assert -50 <= here["win_score"] <= 150
    assert here["n"] + here["unparsed"] == len(pairs)


def test_first_position_preference():
    always_first = [verdict_of(str(i), "9 8", "9 8") for i in range(4)]
    assert summarize(always_first)["first_position_share"] == 1
    assert summarize([verdict_of("p", "8 8", "8 8")])["first_position_share"] is None


def test_off_scale_replies_compare_and_are_counted():
    found = summarize([verdict_of("p", "0 9", "9 0"), verdict_of("q", "1 9", "9 1")])
    assert (found["lose"], found["off_scale"]) == (2, 2)


# --- score ---


def reviews(tmp_path, rows):
    path = tmp_path / "reviews.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(prompt_id="p", order="AB", reply="9 8"):
    return {"prompt_id": prompt_id, "order": order, "reply": reply}


def test_score_prints_json(tmp_path, capsys):
    path = reviews(
        tmp_path,
        [row(), row(order="BA"), row("q"), row("q", "BA", "8 9"), row("r", reply=None), row("r", "BA"), row(7)],
    )
    assert cli.main(["score", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {k: found[k] for k in ("win", "tie", "lose", "unparsed", "n", "missing_order", "win_score")} == {
        "win": 1, "tie": 1, "lose": 0, "unparsed": 2, "n": 2, "missing_order": 1, "win_score": 100.0
    }  # fmt: skip
    assert found["flip_share"] == 0.5


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row(), '{"prompt_id": '], "row 2: not valid JSON"),
        ([row(), row("q", "XY")], "row 2: `order` must be AB or BA"),
        ([{"prompt_id": "p", "order": "AB"}], "row 1: `reply` is missing"),
        ([row(reply=8)], "row 1: `reply` must be a text"),
        ([row(prompt_id=None)], "row 1: `prompt_id`"),
        ([row(), row()], "row 2: prompt 'p' has a second reply"),
        (["[1]"], "row 1: expected an object"),
        ([], "no reviews"),
    ],
)
def test_score_names_the_bad_row(tmp_path, capsys, rows, told):
    assert cli.main(["score", str(reviews(tmp_path, rows))]) == 2
    assert told in capsys.readouterr().err


def test_score_of_a_file_that_is_not_there(tmp_path, capsys):
    assert cli.main(["score", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


# --- judge ---


@pytest.fixture(scope="module")
def answers() -> dict[str, list[dict[str, str]]]:
    """Answers of writers of different skill to 80 sandbox prompts."""
    from optune.sandbox import Writer, prompts

    shifts = {"good": 0.2, "middling": 0.1, "base": 0.0}
    return {
        name: [{"instruction": p.text, "output": Writer(name, shift, shift).write(p)} for p in prompts("test", 80)]
        for name, shift in shifts.items()
    }


def test_the_sandbox_judge_end_to_end(answers, tmp_path):
    found = win_score(answers["good"], answers["base"], make_judge("sandbox"), tmp_path)
    assert found["n"] == 80 and found["unparsed"] == 0 and found["win_score"] > 55
    assert found["usage"]["cost"] == 0
    assert len(read_verdicts(tmp_path)) == 80
    verdicts, missing = cli.read_reviews(tmp_path / "reviews.jsonl")
    assert missing == 0 and {v.prompt_id: v for v in verdicts} == read_verdicts(tmp_path)


def test_judged_again_offline_it_is_the_same(answers, tmp_path):
    first = win_score(answers["good"], answers["base"], make_judge("sandbox"), tmp_path)
    replies = (tmp_path / "replies.jsonl").read_bytes()
    assert win_score(answers["good"], answers["base"], make_judge("sandbox", offline=True), tmp_path) == first
    assert (tmp_path / "replies.jsonl").read_bytes() == replies


def test_the_command_line_judges_and_compares(answers, tmp_path, capsys):
    for name, rows in answers.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    for name in ("good", "middling"):
        options = ["--judge", "sandbox", "--run-dir", str(tmp_path / name), "--max-cost", "0"]
        files = ["--outputs", str(tmp_path / f"{name}.json"), "--baseline", str(tmp_path / "base.json")]
        assert cli.main(["judge", *files, *options]) == 0
        assert "160 calls to make" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path / "good"), str(tmp_path / "middling")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 80 and found["difference"] == pytest.approx(found["win_score_a"] - found["win_score_b"])
    assert found["interval"]["low"] < found["difference"] < found["interval"]["high"]
    assert 0 <= found["mcnemar_p"] <= 1


def test_comparing_across_baselines_is_refused(answers, tmp_path):
    for name, run in (("base", "a"), ("middling", "b")):
        win_score(answers["good"][:5], answers[name][:5], make_judge("sandbox"), tmp_path / run)
    with pytest.raises(UserError, match="different baselines"):
        cli.compare_runs(tmp_path / "a", tmp_path / "b")


def test_a_run_directory_of_something_else_is_refused(answers, tmp_path):
    win_score(answers["good"][:5], answers["base"][:5], make_judge("sandbox"), tmp_path)
    with pytest.raises(UserError, match="other outputs"):
        win_score(answers["middling"][:5], answers["base"][:5], make_judge("sandbox"), tmp_path)


def test_unreadable_replies_are_asked_again_on_request_only(tmp_path):
    replies = itertools.chain(["no idea", "8 9"], itertools.repeat("9 8"))

    def handle(request):
        choice = {"message": {"role": "assistant", "content": next(replies)}}
        return httpx2.Response(200, json={"choices": [choice]})

    judge = Judge(ChatSettings("m", concurrency=1), transport=httpx2.MockTransport(handle))
    rows = [{"instruction": "q", "output": "a"}], [{"instruction": "q", "output": "b"}]
    assert win_score(*rows, judge, tmp_path)["unparsed"] == 1
    assert win_score(*rows, judge, tmp_path)["unparsed"] == 1
    found = win_score(*rows, judge, tmp_path, retry_unparsed=True)
    assert found["unparsed"] == 0 and found["win"] == 1
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == 3


# --- bad input ---


def outputs(*pairs):
    return [{"instruction": i, "output": o} for i, o in pairs]


@pytest.mark.parametrize(
    ("test", "base", "told"),
    [
        (
            outputs(("q1", "a"), ("q2", "b")),
            outputs(("q1", "a")),
            r"1 of 2 instructions are not in the baseline \(first: 'q2'\)",
        ),
        (outputs(("q1", "a")), outputs(("q1", "a"), ("q3", "b")), r"not in the outputs \(first: 'q3'\)"),
        (outputs(("q1", " ")), outputs(("q1", "a")), r"1 of the 1 outputs in the outputs are empty \(first: 'q1'\)"),
        ([], outputs(("q1", "a")), "no answers in the outputs"),
    ],
)
def test_answers_that_do_not_match_are_named(test, base, told):
    with pytest.raises(UserError, match=told):
        match(test, base)


def test_ids_count_only_where_both_sides_have_them():
    test = [
        {"prompt_id": "p1", "instruction": "q1", "output": "a"},
        {"prompt_id": "p2", "instruction": "q2", "output": "b"},
    ]
    base = [{"instruction": row["instruction"], "output": "c"} for row in test[::-1]]
    assert [(c.instruction, c.answer) for c in match(test, base)] == [("q1", "a"), ("q2", "b")]
    assert [c.prompt_id for c in match(test, test)] == ["p1", "p2"]


def test_an_in_process_judge_takes_no_batches(answers, tmp_path):
    with pytest.raises(UserError, match="takes no batches"):
        win_score(answers["good"], answers["good"], make_judge("sandbox"), tmp_path, batch=True)


def test_an_instruction_may_occur_twice():
    rows = outputs(("q", "a"), ("q", "b"))
    assert [(c.answer, c.baseline) for c in match(rows, rows[::-1])] == [("a", "b"), ("b", "a")]


def test_empty_answers_are_judged_when_asked_for():
    assert len(match(outputs(("q", "")), outputs(("q", "a")), allow_empty=True)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [("[]", "at least one"), ('[{"instruction": "q"}]', "row 1: needs a text `output`"), ("{", "not valid JSON")],
)
def test_a_bad_outputs_file_is_named(tmp_path, capsys, text, told):
    path = tmp_path / "a.json"
    path.write_text(text)
    arguments = [
        "--outputs",
        str(path),
        "--baseline",
        str(path),
        "--judge",
        "sandbox",
        "--run-dir",
        str(tmp_path / "r"),
    ]
    assert cli.main(["judge", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_refused_key_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    monkeypatch.setitem(
        JUDGES,
        "refusing",
        lambda model, **options: Judge(
            ChatSettings("m"),
            transport=httpx2.MockTransport(lambda r: httpx2.Response(401, json={"error": {"message": "bad"}})),
        ),
    )
    path = tmp_path / "a.json"
    path.write_text(json.dumps(outputs(*((f"q{i}", "a") for i in range(300)))))
    arguments = [
        "--outputs",
        str(path),
        "--baseline",
        str(path),
        "--judge",
        "refusing",
        "--run-dir",
        str(tmp_path / "r"),
    ]
    assert cli.main(["judge", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1 and "refuses the key" in err and "sk-wrong" not in err


# --- the sandbox judge ---


def test_the_sandbox_judge_says_the_same_for_ever_and_sees_gold(answers):
    judge = SandboxJudge(JudgeNoise(answer_sd=0, call_rate=0))
    question, answer = answers["good"][0]["instruction"], answers["good"][0]["output"]
    first, second = judge.rate(question, answer, "")
    assert (first, second) == judge.rate(question, answer, "") and first > second == 1
    assert judge.name != SandboxJudge().name
    assert judge.respond({"messages": [{"content": "hello"}]})[0] == 200


def test_a_position_bias_favours_the_first_answer():
    noise = JudgeNoise(answer_sd=0, call_rate=0, position_bias=1)
    assert rate(noise, ("q", "a", "b"), 5, 5) == (6, 5)


def test_scores_stay_on_the_grid_and_the_scale():
    noise = JudgeNoise(answer_sd=5, call_sd=5, call_rate=1, grid=0.5)
    scores = [s for i in range(200) for s in rate(noise, ("q", str(i), "b"), 9, 2)]
    assert min(scores) == 1 and max(scores) == 10 and all(s * 2 == int(s * 2) for s in scores)


def test_the_noise_can_be_fitted_to_real_replies(answers, monkeypatch):
    monkeypatch.setattr(
        "experiments.development.calibrate_judge.GRID", {"call_rate": (0.0, 0.5), "call_sd": (0.5, 1.5)}
    )
    contests = match(answers["good"], answers["base"])
    from optune.sandbox import gold

    golds = [(gold(c.instruction, c.answer), gold(c.instruction, c.baseline)) for c in contests]
    noise, found = calibrate(contests, golds)
    assert distance(found) < distance(shares(contests, golds, JudgeNoise(call_rate=0)))
    assert found == shares(contests, golds, noise)


def test_the_sandbox_judge_on_loopback(answers, tmp_path):
    import threading

    judge = SandboxJudge()
    server = on_loopback(judge.respond)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        over_http = Judge(ChatSettings(judge.name, base_url=f"http://127.0.0.1:{server.server_port}/v1"))
        pair = answers["good"][:10], answers["base"][:10]
        loopback = win_score(*pair, over_http, tmp_path / "a")
        inside = win_score(*pair, make_judge("sandbox"), tmp_path / "b")
    finally:
        server.shutdown()
        server.server_close()
    assert {k: v for k, v in loopback.items() if k != "usage"} == {k: v for k, v in inside.items() if k != "usage"}


@pytest.mark.parametrize("kind", [int, str, float])
def test_ids_from_zero_on_pair_the_answers_whatever_their_order(kind):
    """0 is an id: thrown away, answers of different prompts with one text would be paired by their place."""
    rows = [{"prompt_id": kind(i), "instruction": "same", "output": f"answer {i}", "generator": "m"} for i in range(3)]
    baseline = [{**row, "output": f"baseline {i}"} for i, row in enumerate(rows)]
    contests = match(rows, baseline[::-1])
    assert sorted((c.answer, c.baseline) for c in contests) == [(f"answer {i}", f"baseline {i}") for i in range(3)]
