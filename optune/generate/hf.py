"""Sampling with transformers: our own decode loop around `model(...)`, for any causal language model, CPU or GPU.

What makes it fast: a prompt is computed once for all its responses; prompts of like length share a batch; finished
rows leave it; keys and values are written into memory set aside for them instead of being copied at every step; and a
nucleus sampling needs no sort. `sampler: inverse_cdf` draws with one number per token where the default hashes one for
every token of the vocabulary, and attends to shared heads without copying them: other tokens, by the same law.

What makes it reproducible: the noise behind a token is a hash of the response's key, the step and the token id, so it
depends on nothing else. Batch, padding and threads then reach the tokens only through the rounding of the logits (about
1e-6 in fp32), which matters where two tokens tie that closely; with `inverse_cdf` where a sum over the tokens before
it ends that close to the number drawn.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache, DynamicLayer

from optune.config import SamplingSettings
from optune.generate import grouped_attention, inverse_cdf
from optune.generate.noise import exponential
from optune.generate.prepare import Prepared, in_batches, prepare, stream_key, temperature_of
from optune.types import Prompt, Response, UserError
from optune.utils.checkpoints import load_model

# Finished rows leave when at least this share of the batch is finished: moving the rest costs about as much as a step.
COMPACT_AT = 0.15
UNUSED = -1  # marks the places after a response's last token


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
    if (settings.workers or 1) > 1:
        from optune.generate.shards import sample_in_processes

        return sample_in_processes(model, prompts, settings, seed=seed, iteration=iteration, on_progress=on_progress)
    start = prepare(model, prompts, settings)
    network = load_model(
        AutoModelForCausalLM, model, dtype=settings.dtype, trust_remote_code=settings.trust_remote_code
    )
    _check_positions(network, max(map(len, start.ids)) + settings.max_new_tokens, model)
    return answer(network, start, prompts, settings, seed=seed, iteration=iteration, on_progress=on_progress)


def _check_positions(network: Any, longest: int, model: str | Path) -> None:
    """Raises UserError where a model with a table of positions (GPT-2, OPT) has fewer than a text may have tokens."""
    tables = [m for name, m in network.named_modules() if "position" in name or name.endswith("wpe")]
    rows = min((m.num_embeddings for m in tables if isinstance(m, torch.nn.Embedding)), default=longest)
    if rows < longest:
        raise UserError(
            f"{str(model)!r} has {rows} positions, and the longest prompt with its response up to {longest} tokens; "
            "lower max_new_tokens, or leave long prompts out."
        )


def answer(
    network: Any,
    start: Prepared,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    *,
    seed: int,
    iteration: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Response]:
    """`sample` with a loaded network and prepared prompts."""
    ids, stop, n = start.ids, start.stop, settings.n
    drawn: dict[int, list[tuple[list[int], float]]] = {}  # place of a prompt -> (tokens, log-probability) of its n
    with grouped_attention.used(network, settings.sampler == "inverse_cdf"):
        for batch in in_batches(ids, settings):
            keys = []
            for i in batch:
                keys += [stream_key(seed, iteration, prompts[i].prompt_id, k) for k in range(n)]
            tell = partial(_tell, on_progress, len(drawn) * n, len(prompts) * n) if on_progress else None
            rows = decode([ids[i] for i in batch], keys, network, settings, stop, tell)
            drawn |= {i: rows[j * n : (j + 1) * n] for j, i in enumerate(batch)}
            if tell:
                tell(len(keys))

    flat = []
    for i, prompt in enumerate(prompts):
        flat += [(prompt, k, *drawn[i][k]) for k in range(n)]
    texts = start.tokenizer.batch_decode([tokens for _, _, tokens, _ in flat], skip_special_tokens=True)
    return [
        Response(
            prompt_id=prompt.prompt_id,
            index=k,
            iteration=iteration,
            token_ids=tuple(tokens),
            text=text,
            finish_reason="stop" if tokens[-1] in stop else "length",
            logprob=logprob,
        )
        for (prompt, k, tokens, logprob), text in zip(flat, texts, strict=True)
    ]


def _tell(on_progress: Callable[[int, int], None], before: int, of: int, done: int) -> None:
    on_progress(before + done, of)


@torch.inference_mode()
def decode(
    prompt_ids: Sequence[Sequence[int]],
    keys: Sequence[int],
    model: Any,
    settings: SamplingSettings,
    stop_ids: Sequence[int],
    tell: Callable[[int], None] | None = None,
) -> list[tuple[list[int], float]]:
    """Tokens and log-probability of one batch: `len(keys) / len(prompt_ids)` responses per prompt, prompt by prompt.

    tell: called after every step with the responses done; of those under way each counts as its share of the steps.
    """
    device, steps, n = model.device, settings.max_new_tokens, len(keys) // len(prompt_ids)
    accepted = inspect.signature(model.forward).parameters
    width = max(map(len, prompt_ids))
    padded = any(len(p) < width for p in prompt_ids)
    # (prompts, width), padded on the left, so that the next token of every row stands at the same place.
    inputs = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompt_ids], device=device)
    lengths = torch.tensor([len(p) for p in prompt_ids], device=device)
    # (prompts, width + steps): 1 from a row's first token on, for the prompt and everything that can follow it.
    mask = (torch.arange(width + steps, device=device) >= width - lengths[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)  # as without padding; under the padding they do not matter
    keys = torch.tensor(keys, device=device)
    stop = torch.tensor(sorted(stop_ids), device=device)
    cache = _cache(model, steps)

    def forward(inputs: torch.Tensor, start: int) -> torch.Tensor:
        """The logits after the last of `inputs`, which stand at places start, start + 1, ..."""
        end = start + inputs.shape[1]
        arguments = {"attention_mask": mask[:, :end] if padded else None, "position_ids": positions[:, start:end]}
        arguments |= {"logits_to_keep": 1}
        arguments = {name: value for name, value in arguments.items() if name in accepted}
        return model(inputs, past_key_values=cache, use_cache=True, **arguments).logits[:, -1].float()

    # One forward pass per prompt. From here on a row is a response: all is repeated n times, to len(keys) rows.
    logits = forward(inputs, 0).repeat_interleave(n, 0)
    cache.batch_repeat_interleave(n)
    mask, positions = mask.repeat_interleave(n, 0), positions.repeat_interleave(n, 0)
    tokens = torch.full((len(keys), steps), UNUSED, device=device)
    logprobs = torch.zeros(len(keys), dtype=torch.float64, device=device)  # float64: sums of many tokens
    row = torch.arange(len(keys), device=device)  # the row of `tokens` that each row of the batch fills
    alive = torch.ones_like(row, dtype=torch.bool)
    temperature = _temperature(settings, n, device)
    pick = inverse_cdf.pick if settings.sampler == "inverse_cdf" else _pick
    for step in range(steps):
        own = temperature[row % n] if isinstance(temperature, torch.Tensor) else temperature
        token, logprob = pick(logits, keys[row], step, own, settings.top_p)
        tokens[row, step] = torch.where(alive, token, UNUSED)
        logprobs[row] += torch.where(alive, logprob, 0)
        alive &= ~torch.isin(token, stop)
        left = int(alive.sum())
        if left == 0 or step == steps - 1:
            break
        if tell:
            tell(len(keys) - left + left * (step + 1) // steps)
        if left <= (1 - COMPACT_AT) * len(row):
            keep = _closed_up(alive, left)
            row, token, alive, mask, positions = row[keep], token[keep], alive[keep], mask[keep], positions[keep]
            cache.batch_select_indices(keep)
        logits = forward(token[:, None], width + step)
    responses = []
    for row_tokens, logprob in zip(tokens.tolist(), logprobs.tolist(), strict=True):
        responses.append(([token for token in row_tokens if token != UNUSED], logprob))
    return responses


def _temperature(settings: SamplingSettings, n: int, device: torch.device) -> float | torch.Tensor:
    """One number for all, or (n, 1), that of each of a prompt's responses."""
    if not settings.temperatures:
        return settings.temperature
    return torch.tensor([[temperature_of(settings, k)] for k in range(n)], dtype=torch.float32, device=device)


def _pick(
    logits: torch.Tensor, keys: torch.Tensor, step: int, temperature: float | torch.Tensor, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `draw` draws, and its log-probability at temperature 1, in nats: (rows,) each."""
    token = draw(logits, keys, step, temperature, top_p)
    return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)


def draw(
    logits: torch.Tensor, keys: torch.Tensor, step: int, temperature: float | torch.Tensor, top_p: float
) -> torch.Tensor:
    """One token per row of `logits` (rows, vocabulary), by the noise that `keys` (rows,) give for this `step`.

    `temperature` is one number, or (rows, 1) with none of them 0.

    The Gumbel-max trick as a race: the token with the largest weight / exponential noise. Over the nucleus, but without
    a sort: a token is in it if the tokens likelier than it weigh less than `top_p`. Where the winner is outside, so is
    every token no likelier; they leave the race, until the winner is inside and hence the winner of the nucleus.
    """
    if not isinstance(temperature, torch.Tensor) and temperature == 0:
        return logits.argmax(-1)
    weights = torch.softmax(logits / temperature, -1)  # (rows, vocabulary), as `race`
    race = weights / exponential(keys, step, weights.shape[-1])
    token = race.argmax(-1)
    rows = torch.arange(len(race), device=race.device)  # those whose winner is still to be checked
    while top_p < 1:
        likelier = weights > weights.gather(-1, token[rows, None])
        outside = ((weights * likelier).sum(-1) >= top_p).nonzero()[:, 0]
        if not len(outside):
            break
        rows, weights, race = rows[outside], weights[outside], race[outside] * likelier[outside]
        token[rows] = race.argmax(-1)
    return token


def _closed_up(alive: torch.Tensor, left: int) -> torch.Tensor:
    """Places (left,) of the rows still alive, in an order that moves few: the last ones fill the holes before them."""
    places = torch.arange(left, device=alive.device)
    places[~alive[:left]] = alive[left:].nonzero()[:, 0] + left
    return places


def _cache(model: Any, steps: int) -> DynamicCache:
    """transformers' own cache for this model, its plain layers replaced by ones with room for `steps` more tokens."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_RoomyLayer(steps) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer, written in place into memory set aside; the parent copies all at every step.

    Room is added by half as much again, so that rows which end early never take the memory of the longest.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps
        self._longest = 0
        self._rooms: list[torch.Tensor] = []

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:  # the prompt: kept as it is, for it is about to be repeated
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            self._longest = self.get_seq_length() + self._steps
            return self.keys, self.values
        start = self.get_seq_length()
        if start == self._rooms[0].shape[2]:  # (rows, heads, length, size): the memory is full
            self._rooms = [self._room(room) for room in self._rooms]
        self._rooms[0][:, :, start : start + 1], self._rooms[1][:, :, start : start + 1] = key_states, value_states
        self._show(start + 1)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each prompt's keys and values `repeats` times; once, after the prompt."""
        length = self.get_seq_length()
        self._rooms = [self._room(of_prompt, repeats) for of_prompt in (self.keys, self.values)]
        self._show(length)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Row `indices[i]` in place i; only what changes its place is copied."""
        length = self.get_seq_length()
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        for room in self._rooms:
            room[moved, :, :length] = room[indices[moved], :, :length]
        self._rooms = [room[: len(indices)] for room in self._rooms]
        self._show(length)

    def _room(self, states: torch.Tensor, repeats: int = 1) -> torch.Tensor:
        """`states` (rows, heads, length, size), each row `repeats` times, at the front of something longer."""
        rows, heads, length, size = states.shape
        longer = min(length + max(8, length // 2), self._longest)
        room = states.new_empty((rows, repeats, heads, longer, size))
        room[..., :length, :] = states[:, None]
        return room.flatten(0, 1)

    def _show(self, length: int) -> None:
        self.keys, self.values = (room[:, :, :length] for room in self._rooms)
