"""The one client for OpenAI-compatible endpoints: asynchronous, patient, capped, and it never pays twice.

    replies = ChatClient(ChatSettings(model="gpt-4"), "run/replies.jsonl").ask(requests)

Every call has a content key. A key that the reply log answers is not asked again, so a run stopped at any moment and
started again asks only for what is missing. Failures that may pass (429, 5xx, timeouts, resets, broken replies) are
retried with exponential backoff, and a Retry-After holds back the whole run; calls that still fail are logged as
failures, which are not answers, and are asked again the next time. A failure that is one request's own (too long,
flagged, refused, cut off before any text, an error inside a reply of status 200) is logged as final: it is not tried
twice. A key or model that is refused
from the first call on stops the run once, in one sentence. Every token that a reply reports is logged with it.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import random
import signal
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from tqdm import tqdm

from optune.chat.failures import NoAnswer, about_text, error_in, may_pass, remedy
from optune.chat.reply_log import Reply, ReplyLog, Usage
from optune.config import holds_credentials
from optune.types import Message, UserError
from optune.utils.command import Terminated
from optune.utils.files import NOT_JSON
from optune.utils.hashing import stable_hash

MIN_PROBES = 3  # calls that must be refused before a run stops for it, where there are as many


@dataclass(frozen=True)
class ChatSettings:
    """Where to ask, how hard to try, and what it may cost (prices per million tokens, any one currency)."""

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 120.0
    max_attempts: int = 8
    backoff: float = 0.5
    max_backoff: float = 30.0
    max_retry_after: float = 300.0
    price_in: float | None = None
    price_out: float | None = None
    max_cost: float | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_attempts", "timeout"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("price_in", "price_out", "max_cost"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be a number of at least 0, not {value}.")
        if holds_credentials(self.base_url):
            raise UserError(
                f"base_url must not hold a key or password; put it into the environment ({self.api_key_env})."
            )


@dataclass(frozen=True)
class ChatRequest:
    """One call. `label` names it to people and is no part of its key."""

    messages: tuple[Message, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template_hash: str = ""
    order: str = ""
    label: str = ""

    def key(self, model: str) -> str:
        """SHA-256 of everything that makes this call what it is."""
        return stable_hash(model, self.template_hash, dict(self.parameters), list(self.messages), self.order)

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens go in: a quarter of the UTF-8 bytes, and four per message."""
        return sum(4 + len(m["content"].encode("utf-8", "replace")) // 4 for m in self.messages)

    @property
    def completion_tokens(self) -> int:
        """At most how many tokens come out."""
        return self.parameters.get("max_completion_tokens") or self.parameters.get("max_tokens") or 1024


@dataclass(frozen=True)
class Estimate:
    """What a run will cost at most. `cost` is None where no price was given."""

    calls: int
    logged: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None

    def __str__(self) -> str:
        price = "price unknown (give --price-in and --price-out)" if self.cost is None else f"at most {self.cost:.2f}"
        return (
            f"{self.calls} calls to make, {self.logged} replies there already; about {self.prompt_tokens:,} tokens in "
            f"(bytes / 4), at most {self.completion_tokens:,} out; {price}"
        )


class ChatClient:
    """Asks an endpoint, through the reply log at `log_path`. `transport` replaces the network (an in-process judge)."""

    def __init__(
        self, settings: ChatSettings, log_path: str | Path, *, transport: httpx2.AsyncBaseTransport | None = None
    ):
        self.settings = settings
        self.log_path = Path(log_path)
        self.in_process = transport is not None
        self._transport = transport

    def estimate(self, requests: Iterable[ChatRequest], again: Collection[str] = ()) -> Estimate:
        """What `ask` would do with the same arguments."""
        return self._estimate(*self.wanted_and_missing(requests, again))

    def logged(self, requests: Iterable[ChatRequest]) -> dict[str, Reply]:
        """What the log has on these requests, by key: answers and failures."""
        with ReplyLog(self.log_path) as log:
            return {key: log.replies[key] for key in self._by_key(requests) if key in log.replies}

    def ask(self, requests: Iterable[ChatRequest], again: Collection[str] = ()) -> dict[str, Reply]:
        """A reply per request, by key: logged ones as they are, the missing ones (and the keys in `again`) asked now.

        A call that kept failing has a reply without text that says why; unless it is final, it is asked again the next
        time. Raises
        UserError when the budget, the key, the model or an offline log does not allow it, and KeyboardInterrupt on
        Ctrl-C or SIGTERM; in each case calls under way are let finish and everything answered is kept.
        """
        wanted = self._by_key(requests)
        with ReplyLog(self.log_path) as log:
            missing = _missing(wanted, log, again)
            if missing and not self.settings.offline:
                self.check_budget(wanted, missing)
                asyncio.run(_Session(self, log, missing).run())
            return self._replay(wanted, log)

    def usage(self, requests: Iterable[ChatRequest]) -> Usage:
        """The tokens that all logged replies to these requests used, failed ones and repeated ones too."""
        with ReplyLog(self.log_path) as log:
            return sum((log.usage[key] for key in self._by_key(requests) if key in log.usage), Usage())

    def replay(self, wanted: Mapping[str, ChatRequest]) -> dict[str, Reply]:
        """The logged reply per request. Raises UserError where one was never asked for."""
        with ReplyLog(self.log_path) as log:
            return self._replay(wanted, log)

    def wanted_and_missing(
        self, requests: Iterable[ChatRequest], again: Collection[str] = ()
    ) -> tuple[dict[str, ChatRequest], dict[str, ChatRequest]]:
        """The requests by key, and those of them that the log does not answer or that are to be asked again."""
        wanted = self._by_key(requests)
        with ReplyLog(self.log_path) as log:
            return wanted, _missing(wanted, log, again)

    def open(self) -> openai.AsyncOpenAI:
        """The `openai` client behind this one; its own retries are off, since ours log and honour pauses."""
        return open_client(self.settings, transport=self._transport)

    def api_key(self) -> str | None:
        """The key, from the environment alone; never logged, stored or told."""
        return api_key(self.settings.api_key_env)

    def tell(self, error: Exception | str) -> str:
        """An error in one short line, without the key."""
        text, key = " ".join(str(error).split()), self.api_key()
        return (text.replace(key, "***") if key else text)[:300]

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        price_in, price_out = self.settings.price_in, self.settings.price_out
        if price_in is None or price_out is None:
            return None
        return (prompt_tokens * price_in + completion_tokens * price_out) / 1e6

    def _by_key(self, requests: Iterable[ChatRequest]) -> dict[str, ChatRequest]:
        found = {}
        for request in requests:
            _check_text(request)
            found[request.key(self.settings.model)] = request
        return found

    def _estimate(self, wanted: Mapping[str, ChatRequest], missing: Mapping[str, ChatRequest]) -> Estimate:
        tokens_in = sum(r.prompt_tokens for r in missing.values())
        tokens_out = sum(r.completion_tokens for r in missing.values())
        calls = len(missing)
        return Estimate(calls, len(wanted) - calls, tokens_in, tokens_out, self.cost(tokens_in, tokens_out))

    def check_budget(self, wanted: Mapping[str, ChatRequest], missing: Mapping[str, ChatRequest]) -> None:
        """Raises UserError where the missing calls may cost more than `max_cost`."""
        limit, estimate = self.settings.max_cost, self._estimate(wanted, missing)
        if limit is None:
            return
        if estimate.cost is None:
            raise UserError(
                f"A budget of {limit:g} cannot be kept without prices: {estimate.calls} calls are missing; give "
                "--price-in and --price-out per million tokens."
            )
        if estimate.cost > limit:
            raise UserError(
                f"The budget of {limit:g} does not cover the {estimate.calls} missing calls, which cost up to "
                f"{estimate.cost:.2f}; nothing was asked."
            )

    def _replay(self, wanted: Mapping[str, ChatRequest], log: ReplyLog) -> dict[str, Reply]:
        absent = [r for key, r in wanted.items() if key not in log.replies]
        if absent:
            raise UserError(
                f"{self.log_path}: {len(absent)} of the {len(wanted)} replies needed are not there (first: "
                f"{absent[0].label or 'unnamed call'}); run once without --offline, or with the settings it was made."
            )
        return {key: log.replies[key] for key in wanted}


def open_client(
    settings: ChatSettings, *, transport: httpx2.AsyncBaseTransport | None = None, max_retries: int = 0
) -> openai.AsyncOpenAI:
    """An `openai` client for the endpoint; a loopback one needs no key, no proxy and no certificates."""
    url = urlsplit(settings.base_url or "https://")
    local = url.hostname in ("localhost", "127.0.0.1")
    http = httpx2.AsyncClient(
        transport=transport,
        trust_env=not (local or transport),
        verify=url.scheme == "https",  # reading the certificates takes longer than a call
        timeout=httpx2.Timeout(settings.timeout, connect=min(settings.timeout, 10.0)),
        limits=httpx2.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency),
    )
    key = api_key(settings.api_key_env) or ("none" if local or transport else None)
    if key is None:
        raise UserError(f"No key: set the environment variable {settings.api_key_env} to the endpoint's key.")
    base_url = settings.base_url or ("http://in-process/v1" if transport else None)
    return openai.AsyncOpenAI(
        api_key=key, base_url=base_url, max_retries=max_retries, timeout=settings.timeout, http_client=http
    )


def api_key(variable: str) -> str | None:
    """The key in an environment variable, or None where it is not set."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"The environment variable {variable} does not hold a key: odd characters.")
    return key or None


def _missing(wanted: Mapping[str, ChatRequest], log: ReplyLog, again: Collection[str]) -> dict[str, ChatRequest]:
    return {key: request for key, request in wanted.items() if key in again or not log.settled(key)}


def _check_text(request: ChatRequest) -> None:
    try:
        "".join(message["content"] for message in request.messages).encode("utf-8")
    except UnicodeEncodeError:
        name = request.label or "a call"
        raise UserError(f"{name}: its text holds half a character (a lone surrogate), which cannot be sent.") from None


class _Failure(Exception):
    """Why an attempt brought no answer, and what it cost."""

    def __init__(self, reason: str, cause: NoAnswer | None = None):
        super().__init__(reason)
        tokens = cause.tokens if cause else (None, None)
        self.cost = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        self.cost["unmetered"] = bool(cause and cause.paid and None in tokens)
        self.paid = bool(cause and (cause.paid or any(tokens)))


class _Retry(_Failure):
    """A failure that may pass; `wait` is what the endpoint asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None, cause: NoAnswer | None = None):
        super().__init__(reason, cause)
        self.wait = wait


class _GiveUp(_Failure):
    """A failure of this one call that asking again cannot mend."""


class _Refused(_Failure):
    """A refusal that is about this call or about all, as the others will show; `stop` is told in the latter case."""

    def __init__(self, reason: str, stop: str, cause: NoAnswer | None = None):
        super().__init__(reason, cause)
        self.stop = stop


class _Session:
    """One asynchronous run over the missing calls."""

    def __init__(self, client: ChatClient, log: ReplyLog, missing: Mapping[str, ChatRequest]):
        self.client, self.settings, self.log, self.missing = client, client.settings, log, missing
        self.reason: Exception | KeyboardInterrupt | None = None  # why the run stops early
        self.reached = any(reply.answered for reply in log.replies.values())  # the endpoint is known to work
        self.not_before = 0.0  # of the next call, on the monotonic clock, as a Retry-After asked
        self.spent, self.reserved = 0.0, 0.0
        self.underestimate = 1.0  # the most by which a call's prompt has outgrown its estimate, for the next ones
        self.unsynced: list[tuple[Reply, bool]] = []  # with whether the call is over
        self.begun = 0
        self.probes = min(max(self.settings.concurrency, MIN_PROBES), len(missing))  # calls begun before an answer
        self.refused: list[Reply] = []  # before any answer came

    async def run(self) -> None:
        self.stopping, self.news, self.opened = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.slots = asyncio.Semaphore(self.settings.concurrency)
        async with self.client.open() as self.api:
            quiet = True if self.client.in_process else None  # None: only where there is no terminal
            with tqdm(total=len(self.missing), desc="calls", unit="call", disable=quiet) as self.bar, self._signals():
                syncing = asyncio.create_task(self._sync())
                self.calls = asyncio.gather(*(self._call(key, request) for key, request in self.missing.items()))
                try:
                    await self.calls
                except asyncio.CancelledError:
                    if self.reason is None:
                        raise
                finally:
                    self.stopping.set()
                    self.news.set()
                    await syncing
        if self.reason is not None:
            raise self.reason

    # --- one call ---

    async def _call(self, key: str, request: ChatRequest) -> None:
        """Ask until there is an answer, a failure for good, or a reason to stop; log what came of it."""
        await self._may_begin()
        for attempt in range(1, self.settings.max_attempts + 1):
            try:
                async with self.slots:
                    await self._wait_for_pause()
                    if self.stopping.is_set():
                        return
                    reply = await self._attempt(key, request)
                self._reach()
                self._log(replace(reply, attempts=attempt))
                return
            except _Retry as error:
                failure = error
                if attempt < self.settings.max_attempts:
                    if error.paid:
                        self._log(Reply(key, None, error=str(error), attempts=attempt, **error.cost), over=False)
                    # An endpoint may ask for a longer wait; a Retry-After of 0 or in the past shortens none.
                    await self._sleep(max(self._backoff(key, attempt), error.wait or 0.0))
            except _GiveUp as error:
                self._reach()
                failure = error
                break
            except _Refused as error:
                failure = error
                break
            except UserError as error:
                self._stop(error)
                return
        final = not isinstance(failure, _Retry)
        reply = Reply(key, None, error=str(failure), attempts=attempt, final=final, **failure.cost)
        if isinstance(failure, _Refused) and not self.reached:
            self._hold_back(reply, failure)
            return
        if not self.reached:
            self._stop(UserError(f"The endpoint never answered: {failure}."))
        self._log(reply)

    async def _may_begin(self) -> None:
        """Until the endpoint is known to work, only so many calls begin as are needed to find out."""
        if not self.reached and self.begun >= self.probes:
            await self.opened.wait()
        self.begun += 1

    def _reach(self) -> None:
        """The endpoint works: all calls may begin, and what was refused before was refused for its own text."""
        self.reached = True
        self.opened.set()
        held, self.refused = self.refused, []
        for reply in held:
            self._log(reply)

    def _hold_back(self, reply: Reply, failure: _Refused) -> None:
        """Keep a refusal until another call is answered; where all that were begun are refused, the run stops."""
        self.refused.append(reply)
        if len(self.refused) >= self.probes:
            for paid in (r for r in self.refused if r.prompt_tokens or r.completion_tokens or r.unmetered):
                self._log(replace(paid, final=False))
            self._stop(UserError(failure.stop))

    async def _attempt(self, key: str, request: ChatRequest) -> Reply:
        prompt_tokens = math.ceil(request.prompt_tokens * self.underestimate)
        worst = self.client.cost(prompt_tokens, request.completion_tokens) or 0.0
        limit = self.settings.max_cost
        if limit is not None and self.spent + self.reserved + worst > limit:
            raise UserError(f"The budget of {limit:g} is used up ({self.spent:.4f} spent); the rest was not asked.")
        self.reserved += worst
        try:
            # The raw response: the typed one would accept a wrong schema silently, and costs half the throughput.
            response = await self.api.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body={"model": self.settings.model, "messages": list(request.messages), **request.parameters},
            )
            self.spent += worst  # corrected below by what the endpoint says it used
            reply = read_completion(key, response.content)
            self._spend(worst, request, reply.prompt_tokens, reply.completion_tokens)
            return reply
        except NoAnswer as error:
            self._spend(worst, request, *error.tokens)
            raise self._judge_reply(error, response.headers) from None
        except openai.APIStatusError as error:
            told = error.message.removeprefix(f"Error code: {error.status_code}").removeprefix(" - ")
            told = told or error.response.text  # an error that is no object
            raise self._judge_status(error.status_code, str(error.code or ""), told, error.response.headers) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise _Retry(self.client.tell(f"{error} {error.__cause__ or ''}")) from None
        finally:
            self.reserved -= worst

    def _spend(self, worst: float, request: ChatRequest, prompt: int | None, completion: int | None) -> None:
        if prompt is not None and completion is not None:
            self.spent += (self.client.cost(prompt, completion) or 0.0) - worst
            self.underestimate = max(self.underestimate, prompt / request.prompt_tokens)

    def _judge_reply(self, error: NoAnswer, headers: Mapping[str, str]) -> Exception:
        """What a reply of status 200 without an answer means. What was paid for is not asked twice."""
        if error.is_error:
            return self._judge_status(error.status, error.code, str(error), headers, error)
        told = self.client.tell(error)
        return _Retry(told, cause=error) if error.retry else _GiveUp(told, error)

    def _judge_status(
        self, status: int, code: str, message: str, headers: Mapping[str, str], reply: NoAnswer | None = None
    ) -> Exception:
        """What an error means: stop everything, give this call up, wait for what others bring, or try again."""
        told = f"{status}: {self.client.tell(message)}" if status >= 300 else self.client.tell(message)
        if status == 401:
            return UserError(f"The endpoint refuses the key in {self.settings.api_key_env} ({told}).")
        if status == 402 or code == "insufficient_quota":
            return UserError(f"The account at the endpoint has no credit left ({told}).")
        if about_text(status, code, message):
            return _GiveUp(told, reply)
        if may_pass(status, code, reply):
            wait = retry_after(headers)
            if wait is not None and wait > self.settings.max_retry_after:
                return UserError(f"The endpoint asks to wait {wait:.0f} s ({told}); continue after that.")
            if wait is not None:
                self.not_before = max(self.not_before, time.monotonic() + wait)
            return _Retry(told, wait, reply)
        if code == "model_not_found" or (status == 404 and "model" in message.lower()):
            stop = f"The endpoint does not know the model {self.settings.model!r} ({told})."
            return _Refused(told, stop, reply) if self.reached else UserError(stop)
        if status in (404, 405):
            stop = f"There is no chat endpoint at {self.settings.base_url} ({told}){self._base_url_hint()}."
            return _Refused(told, stop, reply) if self.reached else UserError(stop)
        if status == 403:
            return _Refused(told, f"The endpoint refuses the key in {self.settings.api_key_env} ({told}).", reply)
        does = "answers with errors" if reply else "refuses the calls as they are"
        return _Refused(told, f"The endpoint {does} ({told}){remedy(message)}.", reply)

    def _base_url_hint(self) -> str:
        path = urlsplit(self.settings.base_url or "").path.rstrip("/")
        return "" if path.endswith("/v1") else "; base URLs usually end in /v1"

    # --- waiting and stopping ---

    def _backoff(self, key: str, attempt: int) -> float:
        """Exponential, with jitter that depends on the call and the attempt alone."""
        ceiling = min(self.settings.max_backoff, self.settings.backoff * 2 ** (attempt - 1))
        return ceiling * random.Random(f"{key}/{attempt}").uniform(0.5, 1.0)

    async def _wait_for_pause(self) -> None:
        while not self.stopping.is_set() and (wait := self.not_before - time.monotonic()) > 0:
            await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            pass

    def _stop(self, reason: Exception | KeyboardInterrupt) -> None:
        """Start no more calls; those under way may finish, since they are paid for. A second signal does not wait."""
        if self.reason is None:
            self.reason = reason
        elif isinstance(reason, KeyboardInterrupt):
            self.calls.cancel()
        self.stopping.set()
        self.opened.set()

    def _signals(self) -> _Signals:
        told = f"stopped; the replies so far are kept in {self.client.log_path}; the same command continues"
        return _Signals(lambda stop: self._stop(stop(told)))

    # --- on disk before it counts ---

    def _log(self, reply: Reply, *, over: bool = True) -> None:
        try:
            self.log.append(reply)
        except UserError as error:
            self._stop(error)
            return
        self.unsynced.append((reply, over))
        self.news.set()

    async def _sync(self) -> None:
        """Sync in groups, off the event loop; only then do the replies count and the bar moves."""
        while not self.stopping.is_set() or self.unsynced or not self.calls.done():
            await self.news.wait()
            self.news.clear()
            group, self.unsynced = self.unsynced, []
            if group:
                await asyncio.to_thread(self.log.sync)
            for reply, _ in group:
                self.log.count(reply)
            self.bar.update(sum(over for _, over in group))


class _Signals:
    """Calls `stop` with the exception for SIGINT or SIGTERM while entered; the handlers before come back afterwards."""

    def __init__(self, stop: Any):
        self.stop = stop

    def __enter__(self) -> None:
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number, stop in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)):
                self.before[number] = signal.getsignal(number)
                loop.add_signal_handler(number, self.stop, stop)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, handler)


def read_completion(key: str, body: bytes | Mapping[str, Any]) -> Reply:
    """The reply in a chat completion's body. Raises NoAnswer where it is broken, of another schema, or has no text."""
    if not isinstance(body, Mapping):
        try:
            body = json.loads(body)
        except NOT_JSON:
            page = body.lstrip()[:1] == b"<"
            told = "a web page came in place of a reply; base URLs usually end in /v1" if page else "not valid JSON"
            raise NoAnswer(told if page else f"the reply is {told}", retry=True) from None
    if not isinstance(body, Mapping):
        raise NoAnswer("the reply is not a chat completion", retry=True)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    tokens = _tokens(body.get("usage"))
    if error := error_in(body, choice):
        status, code, told = error
        raise NoAnswer(told, status=status, code=code, tokens=tokens)
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise NoAnswer("the reply is not a chat completion", retry=True, tokens=tokens)
    finish = _of(str, choice.get("finish_reason"))
    text = _text(message.get("content"))
    if why := _without_answer(text, finish, message):
        raise NoAnswer(why, tokens=tokens, paid=True)
    return Reply(
        key,
        text,
        finish_reason=finish,
        model=_of(str, body.get("model")),
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        logprobs=choice.get("logprobs"),
    )


def _text(content: Any) -> str | None:
    """A message's text; of a list of parts, those that are text. Parts that a model thinks in are none."""
    if not isinstance(content, list):
        return _of(str, content)
    parts = [part for part in content if isinstance(part, Mapping) and part.get("type") in ("text", "output_text")]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _without_answer(text: str | None, finish: str | None, message: Mapping[str, Any]) -> str | None:
    """Why a whole reply is no answer, which the same request would not be a second time either; None if it is one."""
    if finish == "content_filter":
        return "the endpoint's content filter stopped the reply"
    if finish == "error":
        return "the endpoint broke off the reply (finish_reason error)"
    if text and text.strip():
        return None
    if message.get("refusal"):
        return f"the model refused: {' '.join(str(message['refusal']).split())[:200]}"
    if finish == "length":
        return "cut off before any text (finish_reason length): raise max_tokens"
    return f"the reply is empty (finish_reason {finish})"


def _tokens(usage: Any) -> tuple[int | None, int | None]:
    """Prompt and completion tokens as the endpoint reports them, None where it does not."""
    usage = usage if isinstance(usage, Mapping) else {}
    names = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    counts = ([_count(usage.get(name)) for name in several] for several in names)
    return tuple(next((count for count in some if count is not None), None) for some in counts)


def _count(value: Any) -> int | None:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return int(value) if whole else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After as seconds or as a date; None where it is absent or unreadable."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def conversation(system: str | None, user: str) -> tuple[Message, ...]:
    """The usual two messages."""
    turns: Sequence[tuple[str, str]] = [("system", system), ("user", user)] if system else [("user", user)]
    return tuple({"role": role, "content": content} for role, content in turns)


def without_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same turns for endpoints that take no system turn: its text stands before the first user turn's."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    first, *others = [m for m in messages if m["role"] != "system"]
    return ({**first, "content": "\n\n".join([*system, first["content"]])}, *others)


def _of(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else None
