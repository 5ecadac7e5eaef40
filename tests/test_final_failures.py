"""A call that fails for good costs itself alone: it is not tried twice, its reason is told, and its price counts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fault_endpoint import completion

from eval.judges import endpoint
from eval.judging import tell_failures, usage_of
from eval.win_score import match, read_outputs, win_score
from optune.chat.batch import _read_line
from optune.chat.client import ChatClient, ChatRequest, ChatSettings, conversation, read_completion, without_system
from optune.chat.reply_log import Reply, ReplyLog, Usage
from optune.types import UserError

BAD = "text 3"
CONTEXT = [  # as servers of several kinds say that a request is too long
    (400, {"error": {"message": "This model's maximum context length is 2048 tokens. However, you ...", "code": 400}}),
    (400, {"object": "error", "message": "This model's maximum context length is 2048 tokens.", "code": 400}),
    (400, {"error": {"message": "the request exceeds the available context size", "code": 400}}),
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}),
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 5 > 2"}}),
    (413, {"error": {"message": "Request entity too large"}}),
    (500, {"error": {"message": "context length exceeded"}}),
    (429, {"error": {"message": "Request too large for m on tokens per min", "code": "rate_limit_exceeded"}}),
]
FLAGGED = [
    (403, {"error": {"code": 403, "message": "Input was flagged by moderation"}}),
    (400, {"error": {"code": "content_filter", "message": "The response was filtered"}}),
    (403, {"error": {"message": "not for you"}}),  # says nothing of why, but the others are answered
    (400, {"error": {"message": "no"}}),
]


def choice(content: Any, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **fields}}


WHOLE = [  # whole replies of status 200 that are no answers, and what is said of them
    (choice(None, "length", reasoning_content="First I weigh"), "raise max_tokens"),
    (choice("", "length"), "raise max_tokens"),
    (choice(None), "the reply is empty"),
    (choice("8 9", "content_filter"), "content filter"),
    (choice(None, refusal="I cannot."), "the model refused: I cannot."),
    (choice("8 1", "error"), "broke off"),
    (choice([{"type": "thinking", "thinking": "8 9"}]), "the reply is empty"),
]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")


class One(httpx2.MockTransport):
    """Answers every call but the bad one; counts them."""

    def __init__(self, status: int, body: dict[str, Any]):
        self.asked: Counter[str] = Counter()

        def handle(request: httpx2.Request) -> httpx2.Response:
            text = json.loads(request.content)["messages"][-1]["content"]
            self.asked[text] += 1
            return httpx2.Response(status, json=body) if text == BAD else httpx2.Response(200, json=completion("8 9"))

        super().__init__(handle)


def requests(n: int = 6) -> list[ChatRequest]:
    return [ChatRequest(conversation(None, f"text {i}"), {"max_tokens": 9}, label=f"call {i}") for i in range(n)]


def ask(tmp_path: Path, transport: httpx2.AsyncBaseTransport, some: list[ChatRequest] | None = None, **settings: Any):
    settings = {"backoff": 0.01, "max_backoff": 0.02, "concurrency": 1, **settings}
    client = ChatClient(ChatSettings("fake", **settings), tmp_path / "replies.jsonl", transport=transport)
    return client, client.ask(requests() if some is None else some)


@pytest.mark.parametrize(("status", "body"), [*CONTEXT, *FLAGGED])
@pytest.mark.parametrize("first", [True, False])
def test_a_request_that_is_refused_for_its_text_fails_alone_and_once(tmp_path, status, body, first):
    transport = One(status, body)
    some = sorted(requests(), key=lambda call: (call.messages[0]["content"] != BAD) == first)
    for _ in range(2):  # the second time, nothing is asked
        _, replies = ask(tmp_path, transport, some)
        assert transport.asked == dict.fromkeys((f"text {i}" for i in range(6)), 1)
        (failed,) = (reply for reply in replies.values() if not reply.answered)
        assert failed.final and failed.error and len(replies) == 6


@pytest.mark.parametrize(("reply", "told"), WHOLE)
def test_a_whole_reply_without_an_answer_is_paid_once_and_says_why(tmp_path, reply, told):
    transport = One(200, completion("", choices=[reply]))
    client, replies = ask(tmp_path, transport, price_in=1.0, price_out=1.0)
    (failed,) = (r for r in replies.values() if not r.answered)
    assert told in failed.error and failed.final and transport.asked[BAD] == 1
    assert client.usage(requests()) == Usage(600, 60)
    assert usage_of(replies.values(), client.usage(requests()), client)["cost"] == pytest.approx(660 / 1e6)


@pytest.mark.parametrize("where", ["body", "choice"])
@pytest.mark.parametrize(
    ("code", "calls"),
    [
        (429, 4),
        ("rate_limit_exceeded", 4),
        (502, 1),
        (503, 1),
        ("server_error", 1),
        ("overloaded", 1),
        (400, 1),
        (None, 1),
    ],
)
def test_an_error_inside_a_reply_is_final_unless_it_is_a_rate_limit(tmp_path, where, code, calls):
    """The endpoint has taken the request, and may charge for it without saying so."""
    error = {"message": "Upstream", "code": code}
    body = {"error": error} if where == "body" else {"choices": [{**choice("8 1", "error"), "error": error}]}
    transport = One(200, body)
    _, replies = ask(tmp_path, transport, max_attempts=4)
    (failed,) = (r for r in replies.values() if not r.answered)
    assert "Upstream" in failed.error and transport.asked[BAD] == calls and failed.final == (calls == 1)


@pytest.mark.parametrize(
    ("status", "body", "final"),
    [
        (200, {"error": {"message": "Upstream", "code": 502}}, True),
        (200, {"error": {"message": "Upstream"}}, True),
        (200, {"error": {"message": "later", "code": 429}}, False),
        (200, {"error": {"message": "add credits", "code": 402}}, False),
        (200, {"choices": [choice(None, "length")]}, True),
        (400, {"error": {"message": "maximum context length is 5"}}, True),
        (500, {"error": {"message": "later"}}, False),
    ],
)
def test_a_line_of_a_batch_fails_for_good_where_a_call_would(status, body, final):
    line = json.dumps({"custom_id": "key", "response": {"status_code": status, "body": body}, "error": None})
    reply = _read_line(line)
    assert not reply.answered and reply.error and reply.final == final


def test_an_error_that_was_paid_for_is_not_asked_twice(tmp_path):
    body = {"choices": [{**choice("8 1"), "error": {"code": 502, "message": "Upstream"}}]}
    transport = One(200, {**body, "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    client, _ = ask(tmp_path, transport)
    assert transport.asked[BAD] == 1 and client.usage(requests()) == Usage(507, 53)


def test_tokens_of_failed_attempts_count(tmp_path):
    transport = One(200, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3.0}})
    client, _ = ask(tmp_path, transport, max_attempts=3)
    assert client.usage(requests()) == Usage(500 + 21, 50 + 9)
    client, _ = ask(tmp_path, transport, max_attempts=2)  # the failure is asked again: five attempts in all
    assert client.usage(requests()) == Usage(500 + 35, 50 + 15)


def test_usage_under_either_name_counts_where_the_other_is_null(tmp_path):
    usage = {"prompt_tokens": None, "input_tokens": 7, "completion_tokens": 0, "output_tokens": None}
    reply = read_completion("k", completion("8 9", usage=usage))
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 0)


def test_usage_that_is_not_reported_is_unknown_and_never_0(tmp_path):
    body = completion("8 9")
    del body["usage"]
    client, replies = ask(tmp_path, One(200, body), price_in=1.0, price_out=1.0)
    told = usage_of(replies.values(), client.usage(requests()), client)
    assert (told["prompt_tokens"], told["cost"], told["replies_without_usage"]) == ("unknown", "unknown", 1)


def test_logs_of_before_are_read_and_their_failures_asked_again(tmp_path):
    old = [Reply("a", "8 9", prompt_tokens=5, completion_tokens=2), Reply("b", None, error="429: later", attempts=8)]
    with ReplyLog(tmp_path / "replies.jsonl") as log:
        for reply in old:
            log.append(reply)
    assert "final" not in (tmp_path / "replies.jsonl").read_text()
    with ReplyLog(tmp_path / "replies.jsonl") as log:
        assert log.settled("a") and not log.settled("b") and log.usage == {"a": Usage(5, 2), "b": Usage()}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": {"message": "bad key"}}, "refuses the key"),
        (403, {"error": {"message": "no access"}}, "refuses the key"),
        (402, {"error": {"message": "add credits"}}, "no credit left"),
        (200, {"error": {"message": "add credits", "code": 402}}, "no credit left"),
        (404, {"error": {"message": "The model `fake` does not exist"}}, "does not know the model 'fake'"),
        (404, {"detail": "Not Found"}, "base URLs usually end in /v1"),
        (400, {"error": {"message": "System role not supported"}}, "--no-system"),
        (400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens'"}}, "max_completion_tokens"),
    ],
)
def test_what_is_refused_from_the_first_call_on_stops_the_run(tmp_path, status, body, told, concurrency):
    asked = Counter()

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked["calls"] += 1
        return httpx2.Response(status, json=body)

    with pytest.raises(UserError, match=told):
        ask(tmp_path, httpx2.MockTransport(handle), requests(50), concurrency=concurrency, base_url="http://x/")
    assert asked["calls"] <= max(concurrency, 3)


def test_a_web_page_in_place_of_a_reply_points_at_the_base_url():
    with pytest.raises(ValueError, match="base URLs usually end in /v1"):
        read_completion("k", b"<!DOCTYPE html><html>")


def test_text_in_parts_is_read_without_the_parts_that_think():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "8 6"}]}, {"type": "text", "text": "3 9\nB"}]
    assert read_completion("k", completion("", choices=[choice(parts)])).text == "3 9\nB"


def test_text_that_cannot_be_sent_is_told_before_anything_is_asked(tmp_path):
    transport = One(200, completion("8 9"))
    with pytest.raises(UserError, match="call 1: its text holds half a character"):
        ask(tmp_path, transport, [*requests(1), ChatRequest(conversation(None, "\ud83d"), label="call 1")])
    assert not transport.asked


# --- the win score ---


ROWS = [{"prompt_id": str(i), "instruction": f"Q{i}", "output": "a" * (i + 1)} for i in range(4)]
BASE = [{**row, "output": "b"} for row in ROWS]


class Judge(httpx2.MockTransport):
    """Prefers the first answer shown, or says what `special` holds for a text of the conversation, which it keeps."""

    def __init__(self, special: dict[str, Any]):
        self.seen: list[list[dict[str, str]]] = []

        def handle(request: httpx2.Request) -> httpx2.Response:
            self.seen.append(json.loads(request.content)["messages"])
            replies = [reply for text, reply in special.items() if text in self.seen[-1][-1]["content"]]
            return httpx2.Response(200, json=completion("", choices=replies or [choice("8 7\nBecause.")]))

        super().__init__(handle)


def judged(tmp_path: Path, transport: httpx2.MockTransport, **options: Any) -> dict[str, Any]:
    judge = replace(endpoint("m", price_in=1.0, price_out=1.0), transport=transport, **options)
    return win_score(ROWS, BASE, judge, tmp_path / "run")


def test_a_contest_whose_judge_fails_is_unparsed_with_its_reason_and_the_rest_is_judged(tmp_path):
    transport = Judge({"Q2": choice(None, "length")})
    found = judged(tmp_path, transport)
    assert (found["n"], found["unparsed"]) == (3, 1)
    (failure,) = found["usage"]["failures"]
    assert failure["calls"] == 2 and failure["final"] and "max_tokens" in failure["reason"]
    assert found["usage"]["prompt_tokens"] == 800 and len(transport.seen) == 8
    assert judged(tmp_path, transport)["usage"] == found["usage"] and len(transport.seen) == 8


def test_of_a_reply_that_was_cut_off_only_a_whole_first_line_counts(tmp_path, capsys):
    whole, cut = choice("8 7\nAssistant 1 is", "length"), choice("8 1", "length")
    found = judged(tmp_path, Judge({"Q0": whole, "Q1": cut}))
    assert (found["tie"], found["unparsed"]) == (3, 1)
    assert found["usage"]["cut_off"] == 2
    tell_failures(found["usage"])
    assert "2 replies were cut off before a verdict" in capsys.readouterr().err


def test_without_a_system_turn_its_text_stands_before_the_users(tmp_path):
    transport = Judge({})
    judged(tmp_path, transport, system=False)
    assert all([turn["role"] for turn in turns] == ["user"] for turns in transport.seen)
    assert transport.seen[0][0]["content"].startswith("You are a helpful and precise assistant")
    with pytest.raises(UserError, match="made with other system"):
        judged(tmp_path, transport)
    assert without_system(conversation(None, "u")) == conversation(None, "u")


@pytest.mark.parametrize(("row", "told"), [({"output": "\ud83d"}, "row 2: `output`"), ({"prompt_id": 1.5}, "row 2")])
def test_answers_that_cannot_be_written_or_named_are_refused_by_row(tmp_path, row, told):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ROWS[0], {**ROWS[1], **row}]))
    with pytest.raises(UserError, match=told):
        read_outputs(path)


def test_ids_on_some_rows_only_never_pair_answers_to_one_instruction_by_their_order():
    test = [{"prompt_id": i, "instruction": "Write.", "output": f"A{i}"} for i in ("", "x")]
    with pytest.raises(UserError, match="give every row of both files a prompt_id"):
        match(test, test[::-1])
