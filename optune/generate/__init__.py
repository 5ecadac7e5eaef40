"""Engines that answer prompts, behind one contract (line 8 of Algorithm 1).

An engine is a function

    sample(model: str | Path, prompts: Sequence[Prompt], settings, *, seed: int, iteration: int,
           on_progress: Callable[[int, int], None] | None = None) -> list[Response]

which loads `model`, draws `settings.n` responses for each prompt and returns them in order of prompts, then index.
`settings` has `n`, `temperature` (0 is greedy; `temperatures` in its place: see `temperature_of`), `top_p`,
`max_new_tokens`, `max_prompt_tokens`, `batch_size` (rows in one forward pass), `dtype` and `trust_remote_code`. Of each
response,

- `token_ids` are the sampled ids, with the end token only where one was sampled, and never padding;
- `text` is those ids decoded without special tokens;
- `finish_reason` is "stop" where an end token was sampled, else "length";
- `logprob` is the sum of their log-probabilities at temperature 1 under the whole, untruncated distribution, in nats.

The random stream of a response depends on (seed, "generate", iteration, prompt id, index) alone. `on_progress` is
called with (responses done, responses in all); some engines count a share of those under way. An engine that cannot
tell `logprob` gives None, and one that has to tokenise the text again, since it got no ids, marks the response
`retokenized`. No engine cuts a prompt: callers leave out those that `encode_prompts` reports as too long, and an engine
that meets one raises UserError. Where a prompt can have no responses, however often it is asked, an engine raises
`PromptsRefused`, which has those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optune.config import SamplingSettings
from optune.types import Response, UserError

ENGINES = {
    "hf": "optune.generate.hf:sample",
    "ray": "optune.generate.ray_cluster:sample",
    "server": "optune.generate.server:sample",
    "vllm": "optune.generate.vllm:sample",
}


class PromptsRefused(UserError):
    """Some prompts have no responses for good: `reasons` says why and how many, `responses` are those of the others."""

    def __init__(self, told: str, responses: Sequence[Response], reasons: Mapping[str, int]):
        super().__init__(told)
        self.responses, self.reasons = responses, reasons


def sampling_key(settings: SamplingSettings) -> dict[str, Any]:
    """What of `settings` can change a response, for a stage's key: not where an engine runs, or how it is asked."""
    fields = settings.model_dump(exclude={"server", "vllm", "ray"})
    if settings.engine == "server" and settings.server and settings.server.parameters:
        fields["server"] = settings.server.parameters
    if settings.engine == "ray":
        from optune.generate.prepare import options_of

        fields["ray"] = options_of(settings).model_dump(exclude={"address"})
    if "vllm" in (settings.engine, fields.get("ray", {}).get("engine")):
        from optune.generate.vllm import vllm_key

        fields["vllm"] = vllm_key(settings)
    if "hf" not in (settings.engine, fields.get("ray", {}).get("engine")):
        fields.pop("sampler", None)  # the other engines sample in their own way
    return fields
