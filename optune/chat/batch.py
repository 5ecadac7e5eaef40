"""The provider's Batch API behind the same reply log: submit, poll, collect; resumable, and nothing submitted twice.

A state file beside the log holds one entry per submission, written *before* it is sent. A submission whose answer never
came back (the process died in between) is looked up at the provider by its own id before another is made.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
from tqdm import tqdm

from optune.chat.client import ChatClient, ChatRequest, read_completion
from optune.chat.failures import NoAnswer, about_text, may_pass
from optune.chat.reply_log import Reply, ReplyLog
from optune.types import UserError
from optune.utils.files import NOT_JSON, read_json, write_bytes, write_json
from optune.utils.hashing import stable_hash

MAX_CALLS = 50_000  # per batch, the provider's limit
MAX_BYTES = 190_000_000
OF_THE_ACCOUNT = (401, 402)  # errors that no call is to blame for
OVER = {"completed", "failed", "expired", "cancelled"}


def ask_in_batches(
    client: ChatClient,
    requests: Iterable[ChatRequest],
    state_path: str | Path,
    again: Collection[str] = (),
    *,
    poll_seconds: float = 30.0,
) -> dict[str, Reply]:
    """As `ChatClient.ask`, through batches. Stopped and called again, it goes on polling what was submitted."""
    wanted, missing = client.wanted_and_missing(requests, again)
    if missing and not client.settings.offline:
        client.check_budget(wanted, missing)
        try:
            asyncio.run(_Batches(client, Path(state_path), missing, poll_seconds).run())
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            raise UserError(f"The batch endpoint failed ({client.tell(error)}); run again to continue.") from None
        except KeyboardInterrupt as stop:
            raise type(stop)("stopped; submitted batches go on, and the same command collects them") from None
    return client.replay(wanted)


class _Batches:
    def __init__(self, client: ChatClient, state_path: Path, missing: Mapping[str, ChatRequest], poll_seconds: float):
        self.client, self.path, self.missing, self.poll_seconds = client, state_path, missing, poll_seconds
        self.entries: list[dict[str, Any]] = read_json(state_path) if state_path.exists() else []

    async def run(self) -> None:
        async with self.client.open() as self.api:
            for entry in self._open():
                if entry["batch_id"] is None and not await self._find(entry):
                    await self._submit(entry)
            under_way = {key for entry in self._open() for key in entry["keys"]}
            for keys in _chunks([key for key in self.missing if key not in under_way], self._line):
                submission = stable_hash(keys, len(self.entries), time.time_ns())[:32]
                self.entries.append({"submission": submission, "keys": keys, "batch_id": None, "collected": False})
                self._save()
                await self._submit(self.entries[-1])
            await self._poll()

    async def _find(self, entry: dict[str, Any]) -> bool:
        """Whether the provider already has this submission, whose batch id never reached us."""
        async for batch in self.api.batches.list(limit=100):
            if (batch.metadata or {}).get("submission") == entry["submission"]:
                entry["batch_id"] = batch.id
                self._save()
                return True
        return False

    async def _submit(self, entry: dict[str, Any]) -> None:
        entry["keys"] = [key for key in entry["keys"] if key in self.missing]
        if not entry["keys"]:  # answered in the meantime by another way
            entry["collected"] = True
            self._save()
            return
        calls = io.BytesIO("\n".join(map(self._line, entry["keys"])).encode())
        uploaded = await self.api.files.create(file=("calls.jsonl", calls), purpose="batch")
        batch = await self.api.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"submission": entry["submission"]},
        )
        entry["batch_id"] = batch.id
        self._save()

    async def _poll(self) -> None:
        total = sum(len(entry["keys"]) for entry in self._open())
        with tqdm(total=total, desc="batch calls", unit="call", disable=None) as bar:
            while waiting := self._open():
                done = 0
                for entry in waiting:
                    batch = await self.api.batches.retrieve(entry["batch_id"])
                    done += batch.request_counts.completed if batch.request_counts else 0
                    if batch.status in OVER:
                        await self._collect(entry, batch)
                bar.update(max(0, done - bar.n))
                if self._open():
                    await asyncio.sleep(self.poll_seconds)

    async def _collect(self, entry: dict[str, Any], batch: Any) -> None:
        """Log what a finished batch answered; calls without an answer are logged as failures and may be asked again.

        Raises UserError for a line that cannot be read, once the others count and its file lies beside the state.
        """
        replies = {key: Reply(key, None, error=f"batch {batch.status}") for key in entry["keys"]}
        broken: list[str] = []
        for kind, file_id in (("errors", batch.error_file_id), ("output", batch.output_file_id)):
            if file_id:
                content = await self.api.files.content(file_id)
                found, wrong = _read_lines(content.text)
                replies |= {reply.key: reply for reply in found if reply.key in replies}
                if wrong:
                    kept = self.path.with_name(f"{self.path.stem}-{entry['submission']}-{kind}.jsonl")
                    broken += [f"{write_bytes(kept, content.content)}, line {number}" for number in wrong]
        with ReplyLog(self.client.log_path) as log:
            for reply in replies.values():
                log.append(replace(reply, error=reply.error and self.client.tell(reply.error)))
            log.sync()
        entry["collected"] = True
        self._save()
        if batch.status == "failed":
            reasons = [e.message for e in (batch.errors.data if batch.errors else None) or []]
            raise UserError(
                f"Batch {batch.id} failed: {self.client.tell(reasons[0] if reasons else 'no reason given')}"
            )
        if broken:
            more = f" (and {len(broken) - 1} more)" if broken[1:] else ""
            raise UserError(
                f"{broken[0]}{more}: the provider's batch file cannot be read there; its other replies are kept, and "
                "the same command asks again for what is missing."
            )

    def _open(self) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if not entry["collected"]]

    def _line(self, key: str) -> str:
        request = self.missing[key]
        body = {"model": self.client.settings.model, "messages": list(request.messages), **request.parameters}
        return json.dumps({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})

    def _save(self) -> None:
        write_json(self.path, self.entries)


def _chunks(keys: list[str], line: Any) -> Iterable[list[str]]:
    chunk, size = [], 0
    for key in keys:
        length = len(line(key)) + 1
        if chunk and (len(chunk) == MAX_CALLS or size + length > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(key)
        size += length
    if chunk:
        yield chunk


def _read_lines(text: str) -> tuple[list[Reply], list[int]]:
    """The replies in a batch's output or error file, and the numbers of the lines that hold none."""
    found, wrong = [], []
    for number, line in enumerate(text.split("\n"), start=1):  # texts hold U+2028 and U+0085 too
        if line.strip():
            try:
                found.append(_read_line(line))
            except (*NOT_JSON, KeyError, TypeError, AttributeError):
                wrong.append(number)
    return found, wrong


def _read_line(line: str) -> Reply:
    """One line; raises one of several errors where it is not in the form that batches have."""
    row = json.loads(line)
    key, response = row["custom_id"], row.get("response") or {}
    if not isinstance(key, str):
        raise TypeError("custom_id is not text")
    if response.get("status_code") == 200:
        try:
            return read_completion(key, response.get("body") or {})
        except NoAnswer as error:
            prompt, completion = error.tokens
            passes = error.is_error and (may_pass(error.status, error.code, error) or error.status in OF_THE_ACCOUNT)
            final = not error.retry and not passes
            unmetered = error.paid and None in error.tokens
            return Reply(key, None, str(error), None, None, prompt, completion, final=final, unmetered=unmetered)
    told = json.dumps(row.get("error") or response.get("body"))
    status = response.get("status_code")
    final = isinstance(status, int) and about_text(status, "", told)
    return Reply(key, None, error=told[:300], final=final)
