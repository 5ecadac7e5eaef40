"""A completions endpoint for tests, in a thread or on its own (`python tests/completions_endpoint.py PORT MODEL`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EOS = 1


class Endpoint(ThreadingHTTPServer):
    """Answers with three tokens that depend on prompt and seed alone; `faults` come first, one per call."""

    daemon_threads = True
    request_queue_size = 64  # connections that wait to be taken; more are reset

    def __init__(self, style: str, served: str, decode: Callable, faults: list = (), port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.style, self.served, self.decode, self.faults = style, served, decode, list(faults)
        self.bodies: list[dict] = []
        self.refused: set[int] = set()  # seeds of requests that always fail, with this status
        self.refused_prompts: set[tuple[int, ...]] = set()
        self.status = 400
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": self.server.served, "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        if self.server.faults:
            status, answer = self.server.faults.pop(0)
            return self.reply(status, answer)
        if body["seed"] in self.server.refused or tuple(body["prompt"]) in self.server.refused_prompts:
            broken = b"<html>" if self.server.status == 200 else {"error": {"message": "this prompt is too strange"}}
            return self.reply(self.server.status, broken)
        ids = tokens_for(body["prompt"], body["seed"])
        choice = {"index": 0, "text": self.server.decode(ids), "finish_reason": "stop", "logprobs": None}
        if self.server.style == "vllm":
            choice |= {"token_ids": ids, "logprobs": {"token_logprobs": [-0.5] * len(ids), "tokens": []}}
        elif self.server.style == "llama.cpp":
            choice["logprobs"] = {"content": [{"id": i, "token": "", "logprob": -0.5} for i in ids]}
        elif self.server.style == "sglang":
            choice["logprobs"] = {"content": [{"token": " cat", "bytes": None}]}
        self.reply(200, {"object": "text_completion", "model": body["model"], "choices": [choice]})

    def reply(self, status: int, value: dict | bytes) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def tokens_for(prompt: list[int], seed: int) -> list[int]:
    return [5 + (seed + i + sum(prompt)) % 90 for i in range(2)] + [EOS]


if __name__ == "__main__":
    Endpoint("vllm", sys.argv[2], str, port=int(sys.argv[1])).serve_forever()
