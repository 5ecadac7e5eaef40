"""A function that answers prompts, as an OpenAI-compatible chat endpoint: in this process, or on loopback.

The sandbox's judge and prompt writer stand behind it, so that client, parser and reply log are those of a paid model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

from optune.types import UserError

Respond = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]  # a request's body -> HTTP status and body


def completions(model: str, reply: Callable[[str], str]) -> Respond:
    """Answers to a chat's last message, as `model`; a prompt at which `reply` raises UserError is refused (400)."""

    def respond(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        prompt = body["messages"][-1]["content"]
        try:
            text = reply(prompt)
        except UserError as error:
            return refused(error)
        used = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return 200, {"object": "chat.completion", "model": model, "choices": [choice], "usage": used}

    return respond


def refused(error: UserError) -> tuple[int, dict[str, Any]]:
    """Status and body for a prompt that cannot be answered: about this request's text, not about the run."""
    return 400, {"error": {"message": str(error), "code": "invalid_prompt"}}


def in_process(respond: Respond) -> httpx2.AsyncBaseTransport:
    """The endpoint inside this process, to be handed to the `openai` client as its transport."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        status, body = respond(json.loads(request.content))
        return httpx2.Response(status, json=body)

    return httpx2.MockTransport(handle)


def on_loopback(respond: Respond, port: int = 0) -> ThreadingHTTPServer:
    """The endpoint on loopback; the caller runs `serve_forever` and `shutdown`. Port 0 takes a free one.

    Raises UserError where the port cannot be used.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, answer = respond(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UserError(f"Port {port} cannot be used ({error.strerror}).") from None


def listen(name: str, respond: Respond, port: int) -> None:
    """The endpoint on loopback until it is interrupted; `name` is how it calls itself."""
    with on_loopback(respond, port) as server:
        print(f"{name} listens on http://127.0.0.1:{server.server_port}/v1; Ctrl-C stops it.", flush=True)
        server.serve_forever()
