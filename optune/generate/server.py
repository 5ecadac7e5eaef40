"""Sampling through an OpenAI-compatible completions endpoint: vLLM, SGLang, llama.cpp, on this machine or another.

A prompt goes out as the token ids that the policy sees; each response is a request of its own with a seed of its own,
so that it depends on no other. Of what comes back we take what the endpoint gives: the sampled ids (`token_ids`, as
vLLM names them, or ids in `logprobs.content`, as llama.cpp does) and their log-probabilities. Where it gives no ids,
its text is tokenised again, the response is marked `retokenized`, and its log-probability is missing.

An endpoint must serve the policy that is being trained, a new one in every iteration. `generation.server.command`
starts one for each policy and stops it before training; without it the endpoint that is there must list the policy's
path (or hub name) among its models.

Each choice is kept in a file under `generation.server.replies` as it comes, so that a request that fails costs itself
alone. Where the endpoint refuses a request as such (too long, not allowed), its prompt is left out (`PromptsRefused`).
Any other failure is told once the others are finished, and the next start asks for what is missing; a request that
fails then, too, is given up in the same way.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import shlex
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai

from optune.chat.client import ChatSettings, open_client
from optune.chat.failures import NoAnswer, about_text, error_in, may_pass
from optune.chat.reply_log import Reply, ReplyLog
from optune.config import SamplingSettings, ServerConfig
from optune.generate import PromptsRefused
from optune.generate.prepare import prepare, request_seed, temperature_of
from optune.store import content_hash
from optune.types import Prompt, Response, UserError
from optune.utils.files import NOT_JSON
from optune.utils.hashing import stable_hash
from optune.utils.worker_processes import end_group, keep_log, tail

# Endpoints have defaults of their own for these; the policy is to be sampled as it is. Fields unknown to an endpoint
# are ignored by those named above.
PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}

REFUSED = (400, 413, 422)  # statuses that are about one request
FAILURES_IN_A_ROW = 16  # from here on it is the endpoint that fails, not a request
# What one request says of all: no key, no such path or model, nobody there.
OF_ALL = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError, openai.APIConnectionError)


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
    asked = []
    for prompt, row in zip(prompts, start.ids, strict=True):
        for k in range(settings.n):
            own_seed = request_seed(seed, iteration, prompt.prompt_id, k)
            asked.append((prompt, k, _request(row, own_seed, k, start.stop, settings, server)))
    of_all = (content_hash(model), seed, iteration)
    requests = {
        stable_hash(*of_all, prompt.prompt_id, k, body): (f"{prompt.prompt_id!r}, response {k}", body)
        for prompt, k, body in asked
    }
    with _kept(server, requests) as log:
        if not all(map(log.answered, requests)):
            with endpoint(str(model), server):
                asyncio.run(_ask_all(requests, log, str(model), server, on_progress))
        replies = [log.replies[key] for key in requests]
    refused = {prompt.prompt_id: r.error for (prompt, _, _), r in zip(asked, replies, strict=True) if not r.answered}
    responses = [
        response_of(
            json.loads(reply.text),
            prompt.prompt_id,
            k,
            iteration,
            start.tokenizer,
            start.stop,
            temperature_of(settings, k),
        )
        for (prompt, k, _), reply in zip(asked, replies, strict=True)
        if prompt.prompt_id not in refused
    ]
    if refused:
        first, reason = next(iter(refused.items()))
        told = f"{len(refused)} of {len(prompts)} prompts have no responses, the first of them {first!r}: {reason}."
        raise PromptsRefused(told, responses, Counter(re.sub(r"\d+", "N", why) for why in refused.values()))
    return responses


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
    ids, logprobs = _sampled(choice, len(tokenizer))
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


def _sampled(choice: dict[str, Any], vocabulary: int) -> tuple[list[int], list[float]]:
    """The ids and log-probabilities that a choice gives; empty where it gives none, or not one for each token."""
    given = choice.get("logprobs")
    given = given if isinstance(given, dict) else {}
    ids, logprobs = choice.get("token_ids"), given.get("token_logprobs")
    if "content" in given:
        rows = [row if isinstance(row, dict) else {} for row in given["content"] or []]
        ids, logprobs = [row.get("id") for row in rows], [row.get("logprob") for row in rows]
    known = isinstance(ids, list) and all(type(i) is int and 0 <= i < vocabulary for i in ids)
    numbers = isinstance(logprobs, list) and all(type(value) in (int, float) for value in logprobs)
    return ids if known else [], logprobs if numbers else []


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


@contextmanager
def _kept(server: ServerConfig, requests: Mapping[str, Any]) -> Iterator[ReplyLog]:
    """The log of these very requests; in a folder of its own, for the length of the block, where none is configured.

    One file for each set of requests: runs that sample beside each other never wait for one another.
    """
    with tempfile.TemporaryDirectory(prefix="optune-replies-") as passing:
        folder = Path(server.replies or passing)
        with ReplyLog(folder / f"{stable_hash(sorted(requests))[:32]}.jsonl") as log:
            yield log


async def _ask_all(
    requests: Mapping[str, tuple[str, dict[str, Any]]],
    log: ReplyLog,
    model: str,
    server: ServerConfig,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Ask what `log` has no answer to, `concurrency` requests at once; `requests` are key -> (whose, body).

    Raises UserError after the last one where requests failed, and at once where the endpoint itself does.
    """
    chat = ChatSettings(
        model=model,
        base_url=server.base_url,
        api_key_env=server.api_key_env,
        concurrency=server.concurrency,
        timeout=server.timeout,
    )
    waiting = [key for key in requests if not log.answered(key)]
    failed_before = {key for key in waiting if key in log.replies}
    keys, done, in_a_row = iter(waiting), len(requests) - len(waiting), 0
    failures: list[str] = []

    def keep(reply: Reply) -> None:
        log.append(reply)
        log.sync()
        log.count(reply)

    async def work(name: str) -> None:
        nonlocal done, in_a_row
        for key in keys:
            whose, body = requests[key]
            try:
                choice = await _ask(api, {"model": name, **body}, server)
            except RequestFailed as error:
                in_a_row += 1
                if in_a_row >= FAILURES_IN_A_ROW:
                    raise UserError(f"{error} {in_a_row} requests in a row have failed.") from None
                given_up = error.final or key in failed_before
                failures.extend([] if given_up else [f"prompt {whose}: {error}"])
                keep(Reply(key, None, error=error.reason, final=given_up))
                continue
            keep(Reply(key, json.dumps(choice)))
            in_a_row, done = 0, done + 1
            if on_progress:
                on_progress(done, len(requests))

    async with open_client(chat, max_retries=server.max_attempts - 1) as api:
        name = server.model or await _served_name(api, model, server)
        await asyncio.gather(*(work(name) for _ in range(min(server.concurrency, len(waiting)))))
    if failures:
        kept = "are kept: the next start asks only for what is missing" if server.replies else "were answered"
        raise UserError(
            f"{len(failures)} of {len(requests)} requests failed, the first of them {failures[0]} "
            f"The other {len(requests) - len(failures)} {kept}."
        )
    if not any(map(log.answered, requests)):
        reason = log.replies[waiting[0]].error
        raise UserError(f"The endpoint {server.base_url} answered none of {len(requests)} requests: {reason}.")


class RequestFailed(UserError):
    """One request that an endpoint does not answer, while it may answer others. `final`: nor would it the next time."""

    def __init__(self, told: str, reason: str, final: bool = False):
        super().__init__(told)
        self.reason, self.final = reason, final


async def _ask(api: openai.AsyncOpenAI, body: dict[str, Any], server: ServerConfig) -> dict[str, Any]:
    """One choice. The client retries what may pass (429, 5xx, timeouts, resets); we, replies that cannot be read."""
    for _ in range(server.max_attempts):
        try:
            response = await api.post("/completions", cast_to=httpx2.Response, body=body)
            return read_choice(response.content)
        except NoAnswer as error:
            final = not may_pass(error.status or 200, error.code)
            raise RequestFailed(
                f"The endpoint {server.base_url} gives no completion: {error}.", str(error), final
            ) from None
        except ValueError as error:
            unreadable = error
        except openai.APIError as error:
            told, final = _told(error, server), _is_final(error)
            alone = final or not isinstance(error, OF_ALL)
            raise (RequestFailed(str(told), _reason(error), final) if alone else told) from None
    told = f"The endpoint {server.base_url} gives no completion that can be read: {unreadable}."
    raise RequestFailed(told, str(unreadable))


def _is_final(error: openai.APIError) -> bool:
    """Whether the endpoint refuses this request as such: too long, not allowed, or with what it cannot take."""
    if not isinstance(error, openai.APIStatusError):
        return False
    return error.status_code in REFUSED or about_text(error.status_code, error.code or "", str(error))


def read_choice(body: bytes) -> dict[str, Any]:
    """The one choice of a completion. Raises ValueError where the body is broken or of another schema.

    That is NoAnswer where the endpoint says that there will be none: an error in the place of a choice, or a filter.
    """
    try:
        content = json.loads(body)
    except NOT_JSON:
        raise ValueError(f"it begins {body[:80]!r}") from None
    content = content if isinstance(content, dict) else {}
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    if error := error_in(content, choice):
        raise NoAnswer(error[2], status=error[0], code=error[1])
    choice = choice if isinstance(choice, dict) else {}
    text, reason = choice.get("text"), choice.get("finish_reason")
    if reason == "content_filter":
        raise NoAnswer("the endpoint's content filter stopped it")
    if not choice:
        raise ValueError(f"it begins {body[:80]!r}")
    if not isinstance(text, str) or reason not in ("stop", "length"):
        raise ValueError(f"its text or finish_reason ({reason!r}) is not one of a finished completion")
    return choice


async def _served_name(api: openai.AsyncOpenAI, model: str, server: ServerConfig) -> str:
    """The name under which the endpoint serves `model`. Raises UserError where it does not."""
    try:
        listed = [entry.model_dump() async for entry in api.models.list()]
    except openai.APIError as error:
        raise _told(error, server) from None
    except (*NOT_JSON, AttributeError, TypeError):
        raise UserError(f"{server.base_url}/models gives no list of models{_lacks_v1(server)}.") from None
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
    hint = _lacks_v1(server) if isinstance(error, openai.NotFoundError) else ""
    return UserError(f"The endpoint {server.base_url} does not answer as it should: {_reason(error)}{hint}.")


def _reason(error: openai.APIError) -> str:
    cause = error.__cause__ or error
    return " ".join(str(cause).split())[:300].rstrip(".") or type(cause).__name__  # a broken connection has no words


def _lacks_v1(server: ServerConfig) -> str:
    """What most often is wrong with an address at which there is nothing."""
    base = server.base_url.rstrip("/")
    return "" if base.endswith("/v1") else f"; generation.server.base_url lacks /v1: try {base}/v1"


@contextmanager
def endpoint(model: str, server: ServerConfig) -> Iterator[None]:
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
