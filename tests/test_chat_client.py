"""The chat client pays for nothing twice, loses nothing, and stops for what cannot be mended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from fault_endpoint import FaultyTransport, completion, tokens_of

from optune.chat.batch import ask_in_batches
from optune.chat.client import ChatClient, ChatRequest, ChatSettings, conversation, retry_after
from optune.chat.reply_log import Reply, ReplyLog, Usage
from optune.types import UserError

FAST = {"backoff": 0.01, "max_backoff": 0.05}
SECRET = "sk-not-to-be-seen"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def requests(n: int, **fields) -> list[ChatRequest]:
    return [
        ChatRequest(conversation(None, f"text {i}"), {"max_tokens": 100}, label=f"call {i}", **fields) for i in range(n)
    ]


def client(tmp_path: Path, transport: httpx2.AsyncBaseTransport | None = None, **settings) -> ChatClient:
    return ChatClient(ChatSettings("fake", **FAST | settings), tmp_path / "replies.jsonl", transport=transport)


def answering(status: int = 200, body: dict | None = None, headers: dict | None = None) -> httpx2.MockTransport:
    """An endpoint that answers every call alike."""
    handler = lambda request: httpx2.Response(status, headers=headers, json=completion("8 9") if body is None else body)  # noqa: E731
    return httpx2.MockTransport(handler)


# --- nothing twice, nothing lost ---


def test_answered_calls_are_never_repeated(tmp_path):
    endpoint = FaultyTransport()
    first = client(tmp_path, endpoint).ask(requests(20))
    second = client(tmp_path, endpoint).ask(requests(30))
    assert sum(endpoint.asked.values()) == 30
    assert {k: second[k] for k in first} == first
    assert {r.text for r in second.values()} == {f"re: text {i}" for i in range(30)}


def test_replies_that_come_in_another_order_stay_with_their_calls(tmp_path):
    order = []

    class LastFirst(FaultyTransport):
        async def handle_async_request(self, request):
            number = int(json.loads(request.content)["messages"][-1]["content"].split()[-1])
            await asyncio.sleep(0.02 * (8 - number % 8))
            order.append(number)
            return await super().handle_async_request(request)

    asked = requests(40)
    replies = client(tmp_path, LastFirst(), concurrency=8).ask(asked)
    assert order != sorted(order)
    assert [replies[request.key("fake")].text for request in asked] == [f"re: text {i}" for i in range(40)]


def test_a_reply_is_on_disk_before_it_counts(tmp_path, monkeypatch):
    counted_before_sync = []
    synced: set[str] = set()
    count, sync = ReplyLog.count, ReplyLog.sync

    def check(log, reply):
        if reply.key not in synced:
            counted_before_sync.append(reply.key)
        count(log, reply)

    def remember(log):
        sync(log)
        whole, _, _ = log.path.read_text().rpartition("\n")  # the next reply may be half written meanwhile
        synced.update(json.loads(line)["reply"]["key"] for line in whole.splitlines())

    monkeypatch.setattr(ReplyLog, "count", check)
    monkeypatch.setattr(ReplyLog, "sync", remember)
    assert len(client(tmp_path, FaultyTransport()).ask(requests(50))) == 50
    assert not counted_before_sync


def test_six_hundred_calls_with_faults_and_two_interruptions(tmp_path):
    """30% of calls meet one of 20 faults; the run is stopped twice; every call ends once, and every token is told."""
    stop_at = {150, 420}
    before = signal.getsignal(signal.SIGINT)  # ignored, for one, in a shell's background job

    def interrupt(calls: int) -> None:
        if calls in stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    endpoint = FaultyTransport(share=0.3, latency=0.002, on_call=interrupt)
    asker = client(tmp_path, endpoint, concurrency=50)
    for _ in stop_at:
        with pytest.raises(KeyboardInterrupt, match="the same command continues"):
            asker.ask(requests(600))
    replies = asker.ask(requests(600))
    assert len(replies) == 600
    assert all(r.answered or r.error for r in replies.values())
    assert sum(r.settled for r in replies.values()) >= 595 and any(r.final for r in replies.values())
    assert set(endpoint.answered.values()) <= {0, 1}
    assert asker.usage(requests(600)) == counted(endpoint.paid)
    assert signal.getsignal(signal.SIGINT) is before


def counted(texts: Iterable[str]) -> Usage:
    """What an endpoint has used for replies about these texts."""
    return sum((Usage(*tokens_of(text).values()) for text in texts), Usage())


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "kills"), [(600, 2), (10_000, 5)])
def test_calls_on_loopback_with_faults_and_kills_are_all_answered_and_none_twice(tmp_path, calls, kills):
    """As above against another process, with SIGKILL: at most the calls under way then are asked again, or not told."""
    here = Path(__file__).parent
    seen_calls = tmp_path / "calls.jsonl"
    endpoint = subprocess.Popen(
        [sys.executable, here / "fault_endpoint.py", seen_calls, "0.3", "0.03"], stdout=subprocess.PIPE, text=True
    )
    base_url = f"http://127.0.0.1:{endpoint.stdout.readline().strip()}/v1"
    script = f"""
import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]
from pathlib import Path
from test_chat_client import client, requests
client(Path({str(tmp_path)!r}), base_url={base_url!r}, timeout=6).ask(requests({calls}))
"""
    try:
        logged: list[set[str]] = []  # what the log had answered at each kill,
        asked: list[int] = []  # and how many calls the endpoint had seen
        for _ in range(kills):
            run = subprocess.Popen([sys.executable, "-c", script])
            goal = _lines(tmp_path) + calls // (kills + 3)
            while _lines(tmp_path) < goal and run.poll() is None:
                time.sleep(0.05)
            run.kill()
            run.wait()
            time.sleep(0.5)  # the endpoint finishes what it was answering
            logged.append(_answers(tmp_path))
            asked.append(len(seen_calls.read_text().splitlines()))
        subprocess.run([sys.executable, "-c", script], check=True)
    finally:
        endpoint.kill()
        endpoint.wait()
    assert logged[0] and all(len(a) < len(b) for a, b in pairwise(logged)) and len(logged[-1]) < calls
    rows = [json.loads(line) for line in seen_calls.read_text().splitlines()]
    for had, seen in zip(logged, asked, strict=True):
        assert not had & {row["text"] for row in rows[seen:]}  # an answered call is never asked again
    answered = Counter(row["text"] for row in rows if row["answered"])
    with ReplyLog(tmp_path / "replies.jsonl") as log:
        assert len(log.replies) == calls and sum(reply.settled for reply in log.replies.values()) >= 0.99 * calls
        texts = {reply.text.removeprefix("re: ") for reply in log.replies.values() if reply.answered}
    # An answer that was killed before it arrived may be followed by a failure for good.
    assert texts <= set(answered) and len(set(answered) - texts) <= kills * 16
    told = Counter(text for text, reply in _logged(tmp_path) if reply.get("prompt_tokens"))
    paid = Counter(row["text"] for row in rows if row["paid"])
    assert not told - paid and (paid - told).total() <= kills * 16  # paid, but killed before it arrived
    assert client(tmp_path).usage(requests(calls)) == counted(told.elements())
    assert sum(times > 1 for times in answered.values()) <= kills * 16  # answered, but killed before it arrived


def _lines(tmp_path: Path) -> int:
    path = tmp_path / "replies.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _logged(tmp_path: Path) -> list[tuple[str, dict]]:
    """What was asked and the reply, for every line of the log."""
    names = {request.key("fake"): request.messages[-1]["content"] for request in requests(10_000)}
    path = tmp_path / "replies.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(names[row["reply"]["key"]], row["reply"]) for row in map(json.loads, lines)]


def _answers(tmp_path: Path) -> set[str]:
    """What has an answer or a failure for good."""
    return {text for text, reply in _logged(tmp_path) if "text" in reply or reply.get("final")}


def test_a_torn_last_line_is_set_aside_and_asked_again(tmp_path):
    endpoint = FaultyTransport()
    client(tmp_path, endpoint).ask(requests(5))
    path = tmp_path / "replies.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    replies = client(tmp_path, endpoint).ask(requests(5))
    assert len(replies) == 5 and sum(endpoint.asked.values()) == 6
    assert (tmp_path / "replies.jsonl.torn").exists()


def test_a_changed_line_is_refused_by_number(tmp_path):
    client(tmp_path, FaultyTransport()).ask(requests(3))
    path = tmp_path / "replies.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("re: text", "re: next")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="line 2"):
        client(tmp_path, FaultyTransport()).ask(requests(3))


def test_one_process_at_a_time(tmp_path):
    with ReplyLog(tmp_path / "replies.jsonl"), pytest.raises(UserError, match="another process"):
        client(tmp_path, FaultyTransport()).ask(requests(1))


def test_a_full_disk_stops_the_run_and_keeps_what_was_answered(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(
        "optune.chat.reply_log.os.write",
        lambda fd, data: write(fd, data[:50]) if b"text 7" in data else write(fd, data),
    )
    with pytest.raises(UserError, match="disk is full"):
        client(tmp_path, FaultyTransport(), concurrency=1).ask(requests(10))
    monkeypatch.undo()
    with ReplyLog(tmp_path / "replies.jsonl") as log:
        assert len(log.replies) == 7


def test_strange_texts_survive_the_log(tmp_path):
    texts = ["\ud800 lone", "null \0 byte", "line\u2028separators\r\n", "😀"]
    with ReplyLog(tmp_path / "log.jsonl") as log:
        for i, text in enumerate(texts):
            log.append(Reply(str(i), text))
    with ReplyLog(tmp_path / "log.jsonl") as log:
        assert [r.text for r in log.replies.values()] == texts


def test_the_key_depends_on_everything_that_makes_the_call(tmp_path):
    base = ChatRequest(conversation("s", "u"), {"temperature": 0}, "hash", "AB", "label")
    others = [
        ChatRequest(conversation("s", "v"), {"temperature": 0}, "hash", "AB"),
        ChatRequest(conversation("s", "u"), {"temperature": 1}, "hash", "AB"),
        ChatRequest(conversation("s", "u"), {"temperature": 0}, "other", "AB"),
        ChatRequest(conversation("s", "u"), {"temperature": 0}, "hash", "BA"),
    ]
    assert len({r.key("m") for r in others} | {base.key("m"), base.key("n")}) == 6
    assert base.key("m") == ChatRequest(conversation("s", "u"), {"temperature": 0}, "hash", "AB", "else").key("m")


# --- trying again ---


def test_failures_are_logged_but_are_no_answers(tmp_path):
    """Two broken replies beside a good one are tried again, logged, and asked again the next time."""
    bodies = lambda request: completion("8 9") if b"text 0" in request.content else {"choices": []}  # noqa: E731
    first = httpx2.MockTransport(lambda request: httpx2.Response(200, json=bodies(request)))
    failed = client(tmp_path, first, max_attempts=2, concurrency=1).ask(requests(3))
    assert [r.error for r in failed.values()] == [None] + ["the reply is not a chat completion"] * 2
    assert [r.attempts for r in failed.values()] == [1, 2, 2] and not any(r.final for r in failed.values())
    good = FaultyTransport()
    assert all(r.answered for r in client(tmp_path, good).ask(requests(3)).values()) and good.asked.total() == 2


def test_retry_after_holds_back_every_call(tmp_path):
    """After the refusal of the tenth call nothing is asked for as long as it says, by any of eight workers."""
    times: list[float] = []

    class Limited(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            times.append(time.monotonic())
            if len(times) == 10:
                return httpx2.Response(429, headers={"retry-after": "0.4"})
            await asyncio.sleep(0.01)
            return httpx2.Response(200, json=completion("8 9"))

    client(tmp_path, Limited(), concurrency=8).ask(requests(30))
    assert len(times) == 31
    # Until the client has read the refusal, each of the other seven workers may ask once more; then there is a pause.
    pauses = [later - earlier for earlier, later in pairwise(times[9:])]
    assert max(pauses[:8]) >= 0.39


@pytest.mark.parametrize("told", ["0", "-5", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_of_nothing_shortens_no_backoff(tmp_path, told):
    """Attempts are as far apart as without it: an endpoint that says 0 is not asked eight times in a second."""
    times: list[float] = []

    class Refusing(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            times.append(time.monotonic())
            return httpx2.Response(429, headers={"retry-after": told})

    with pytest.raises(UserError, match="never answered"):
        client(tmp_path, Refusing(), max_attempts=4, backoff=0.1, max_backoff=30.0).ask(requests(1))
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == 4 and all(wait >= 0.05 * 2**k for k, wait in enumerate(waits))


def test_retry_after_in_seconds_and_as_a_date():
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert (
        3000
        < retry_after({"retry-after": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))})
        <= 3600
    )


def test_a_refusal_is_a_failure_for_good(tmp_path):
    body = completion("")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I cannot."}
    (reply,) = client(tmp_path, answering(body=body)).ask(requests(1)).values()
    assert (reply.text, reply.error, reply.final) == (None, "the model refused: I cannot.", True)


def test_usage_reason_model_and_logprobs_are_kept(tmp_path):
    body = completion("8 9")
    body["choices"][0]["logprobs"] = {"content": [{"token": "8", "logprob": -0.1}]}
    client(tmp_path, answering(body=body)).ask(requests(1))
    (reply,) = client(tmp_path, offline=True).ask(requests(1)).values()
    assert (reply.prompt_tokens, reply.completion_tokens, reply.finish_reason, reply.model) == (
        100,
        10,
        "stop",
        "fake-1",
    )
    assert reply.logprobs["content"][0]["logprob"] == -0.1


# --- stopping for good ---


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": {"message": f"Incorrect key {SECRET}"}}, "refuses the key in OPENAI_API_KEY"),
        (403, {"error": {"message": "no"}}, "refuses the key"),
        (404, {"error": {"message": "no such model", "code": "model_not_found"}}, "does not know the model 'fake'"),
        (400, {"error": {"message": "unknown parameter"}}, "refuses the calls as they are"),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "no credit left"),
    ],
)
def test_what_cannot_be_mended_stops_the_run_once(tmp_path, status, body, told):
    asked = Counter()

    def handle(request):
        asked["calls"] += 1
        return httpx2.Response(status, json=body)

    with pytest.raises(UserError, match=told) as stop:
        client(tmp_path, httpx2.MockTransport(handle), concurrency=4).ask(requests(600))
    assert asked["calls"] <= 4
    assert SECRET not in str(stop.value)


def test_an_endpoint_that_is_not_there_stops_the_run(tmp_path):
    with pytest.raises(UserError, match="never answered"):
        client(tmp_path, base_url="http://127.0.0.1:9/v1", max_attempts=2).ask(requests(50))


def test_a_bad_text_fails_alone(tmp_path):
    def handle(request):
        if b"text 3" in request.content:
            return httpx2.Response(400, json={"error": {"message": "long", "code": "context_length_exceeded"}})
        return httpx2.Response(200, json=completion("8 9"))

    replies = client(tmp_path, httpx2.MockTransport(handle)).ask(requests(6))
    assert [r.attempts for r in replies.values() if not r.answered] == [1]


def test_a_bad_first_text_does_not_stop_the_run(tmp_path):
    def handle(request):
        if b"text 0" in request.content:
            return httpx2.Response(400, json={"error": {"message": "long", "code": "context_length_exceeded"}})
        return httpx2.Response(200, json=completion("8 9"))

    replies = client(tmp_path, httpx2.MockTransport(handle), concurrency=1).ask(requests(3))
    assert [r.answered for r in replies.values()] == [False, True, True]


def test_a_wait_of_hours_stops_the_run(tmp_path):
    with pytest.raises(UserError, match="asks to wait 7200 s"):
        client(tmp_path, answering(429, {}, {"retry-after": "7200"})).ask(requests(5))


def test_no_key_no_calls(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\nsecret")
    with pytest.raises(UserError, match="does not hold a key"):
        client(tmp_path).ask(requests(1))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        client(tmp_path).ask(requests(1))


def test_the_key_is_nowhere_on_disk(tmp_path):
    client(tmp_path, FaultyTransport(share=0.3)).ask(requests(30))
    assert all(SECRET not in p.read_text() for p in tmp_path.rglob("*") if p.is_file())


# --- money ---


def test_the_estimate_counts_only_what_is_missing(tmp_path):
    priced = client(tmp_path, FaultyTransport(), price_in=10, price_out=20)
    priced.ask(requests(2))
    estimate = priced.estimate(requests(5))
    assert (estimate.calls, estimate.logged, estimate.completion_tokens) == (3, 2, 300)
    assert estimate.cost == pytest.approx((estimate.prompt_tokens * 10 + 300 * 20) / 1e6)


@pytest.mark.parametrize("prices", [{}, {"price_in": 1, "price_out": 1}])
def test_a_budget_of_zero_asks_nothing(tmp_path, prices):
    endpoint = FaultyTransport()
    with pytest.raises(UserError, match="budget of 0"):
        client(tmp_path, endpoint, max_cost=0, **prices).ask(requests(3))
    assert not endpoint.asked


def test_the_budget_stops_a_run_that_costs_more_than_estimated(tmp_path):
    endpoint = answering(body=completion("8 9", usage={"prompt_tokens": 10_000, "completion_tokens": 10}))
    asker = client(tmp_path, endpoint, price_in=100, price_out=100, max_cost=2.5, concurrency=1)
    with pytest.raises(UserError, match="used up"):
        asker.ask(requests(100))
    assert len(asker.logged(requests(100))) == 2  # a third would pass the limit


def test_offline_replays_and_never_asks(tmp_path):
    endpoint = FaultyTransport()
    asked = client(tmp_path, endpoint).ask(requests(4))
    replay = client(tmp_path, endpoint, offline=True)
    assert replay.ask(requests(4)) == asked
    with pytest.raises(UserError, match=r"1 of the 5 replies needed are not there \(first: call 4\)"):
        replay.ask(requests(5))
    assert sum(endpoint.asked.values()) == 4


# --- speed ---


def test_calls_per_second_reach_nine_tenths_of_concurrency_over_latency(tmp_path):
    """In the best of five tries: a busy machine can only slow a try down."""
    latency, concurrency, calls = 0.25, 4, 40

    def rate(attempt: int) -> float:
        folder = tmp_path / str(attempt)
        folder.mkdir()
        asker = client(folder, FaultyTransport(latency=latency), concurrency=concurrency)
        started = time.perf_counter()
        asker.ask(requests(calls))
        return calls / (time.perf_counter() - started)

    assert any(rate(attempt) >= 0.9 * concurrency / latency for attempt in range(5))


# --- batches ---


class BatchProvider:
    """The Batch API in process: files, batches, and their results after `polls` looks."""

    def __init__(self, polls: int = 1, die_after_create: bool = False, broken: Sequence[str] = ()):
        self.files: dict[str, bytes] = {}
        self.batches: list[dict] = []
        self.polls, self.die = polls, die_after_create
        self.broken = list(broken)  # the first lines of the first results, in the place of answers

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1")
        if request.method == "POST" and path == "/files":
            name = f"file-{len(self.files)}"
            self.files[name] = request.content
            return httpx2.Response(200, json={"id": name, "object": "file"})
        if request.method == "POST":
            body = json.loads(request.content)
            batch = {"id": f"batch-{len(self.batches)}", "object": "batch", "status": "in_progress", "looks": 0}
            self.batches.append(batch | {"metadata": body["metadata"], "input_file_id": body["input_file_id"]})
            if self.die:
                self.die = False
                raise KeyboardInterrupt
            return httpx2.Response(200, json=self.batches[-1])
        if path == "/batches":
            return httpx2.Response(200, json={"object": "list", "data": self.batches, "has_more": False})
        if path.startswith("/batches/"):
            batch = next(b for b in self.batches if path.endswith(b["id"]))
            batch["looks"] += 1
            if batch["looks"] >= self.polls:
                batch |= {"status": "completed", "output_file_id": "out-" + batch["input_file_id"]}
            return httpx2.Response(200, json=batch)
        calls = self.files[path.split("/")[2].removeprefix("out-")]
        lines = [json.loads(x) for x in calls.split(b"\n") if x.startswith(b'{"custom_id"')]
        done = [
            {"custom_id": x["custom_id"], "response": {"status_code": 200, "body": completion("8 9")}}
            for x in lines[:-1]
        ] + [{"custom_id": lines[-1]["custom_id"], "response": None, "error": {"message": "expired"}}]
        lines = list(map(json.dumps, reversed(done)))
        lines[: len(self.broken)], self.broken = self.broken, []
        return httpx2.Response(200, content="\n".join(lines).encode())

    @property
    def calls_submitted(self) -> int:
        return sum(content.count(b'{"custom_id"') for content in self.files.values())


def test_batches_are_submitted_once_and_collected(tmp_path):
    provider = BatchProvider(polls=2)
    asker = client(tmp_path, httpx2.MockTransport(provider))
    replies = ask_in_batches(asker, requests(10), tmp_path / "batches.json", poll_seconds=0.01)
    assert sum(r.answered for r in replies.values()) == 9 and len(provider.batches) == 1
    again = ask_in_batches(asker, requests(9), tmp_path / "batches.json", poll_seconds=0.01)
    assert all(r.answered for r in again.values()) and len(provider.batches) == 1


@pytest.mark.parametrize(
    "line", ['{"custom_id": "', "[]", "{}", '{"custom_id": ["a"]}', '{"custom_id": "a", "response": 3}', "[" * 10**5]
)
def test_a_line_of_a_batch_file_that_cannot_be_read_is_told_and_costs_no_other_reply(tmp_path, line):
    provider = BatchProvider(broken=[line, line])
    asker, state = client(tmp_path, httpx2.MockTransport(provider)), tmp_path / "batches.json"
    with pytest.raises(UserError, match=r"batches-\w+-output\.jsonl, line 1 \(and 1 more\): the provider's batch file"):
        ask_in_batches(asker, requests(10), state, poll_seconds=0.01)
    (kept,) = tmp_path.glob("batches-*-output.jsonl")
    assert kept.read_text().split("\n")[0] == line
    replies = ask_in_batches(asker, requests(10), state, poll_seconds=0.01)
    assert provider.calls_submitted == 10 + 2 and len(provider.batches) == 2
    assert sum(r.answered for r in replies.values()) == 9


def test_a_submission_cut_off_and_then_answered_otherwise_is_not_sent_empty(tmp_path):
    provider, state = BatchProvider(polls=1), tmp_path / "batches.json"
    client(tmp_path, FaultyTransport()).ask(requests(2))
    keys = [request.key("fake") for request in requests(2)]
    state.write_text(json.dumps([{"submission": "s", "keys": keys, "batch_id": None, "collected": False}]))
    ask_in_batches(client(tmp_path, httpx2.MockTransport(provider)), requests(4), state, poll_seconds=0.01)
    assert provider.calls_submitted == 2


def test_a_batch_whose_submission_was_cut_off_is_found_again(tmp_path):
    provider = BatchProvider(die_after_create=True)
    asker = client(tmp_path, httpx2.MockTransport(provider))
    with pytest.raises(KeyboardInterrupt):
        ask_in_batches(asker, requests(10), tmp_path / "batches.json", poll_seconds=0.01)
    replies = ask_in_batches(asker, requests(10), tmp_path / "batches.json", poll_seconds=0.01)
    assert len(replies) == 10 and len(provider.batches) == 1 and provider.calls_submitted == 10
