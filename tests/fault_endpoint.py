"""A judge endpoint that fails on purpose: in process for tests, or on loopback (`python tests/fault_endpoint.py`)."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import json
import socket
import struct
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

FAULTS = (
    "429",
    "429-seconds",
    "429-date",
    "500",
    "502",
    "timeout",
    "reset",
    "broken",
    "truncated",
    "schema",
    "no-choice",
    "empty",
    "slow",
    "refusal",
    "length",
    "flagged",
    "error in a 200",
    "error in a choice",
    "429-zero",
    "429-past",
)
ANSWERED = (None, "slow")  # a late answer is one
FINAL = (
    "empty",
    "refusal",
    "length",
    "flagged",
    "error in a 200",
    "error in a choice",
)  # asking again would bring the same
PAID = (*ANSWERED, "empty", "refusal", "length", "no-choice")  # replies that report tokens


def tokens_of(text: str) -> dict[str, int]:
    """What a reply about `text` says it used: not the same for all, so that a sum shows which replies it has."""
    return {"prompt_tokens": 100 + len(text), "completion_tokens": 10 + sum(map(ord, text)) % 7}


def completion(text: str, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {"object": "chat.completion", "model": "fake-1", "choices": [choice], "usage": usage, **fields}


def fault_of(text: str, attempt: int, share: float) -> str | None:
    """Which fault, if any, the `attempt`-th call about `text` meets; the same in every process."""
    number = int.from_bytes(hashlib.sha256(f"{attempt}/{text}".encode()).digest()[:8], "big")
    return FAULTS[number % len(FAULTS)] if number / 2**64 < share else None


def respond(fault: str | None, text: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a fault, or of the answer `re: text`."""
    usage = tokens_of(text)
    answer = json.dumps(completion(f"re: {text}", usage=usage)).encode()
    later = email.utils.formatdate(time.time() + 0.5, usegmt=True)
    match fault:
        case None | "slow":
            return 200, {}, answer
        case "refusal":
            message = {"role": "assistant", "content": None, "refusal": f"re: {text}"}
            choices = [{"index": 0, "message": message}]
            return 200, {}, json.dumps(completion("", choices=choices, usage=usage)).encode()
        case "length":
            message = {"role": "assistant", "content": None, "reasoning_content": "First I weigh ..."}
            choices = [{"index": 0, "finish_reason": "length", "message": message}]
            return 200, {}, json.dumps(completion("", choices=choices, usage=usage)).encode()
        case "flagged":
            return 403, {}, b'{"error": {"code": 403, "message": "Input was flagged by moderation"}}'
        case "error in a 200":
            return 200, {}, b'{"error": {"code": 502, "message": "Provider returned error"}, "user_id": "u"}'
        case "error in a choice":
            message = {"role": "assistant", "content": "8 1"}
            choices = [{"error": {"code": 502, "message": "Upstream"}, "finish_reason": "error", "message": message}]
            return 200, {}, json.dumps({"choices": choices}).encode()
        case "429-zero":
            return 429, {"retry-after": "0"}, b"{}"
        case "429-past":
            return 429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"{}"
        case "429-seconds":
            return 429, {"retry-after": "0.05"}, b"{}"
        case "429-date":
            return 429, {"retry-after": later}, b"{}"
        case "429" | "500" | "502":
            return int(fault), {}, b'{"error": {"message": "try later"}}'
        case "broken":
            return 200, {}, b"<html>not JSON"
        case "truncated":
            return 200, {}, answer[: len(answer) // 2]
        case "schema":
            return 200, {}, b'{"choices": [{"text": "8 9"}]}'
        case "no-choice":
            return 200, {}, json.dumps({"choices": [], "usage": usage}).encode()
        case "empty":
            return 200, {}, json.dumps(completion("  ", usage=usage)).encode()
    raise ValueError(fault)


class FaultyTransport(httpx2.AsyncBaseTransport):
    """Answers `re: <last message>` after `latency`, but for a share of faults; remembers what it answered."""

    def __init__(self, share: float = 0.0, latency: float = 0.0, on_call: Any = None):
        self.share, self.latency, self.on_call = share, latency, on_call
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.paid: list[str] = []  # the text of each reply that reported tokens

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        text = json.loads(request.content)["messages"][-1]["content"]
        self.asked[text] += 1
        if self.on_call:
            self.on_call(sum(self.asked.values()))
        fault = fault_of(text, self.asked[text], self.share)
        await asyncio.sleep(self.latency * (20 if fault == "slow" else 1))
        if fault == "timeout":
            raise httpx2.ReadTimeout("too slow", request=request)
        if fault == "reset":
            raise httpx2.ReadError("connection reset by peer", request=request)
        self.answered[text] += fault in ANSWERED
        self.paid += [text] if fault in PAID else []
        status, headers, body = respond(fault, text)
        return httpx2.Response(status, headers=headers, content=body)


def serve(log_path: str, share: float, latency: float) -> ThreadingHTTPServer:
    """The same on loopback; a line per call (answered or not, and its text) goes to `log_path`."""
    asked: Counter[str] = Counter()
    log = open(log_path, "a", buffering=1)  # noqa: SIM115 (open as long as the server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = body["messages"][-1]["content"]
            asked[text] += 1
            fault = fault_of(text, asked[text], share)
            time.sleep(latency * (1 + len(asked) % 7 / 7))  # replies come out of order
            time.sleep(0.4 if fault == "slow" else 0)
            if fault in ("timeout", "reset"):
                time.sleep(2.5 if fault == "timeout" else 0)
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # with RST
                self.connection.close()
                return
            status, headers, data = respond(fault, text)
            row = {"answered": fault in ANSWERED, "paid": fault in PAID, "text": text}
            log.write(json.dumps(row) + "\n")
            self.send_response(status)
            for name, value in {"content-length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


if __name__ == "__main__":
    endpoint = serve(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
    print(endpoint.server_port, flush=True)
    endpoint.serve_forever()
