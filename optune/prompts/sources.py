"""Where prompts come from: the set P of Algorithm 1.

A source is `f(settings, *, iteration, iterations, policy, history, seed, tools) -> list[Prompt]`, called at the start
of every iteration (of `iterations` in all). `fixed`, the paper's, returns the same set each time. A source that writes
new prompts samples, logs and counts through `tools` (`SourceTools`). By default a source's prompts are taken to change
with the iteration's number; `@varying` declares otherwise. Files are JSONL or Parquet with a text column `prompt`, or a
chat in `prompt` or `messages`; the columns `prompt_id` (or `id`) and `category` are optional. Any other name is a data
set on the hub.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from optune.config import PromptsConfig
from optune.prompts.files import load_prompts
from optune.types import Prompt, Response, UserError


@dataclass(frozen=True)
class SourceTools:
    """What a source may use beside its settings, made by the loop for each iteration.

    answer(prompts, n, start=False): `n` responses to each prompt, sampled and rewarded as the loop does it, from the
    policy at the iteration's start, or from the start policy of the run. Prompts that are too long are left out.
    replies: a file that outlives the iteration and the run, for replies that were paid for.
    folder: the stage's own; what is written there becomes part of the iteration's record.
    counts: filled in by the source; `tokens_<name>` are what it spent, `seconds` its wall-clock by name, and the rest
    is free.
    """

    answer: Callable[..., list[Response]]
    replies: Path
    folder: Path
    counts: dict[str, Any] = field(default_factory=dict)


Source = Callable[..., list[Prompt]]
Varies = Literal["never", "with_policy", "with_iteration"]


def varying(how: Varies) -> Callable[[Source], Source]:
    """Declares that a source's prompts never change (`never`), or that they depend on policy and history alone."""

    def declared(source: Source) -> Source:
        source.varies = how
        return source

    return declared


def variation(source: Source) -> Varies:
    """What `varying` declared; without it, prompts may depend on the iteration's number and on how many there are."""
    return getattr(source, "varies", "with_iteration")


@varying("never")
def fixed(settings: PromptsConfig, tools: SourceTools | None = None, **_: Any) -> list[Prompt]:
    """The paper's source: one file or data set, the same prompts in every iteration."""
    prompts = load_prompts(settings.path, settings.split, settings.columns, tools and tools.counts)
    return sample_of(prompts, settings.limit, settings.sample_seed)


def disjoint(settings: PromptsConfig, *, iteration: int, iterations: int, **_: Any) -> list[Prompt]:
    """Fresh prompts in each iteration: each takes another part of the file (or of its sample), without overlap.

    A part has `per_iteration` prompts, by default an equal share. Raises UserError if there are not enough.
    """
    prompts = fixed(settings)
    each = settings.per_iteration or len(prompts) // iterations
    if not each or each * iterations > len(prompts):
        raise UserError(
            f"prompts.source=disjoint: {iterations} iterations of {max(each, 1)} prompts need "
            f"{iterations * max(each, 1)}, but {settings.path} gives {len(prompts)}; lower prompts.per_iteration, or "
            "raise prompts.limit."
        )
    order = np.random.default_rng([settings.sample_seed, 1]).permutation(len(prompts))
    return [prompts[i] for i in np.sort(order[each * iteration : each * (iteration + 1)])]


def sample_of(prompts: list[Prompt], limit: int | None, seed: int) -> list[Prompt]:
    """A fixed random sample of `limit` prompts, in their order; all of them without a limit."""
    if limit is None or limit >= len(prompts):
        return prompts
    keep = np.sort(np.random.default_rng(seed).choice(len(prompts), size=limit, replace=False))
    return [prompts[i] for i in keep]


SOURCES: dict[str, Source | str] = {
    "fixed": fixed,
    "disjoint": disjoint,
    "vanilla_synthetic": "optune.prompts.synthetic:vanilla_synthetic",
    "starts_on_policy": "optune.prompts.synthetic:starts_on_policy",
    "always_on_policy": "optune.prompts.synthetic:always_on_policy",
}
