"""Sampling through an OpenAI-compatible completions endpoint: vLLM, SGLang, llama.cpp, on this machine or another.

A prompt goes out as the token ids that the policy sees; each response is a request of its own with a seed of its own,
so that it depends on no other. Of what comes back we take what the endpoint gives: the sampled ids (`token_ids`, as
vLLM names them, or ids in `logprobs.content`, as llama.cpp does) and their log-probabilities. Where it gives no ids,
its text is tokenised again, the response is marked `retokenized`, and its log-probability is missing.

An endpoint must serve the policy that is being trained, a new one in every iteration. `generation.server.command`
starts one for each policy and stops it before training; without it the endpoint that is there must list the policy's
path (or hub name) among its models.
"""

from __future__ import annotations

import asyncio
import json
import math
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai

from optune.chat.client import ChatSettings, open_client
from optune.config import SamplingSettings, ServerConfig
from optune.generate.prepare import prepare, request_seed, temperature_of
from optune.types import Prompt, Response, UserError
from optune.utils.files import NOT_JSON
from optune.utils.worker_processes import end_group, keep_log, tail

# Endpoints have defaults of their own for these; the policy is to be sampled as it is. Fields unknown to an endpoint
# are ignored by those named above.
PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}


def sample(
    model: str | Path,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    *,
    seed: int,
    iteration: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Response]:
    """`settings.n` responses per prompt; the contract is in `optune.generate`."""
    if not prompts:
        return []
    server = settings.server or ServerConfig()
    start = prepare(model, prompts, settings)
    asked = [
        (prompt, k, _request(row, request_seed(seed, iteration, prompt.prompt_id, k), k, start.stop, settings, server))
        for prompt, row in zip(prompts, start.ids, strict=True)
        for k in range(settings.n)
    ]
    with _endpoint(str(model), server):
        choices = asyncio.run(_ask_all([body for _, _, body in asked], str(model), server, on_progress))
    return [
        response_of(choice, prompt.prompt_id, k, iteration, start.tokenizer, start.stop, temperature_of(settings, k))
        for (prompt, k, _), choice in zip(asked, choices, strict=True)
    ]


def response_of(
    choice: dict[str, Any],
    prompt_id: str,
    index: int,
    iteration: int,
    tokenizer: Any,
    stop: set[int],
    temperature: float,
) -> Response:
    """A `Response` from one choice of a completion, with its own ids where they are given whole."""
    ids, logprobs = _sampled(choice)
    stopped = choice["finish_reason"] == "stop"
    given = bool(ids) and (not stopped or ids[-1] in stop)
    text = choice["text"]
    if given:
        text = tokenizer.decode(ids, skip_special_tokens=True)
    else:
        end = [tokenizer.eos_token_id] if stopped and tokenizer.eos_token_id is not None else []
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], *end]
    # At another temperature endpoints differ in which log-probability they mean.
    whole = given and temperature == 1 and len(logprobs) == len(ids)
    return Response(
        prompt_id=prompt_id,
        index=index,
        iteration=iteration,
        token_ids=tuple(ids),
        text=text,
        finish_reason="stop" if stopped else "length",
        logprob=math.fsum(logprobs) if whole else None,
        retokenized=not given,
    )


def _sampled(choice: dict[str, Any]) -> tuple[list[int], list[float]]:
    """The ids and log-probabilities that a choice gives; empty where it gives none."""
    given = choice.get("logprobs") or {}
    if "content" in given:
        rows = given["content"] or []
        return [row["id"] for row in rows if "id" in row], [row["logprob"] for row in rows]
    return choice.get("token_ids") or [], given.get("token_logprobs") or []


def _request(
    ids: list[int], seed: int, index: int, stop: set[int], settings: SamplingSettings, server: ServerConfig
) -> dict[str, Any]:
    """The body of the request for a prompt's response `index`, but for the model's name."""
    body = {
        "prompt": ids,
        "n": 1,
        "max_tokens": settings.max_new_tokens,
        "temperature": temperature_of(settings, index),
        "top_p": settings.top_p,
        "seed": seed,
        "logprobs": 1,  # the sampled token's is among them; 0 means none to llama.cpp
        "stop_token_ids": sorted(stop),
        **PLAIN,
        **server.parameters,
    }
    return {name: value for name, value in body.items() if value is not None}


async def _ask_all(
    bodies: Sequence[dict[str, Any]],
    model: str,
    server: ServerConfig,
    on_progress: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    """The choice that answers each body, in order; `concurrency` requests are under way at once."""
    chat = ChatSettings(
        model=model,
        base_url=server.base_url,
        api_key_env=server.api_key_env,
        concurrency=server.concurrency,
        timeout=server.timeout,
    )
    choices: list[dict[str, Any]] = [{}] * len(bodies)
    places, done = iter(range(len(bodies))), 0

    async def work(name: str) -> None:
        nonlocal done
        for place in places:
            choices[place] = await _ask(api, {"model": name, **bodies[place]}, server)
            done += 1
            if on_progress:
                on_progress(done, len(bodies))

    async with open_client(chat, max_retries=server.max_attempts - 1) as api:
        name = server.model or await _served_name(api, model, server)
        await asyncio.gather(*(work(name) for _ in range(min(server.concurrency, len(bodies)))))
    return choices


async def _ask(api: openai.AsyncOpenAI, body: dict[str, Any], server: ServerConfig) -> dict[str, Any]:
    """One choice. The client retries what may pass (429, 5xx, timeouts, resets); we, replies that cannot be read."""
    for _ in range(server.max_attempts):
        try:
            response = await api.post("/completions", cast_to=httpx2.Response, body=body)
            return read_choice(response.content)
        except ValueError as error:
            unreadable = error
        except openai.APIError as error:
            raise _told(error, server) from None
    raise UserError(f"The endpoint {server.base_url} gives no completion that can be read: {unreadable}.")


def read_choice(body: bytes) -> dict[str, Any]:
    """The one choice of a completion. Raises ValueError where the body is broken or of another schema."""
    try:
        (choice,) = json.loads(body)["choices"]
        text, reason = choice["text"], choice["finish_reason"]
    except (*NOT_JSON, KeyError, TypeError):
        raise ValueError(f"it begins {body[:80]!r}") from None
    if not isinstance(text, str) or reason not in ("stop", "length"):
        raise ValueError(f"its text or finish_reason ({reason!r}) is not one of a finished completion")
    return choice


async def _served_name(api: openai.AsyncOpenAI, model: str, server: ServerConfig) -> str:
    """The name under which the endpoint serves `model`. Raises UserError where it does not."""
    try:
        listed = [entry.model_dump() async for entry in api.models.list()]
    except openai.APIError as error:
        raise _told(error, server) from None
    own = {model, str(Path(model).resolve())}
    for entry in listed:
        if own & {entry["id"], entry.get("root")}:
            return entry["id"]
    names = ", ".join(entry["id"] for entry in listed) or "nothing"
    raise UserError(
        f"The endpoint {server.base_url} serves {names}, not {model}: start it with this checkpoint, or give "
        "generation.server.command, which starts one for each policy."
    )


def _told(error: openai.APIError, server: ServerConfig) -> UserError:
    reason = " ".join(str(error.__cause__ or error).split())[:300]
    return UserError(f"The endpoint {server.base_url} does not answer as it should: {reason}.")


@contextmanager
def _endpoint(model: str, server: ServerConfig) -> Iterator[None]:
    """An endpoint for `model`, started by `server.command` and ended with the block; nothing without a command."""
    if not server.command:
        yield
        return
    if _answers(server):
        raise UserError(
            f"{server.base_url} answers already: stop that endpoint, or leave generation.server.command out."
        )
    with tempfile.NamedTemporaryFile("w+", prefix="optune-server-", suffix=".log") as log:
        try:
            process = subprocess.Popen(
                [part.replace("{model}", model) for part in shlex.split(server.command)],
                stdout=log,
                stderr=log,
                start_new_session=True,  # it is ended with all that it starts
            )
        except OSError as error:
            raise UserError(f"generation.server.command cannot be started: {error}.") from None
        try:
            _wait_for(process, Path(log.name), server)
            yield
        finally:
            end_group(process)


def _wait_for(process: subprocess.Popen, log: Path, server: ServerConfig) -> None:
    """Until the endpoint answers. Raises UserError where its process ends, or it takes longer than `start_timeout`."""
    until = time.monotonic() + server.start_timeout
    while time.monotonic() < until:
        if process.poll() is not None:
            told = f"ended with status {process.returncode} ({tail(log)})"
            raise UserError(f"generation.server.command {told}; its log is {keep_log(log)}.")
        if _answers(server):
            return
        time.sleep(0.2)
    raise UserError(
        f"{server.base_url} did not answer within {server.start_timeout:.0f} s; the log is {keep_log(log)}."
    )


def _answers(server: ServerConfig) -> bool:
    try:
        listed = httpx2.get(f"{server.base_url.rstrip('/')}/models", trust_env=False, timeout=5.0)
    except httpx2.TransportError:
        return False
    return listed.status_code < 500
