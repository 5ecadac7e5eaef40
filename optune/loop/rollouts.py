"""Samples and rewards responses in chunks that fit in memory, and lists what their cache key depends on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optune.config import RunConfig, SamplingSettings, ServerConfig
from optune.generate import PromptsRefused, sampling_key
from optune.history import ROWS, chunks
from optune.prompts.tokens import encode_prompts
from optune.reward import reward_inputs, reward_key
from optune.reward.functions import PythonReward
from optune.reward.length_penalty import penalised
from optune.types import Prompt, Response, UserError

OnProgress = Callable[[int, int], None]  # (responses sampled, responses in all) of the stage under way
Score = Callable[[Sequence[Prompt], list[Response]], list[float]]


class Rollouts:
    """The engine and the reward of `parts` (see `parts_of`), with the configuration's options and seed."""

    def __init__(
        self,
        config: RunConfig,
        parts: Mapping[str, Any],
        on_progress: OnProgress | None = None,
        replies: Path | None = None,
    ):
        self.config = config
        self.replies = replies  # where the engine `server` keeps each response as it comes
        self.engine, self.reward = parts["engine"], parts["reward"]
        self.on_progress = on_progress

    def tokenizer(self, policy: str) -> Any:
        """The policy's own; imported and loaded only here."""
        from optune.utils.checkpoints import load_tokenizer

        return load_tokenizer(policy, trust_remote_code=self.config.policy.trust_remote_code)

    def fitting(self, policy: str, prompts: Sequence[Prompt], max_tokens: int) -> tuple[list[Prompt], int]:
        """The prompts of at most `max_tokens` tokens of the policy's, and how many are longer. None is cut."""
        too_long = set(encode_prompts(self.tokenizer(policy), prompts, max_tokens)[1])
        return [p for p in prompts if p.prompt_id not in too_long], len(too_long)

    def sample(
        self,
        policy: str,
        prompts: Iterable[Prompt],
        count: int,
        settings: SamplingSettings,
        seed: int,
        t: int,
        refused: Counter[str] | None = None,
        tell: bool = True,
        times: Mapping[str, int] | None = None,
    ) -> Iterator[Response]:
        """Responses of iteration `t` to `prompts`, of which there are `count`; with `tell`, `on_progress` is called.

        `refused` counts by reason the prompts that can have none, and are left out; without it, that is an error.
        `times`: a prompt gets so many times `settings.n` responses, and `count` is their sum; default: once.
        """
        done = 0
        if settings.engine == "server" and self.replies:
            server = settings.server or ServerConfig()
            kept = server.model_copy(update={"replies": server.replies or str(self.replies)})
            settings = settings.model_copy(update={"server": kept})

        def on_progress(sampled: int, of: int) -> None:
            if tell and self.on_progress:
                self.on_progress(done + sampled, count * settings.n)

        for chunk in chunks(prompts, ROWS):
            answers: list[Response] = []
            by_times = _by_times(chunk, times)
            for m, alike in by_times.items():
                own = settings if m == 1 else settings.model_copy(update={"n": m * settings.n})
                try:
                    answers += self.engine(policy, alike, own, seed=seed, iteration=t, on_progress=on_progress)
                except PromptsRefused as partly:
                    if refused is None:
                        raise
                    answers += partly.responses
                    refused.update(partly.reasons)
                done += len(alike) * own.n
            if len(by_times) > 1:
                place = {prompt.prompt_id: i for i, prompt in enumerate(chunk)}
                answers.sort(key=lambda response: place[response.prompt_id])
            yield from answers

    def score(
        self, prompts: Iterable[Prompt], fresh: Iterable[Response], raw: list[float] | None = None
    ) -> Iterator[Response]:
        """The responses `fresh` with their rewards. They must be in the order of their prompts.

        `raw` gets the rewards without the length penalty.
        """
        score, asked = None, iter(prompts)
        by_id: dict[str, Prompt] = {}
        for chunk in chunks(fresh, ROWS):
            score = score or self.scorer(raw)
            for response in chunk:
                while response.prompt_id not in by_id:
                    if (prompt := next(asked, None)) is None:
                        raise UserError(f"A response to {response.prompt_id!r} stands out of the prompts' order.")
                    by_id[prompt.prompt_id] = prompt
            rewards = score([by_id[r.prompt_id] for r in chunk], chunk)
            yield from (replace(r, reward=float(value)) for r, value in zip(chunk, rewards, strict=True))
            last = chunk[-1].prompt_id  # the only one of these prompts that may have more responses
            by_id = {last: by_id[last]}

    def scorer(self, raw: list[float] | None = None) -> Score:
        """Loads the reward; returns a function (prompts, responses) -> rewards, where prompts[i] is of responses[i].

        The length penalty is subtracted here, so the penalised reward is used for selection, pairs and training alike.
        `raw` gets the rewards without it. The function raises UserError where a reward is not finite.
        """
        reward, penalty = self.reward(self.config.reward), self.config.reward.length_penalty

        def score(prompts: Sequence[Prompt], responses: list[Response]) -> list[float]:
            rewards = reward.score(prompts, responses, self.config.seed)
            if raw is not None:
                raw.extend(float(value) for value in rewards)
            rewards = rewards if penalty is None else penalised(rewards, responses, penalty)
            for response, value in zip(responses, rewards, strict=True):
                if not math.isfinite(value):
                    raise UserError(
                        f"Reward {value} for prompt {response.prompt_id!r}, response {response.index}: "
                        "a reward must be a finite number; nothing was trained on it."
                    )
            return rewards

        return score

    def reward_inputs(self) -> dict[str, str]:
        """The content of what rewards, for a stage's inputs: a model, rules, or the source of Python functions."""
        own = self.reward.inputs() if isinstance(self.reward, PythonReward) else {}
        return {**reward_inputs(self.config.reward), **own}

    def key_fields(self, settings: SamplingSettings) -> dict[str, Any]:
        """What decides rewarded responses, for a stage's key, but for seed, policy, prompts and reward model."""
        reward = reward_key(self.config.reward)
        return {"generation": sampling_key(settings), "reward": reward, "threads": self.config.threads}


def _by_times(prompts: Sequence[Prompt], times: Mapping[str, int] | None) -> dict[int, list[Prompt]]:
    """The prompts that are asked once, twice, ..., each list in their order. An engine is asked once for each list."""
    alike: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        alike.setdefault(times[prompt.prompt_id] if times else 1, []).append(prompt)
    return alike


def left_out(refused: Counter[str]) -> dict[str, Any]:
    """For a stage's counts: the prompts that the engine had no responses to, by reason, where there are any."""
    return {"refused": dict(refused)} if refused else {}


class Lengths:
    """Counts the tokens of responses that pass by."""

    def __init__(self) -> None:
        self.responses = self.tokens = self.truncated = 0

    def see(self, response: Response) -> Response:
        self.responses += 1
        self.tokens += len(response.token_ids)
        self.truncated += response.finish_reason == "length"
        return response

    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"responses": self.responses, "tokens": self.tokens}
        if self.responses:
            counts["response_length_mean"] = self.tokens / self.responses
            counts["truncated_share"] = self.truncated / self.responses
        return counts
