"""Attention of one new token where several query heads share a head of keys and values, without copying those.

transformers repeats keys and values for every query head as soon as there is a mask. With a single new token, the
query heads that share them can stand in the place of as many query positions instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "optune_grouped"


@contextmanager
def used(network: Any, wanted: bool) -> Iterator[None]:
    """Inside, `network` attends this way, if `wanted` and if its attention is torch's own (`sdpa`)."""
    if not wanted or network.config._attn_implementation != "sdpa":
        yield
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation("sdpa")


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: `query` (rows, heads, length, size) to (rows, length, heads, size)."""
    rows, heads, length, size = query.shape
    shared = heads // key.shape[1]  # query heads to a head of keys and values, which are (rows, heads / shared, ...)
    if length > 1 or shared == 1 or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    # The one query position makes room for the `shared` query heads: the mask is the same for all of them.
    if attention_mask is not None:  # (rows, 1, 1, keys) -> (rows, 1, shared, keys)
        attention_mask = attention_mask.expand(-1, -1, shared, -1)
    out = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, -1, shared, size), key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.reshape(rows, 1, heads, value.shape[-1]), None
