"""Extra samples that Algorithm 1 does not have: cached, and not listed in the manifest.

They are the answers that a prompt source asks for, and each prompt's mean reward under the start policy, by which
`lowest_centered` ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from optune.history import read_responses, write_responses
from optune.loop.rollouts import Lengths, Rollouts, left_out
from optune.prompts.files import stored_prompts
from optune.prompts.sources import SourceTools
from optune.store import Artefact, StageStore, content_hash
from optune.types import Prompt, Response
from optune.utils.files import write_json
from optune.utils.hashing import stable_hash, stable_seed


def source_tools(rollouts: Rollouts, store: StageStore, policy: str, t: int, folder: Path) -> SourceTools:
    """What a prompt source may use in iteration `t`."""
    config = rollouts.config

    def answer(prompts: Sequence[Prompt], n: int, start: bool = False) -> list[Response]:
        asked = (config.policy.model, 0) if start else (policy, t)
        return _answers(rollouts, store, *asked, prompts, n, counts)

    counts: dict[str, Any] = {}
    return SourceTools(answer, store.root / "writer" / f"replies-seed{config.seed}.jsonl", folder, counts)


def _answers(
    rollouts: Rollouts,
    store: StageStore,
    policy: str,
    t: int,
    prompts: Sequence[Prompt],
    n: int,
    counts: dict[str, Any],
) -> list[Response]:
    """`n` rewarded responses to each prompt that is not too long, sampled once and then taken from the store.

    The seconds that sampling took (the first time, if it is taken from the store) are added to `counts`.
    """
    config = rollouts.config
    settings = config.sampling().model_copy(update={"n": n})
    seed = stable_seed("answers", config.seed)

    def build(folder: Path) -> dict[str, Any]:
        asked, too_long = rollouts.fitting(policy, prompts, settings.max_prompt_tokens)
        lengths, refused = Lengths(), Counter()
        drawn = rollouts.sample(policy, asked, len(asked), settings, seed, t, refused, tell=False)
        write_responses(folder / "answers.parquet", rollouts.score(asked, map(lengths.see, drawn)))
        return {"too_long": too_long, **left_out(refused), **lengths.counts()}

    asked = stable_hash([(p.prompt_id, p.text, p.messages) for p in prompts])
    fields = {**rollouts.key_fields(config.sampling()), "n": n, "seed": seed, "iteration": t, "prompts": asked}
    inputs = {"policy": content_hash(policy), **rollouts.reward_inputs()}
    made = store.run("answers", build, fields=fields, inputs=inputs)
    seconds = counts.setdefault("seconds", {})
    seconds["answers_s"] = seconds.get("answers_s", 0.0) + made.timing["wall_s"]
    return read_responses(made / "answers.parquet")


def reward_offsets(rollouts: Rollouts, store: StageStore, prompts: Artefact) -> Artefact:
    """The mean reward of each prompt's responses under the start policy.

    A Bradley-Terry reward (Eq. 1) is free up to such an offset per prompt. The responses are sampled once per run, with
    random streams of their own, so that ranking and offset share no noise. They are not in the ledger of costs.
    """
    config = rollouts.config
    settings = config.sampling().model_copy(update={"n": config.selection.offset_samples})
    seed = stable_seed("offsets", config.seed)

    def build(folder: Path) -> dict[str, Any]:
        asked = stored_prompts(prompts / "prompts.parquet")
        refused: Counter[str] = Counter()
        drawn = rollouts.sample(config.policy.model, asked, prompts.counts["used"], settings, seed, 0, refused)
        rewards: dict[str, list[float]] = {}
        for response in rollouts.score(stored_prompts(prompts / "prompts.parquet"), drawn):
            rewards.setdefault(response.prompt_id, []).append(response.reward)
        write_json(folder / "offsets.json", {i: fmean(values) for i, values in rewards.items()})
        return {"responses": sum(map(len, rewards.values())), **left_out(refused)}

    inputs = {"policy": content_hash(config.policy.model), "prompts": prompts.digest, **rollouts.reward_inputs()}
    return store.run("offsets", build, fields={**rollouts.key_fields(settings), "seed": seed}, inputs=inputs)
