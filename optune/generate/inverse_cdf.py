"""Nucleus sampling with one random number per token, for large vocabularies (`generation.sampler: inverse_cdf`).

A token is drawn from the whole distribution by the inverse of its distribution function. Where it lies outside the
nucleus, it and all that are no likelier leave, and the row draws again with its next number. The nucleus stays whole
through this, so what is drawn in the end follows its law exactly. No sort and no limit on the nucleus are needed.
"""

from __future__ import annotations

import torch

from optune.generate.noise import uniform

BLOCK = 256  # tokens summed at once: the function is inverted over blocks first, then inside one


def pick(
    logits: torch.Tensor, keys: torch.Tensor, step: int, temperature: float | torch.Tensor, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token for each row of `logits` (rows, vocabulary), and its log-probability at temperature 1, in nats.

    `keys` (rows,) and `step` name the random numbers. `temperature` is one number (0 is greedy), or (rows, 1) with
    none of them 0.
    """
    varied = isinstance(temperature, torch.Tensor)
    if not varied and temperature == 0:
        return _with_logprob(logits.argmax(-1), logits)
    plain = not varied and temperature == 1
    weights = torch.softmax(logits if plain else logits / temperature, -1)
    token = _draw(weights, keys, step, top_p)
    if plain:  # the weights are the probabilities asked for
        return token, weights.gather(-1, token[:, None])[:, 0].log()
    return _with_logprob(token, logits)


def _with_logprob(token: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)


def _draw(weights: torch.Tensor, keys: torch.Tensor, step: int, top_p: float) -> torch.Tensor:
    """One token (rows,) per row of probabilities `weights` (rows, vocabulary), from the nucleus of mass `top_p`.

    A token is in the nucleus if the tokens likelier than it weigh less than `top_p`.
    """
    token = invert(weights, uniform(keys, step, 0))
    rows = torch.arange(len(weights), device=weights.device)  # those whose token is still to be checked
    attempt = 0
    while top_p < 1:
        own = weights.gather(-1, token[rows, None])
        doubtful = (1 - own[:, 0] >= top_p).nonzero()[:, 0]  # a likely token is inside whatever the others weigh
        rows, weights, own = rows[doubtful], weights[doubtful], own[doubtful]
        likelier = weights > own
        outside = ((weights * likelier).sum(-1) >= top_p).nonzero()[:, 0]
        if not len(outside):
            break
        attempt += 1
        rows, weights = rows[outside], weights[outside] * likelier[outside]
        token[rows] = invert(weights, uniform(keys[rows], step, attempt))
    return token


def invert(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The first token (rows,) up to which more than `uniforms` (rows,) of a row's mass lies.

    `weights` (rows, vocabulary) are not negative and need not sum to 1; a token of weight 0 is never the answer.
    """
    rows = torch.arange(len(weights), device=weights.device)
    blocks = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    upto = blocks.sum(-1).double().cumsum(-1)  # (rows, blocks): the mass up to each block's end
    target = uniforms * upto[:, -1]
    block = (upto <= target[:, None]).sum(-1)
    rest = target - torch.where(block > 0, upto[rows, (block - 1).clamp(min=0)], 0)
    # (rows, BLOCK): the mass from the block's start up to each of its tokens.
    inside = blocks[rows, block].double().cumsum(-1)
    # A block's sum in float32 may lie a rounding above its sum in float64.
    rest = torch.minimum(rest, inside[:, -1].nextafter(torch.zeros_like(rest)))
    return block * BLOCK + (inside <= rest[:, None]).sum(-1)
