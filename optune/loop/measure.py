"""How fast one's own models sample, reward and train on this machine, through the run's own code (`plan --measure`).

Each phase runs first on as little as it can, which tells what starting costs, and then on more and more until it takes
two seconds: some ten seconds in all for a small model. Where the least, a pair say, takes longer, so does the
measurement. Nothing is kept.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from optune.config import RunConfig
from optune.loop.parts import parts_of
from optune.loop.rollouts import Rollouts
from optune.plan.cost_model import expected_lengths, spread_of
from optune.plan.own_machine import OwnMachine, Speed
from optune.prompts.files import load_prompts
from optune.prompts.sources import sample_of
from optune.prompts.tokens import encode_prompts
from optune.training.learners import DEFAULT, Step, check_training
from optune.types import Prompt, Response, UserError
from optune.utils.threads import cpu_threads

AIM = 2.0  # seconds of a phase at work
BATCHES = 16  # at most
GROWTH = 16  # at most, from one try to the next


def measure(config: RunConfig, response_tokens: float | None = None) -> OwnMachine:
    """The speeds at the configuration's batches and lengths. `response_tokens`: a mean length that is known.

    Raises UserError where the learner is not `dpo`, which alone trains on pairs.
    """
    if config.training.learner not in (None, DEFAULT):
        raise UserError(f"--measure times the learner {DEFAULT!r}, not {config.training.learner!r}: leave it out.")
    check_training(config)
    started = time.perf_counter()
    with cpu_threads(config.threads), TemporaryDirectory() as folder:
        return _Measurement(config, response_tokens, Path(folder)).run(started)


class _Measurement:
    def __init__(self, config: RunConfig, response_tokens: float | None, folder: Path):
        self.config, self.folder, self.policy = config, folder, config.policy.model
        self.parts = parts_of(config)
        self.rollouts = Rollouts(config, self.parts)
        self.tokenizer = self.rollouts.tokenizer(self.policy)
        own = config.prompts
        asked = sample_of(load_prompts(own.path, own.split, own.columns), own.limit, own.sample_seed)
        self.batch = math.ceil(config.generation.batch_size * spread_of(config).generation / config.generation.n)
        self.prompts, _ = self.rollouts.fitting(self.policy, asked[: BATCHES * self.batch], own.max_tokens)
        if not self.prompts:
            raise UserError(f"{own.path}: every prompt is longer than {own.max_tokens} tokens.")
        ids, _ = encode_prompts(self.tokenizer, self.prompts, own.max_tokens)
        self.prompt_ids = {prompt.prompt_id: row for prompt, row in zip(self.prompts, ids, strict=True)}
        self.response_tokens, self.sampled = response_tokens, False

    def run(self, started: float) -> OwnMachine:
        sampling, drawn = self._sampling()
        mean_prompt = fmean(map(len, self.prompt_ids.values()))
        lengths = expected_lengths(self.config, mean_prompt, self.response_tokens)
        answers = self._answers(drawn, round(lengths.response) or 1)
        rewarding = self._rewarding(answers)
        training, size = self._training(answers)
        took, name = time.perf_counter() - started, _machine()
        return OwnMachine(name, sampling, rewarding, training, size, lengths, self.sampled, took)

    def _sampling(self) -> tuple[Speed, list[Response]]:
        """The first batch with one token each, then with more, up to the limit; then more batches."""
        limit, drawn = self.config.generation.max_new_tokens, []

        def sample(tokens: int) -> float:
            settings = self.config.sampling().model_copy(update={"max_new_tokens": min(tokens, limit)})
            asked = self.prompts[: self.batch * math.ceil(tokens / limit)]
            started = time.perf_counter()
            drawn[:] = self.rollouts.sample(self.policy, asked, len(asked), settings, self.config.seed, 0, tell=False)
            return time.perf_counter() - started

        start_s = sample(1)
        before = len(drawn)
        most = limit * max(1, len(self.prompts) // self.batch)
        tokens, seconds = _growing(sample, min(8, most), most, start_s)
        if tokens >= limit and self.response_tokens is None:
            self.response_tokens, self.sampled = fmean(len(r.token_ids) for r in drawn), True
        return Speed(start_s, max(1, sum(len(r.token_ids) for r in drawn) - before) / seconds), drawn

    def _answers(self, drawn: Sequence[Response], length: int) -> list[Response]:
        """One for each response drawn, of the mean length: its tokens again and again."""
        answers = []
        for response in drawn:
            ids = tuple(islice(cycle(response.token_ids or (self.tokenizer.eos_token_id or 0,)), length))
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            answers.append(Response(response.prompt_id, response.index, 0, ids, text, "stop"))
        return answers

    def _rewarding(self, answers: list[Response]) -> Speed:
        by_id = {prompt.prompt_id: prompt for prompt in self.prompts}
        started = time.perf_counter()
        score = self.rollouts.scorer()
        start_s = time.perf_counter() - started

        def reward(count: int) -> float:
            rows = list(islice(cycle(answers), count))
            asked: list[Prompt] = [by_id[row.prompt_id] for row in rows]
            began = time.perf_counter()
            score(asked, rows)
            return time.perf_counter() - began

        count, seconds = _growing(reward, self.config.generation.n, BATCHES * self.config.reward.batch_size)
        return Speed(start_s, count / seconds)

    def _training(self, answers: list[Response]) -> tuple[Speed, int]:
        """Also the bytes of the policy that training saves."""
        least = spread_of(self.config).training
        size = 0

        def train(count: int) -> float:
            nonlocal size
            rows = list(islice(self._rows(answers), count))
            config = self._with_updates_of(count)
            beta_2 = config.loss.beta_2 if isinstance(config.loss.beta_2, float) else 1.0
            own = (self.policy, self.policy, self.prompts)
            step = Step(config, 0, *own, lambda: rows, self.rollouts.scorer, beta_2, config.seed)
            with TemporaryDirectory(dir=self.folder) as out:
                began = time.perf_counter()
                self.parts["learner"](step, Path(out) / "policy")
                seconds = time.perf_counter() - began
                size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
            return seconds

        train(least)  # the first one imports what trains
        start_s = train(least)
        most = BATCHES * self.config.training.batch_size
        count, seconds = _growing(train, min(2 * least, most), most, start_s)
        return Speed(start_s, max(1, count - least) / seconds), size

    def _with_updates_of(self, pairs: int) -> RunConfig:
        """As configured, with updates no larger than `pairs`, and the reference of every pair computed."""
        own = self.config.training
        micro = min(own.micro_batch_size, pairs)
        batch = min(own.batch_size, pairs // micro * micro)
        changes = {"batch_size": batch, "micro_batch_size": micro, "fresh_reference": None}
        return self.config.with_overrides({f"training.{name}": value for name, value in changes.items()})

    def _rows(self, answers: list[Response]) -> Iterator[dict[str, Any]]:
        for answer in cycle(answers):
            ids = list(answer.token_ids)
            pair = {"chosen_ids": ids, "rejected_ids": ids[::-1], "score_chosen": 1.0, "score_rejected": 0.0}
            yield {"prompt_ids": self.prompt_ids[answer.prompt_id], **pair}


def _growing(run: Callable[[int], float], least: int, most: int, start_s: float = 0.0) -> tuple[int, float]:
    """More and more work until it takes AIM seconds beside its start: how much that was, and the seconds.

    Where even the most takes less than a tenth of the start beside it, which is then noise, the start is counted in.
    """
    count = least
    while True:
        whole = run(count)
        seconds = whole - start_s
        if count >= most or seconds >= AIM:
            return count, seconds if seconds > start_s / 10 else whole
        factor = min(GROWTH, max(2.0, 1.2 * AIM / max(seconds, 1e-3)))
        count = min(most, math.ceil(count * factor))


def _machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"this machine's CPU ({os.cpu_count()} cores)"
