"""Offline preferences among other writers' answers, and the baseline that learns from them alone.

The writers: the start policy asked for the task without its constraints, at a lower temperature, and the editor, who
makes such an answer meet the constraints by rule. Neither answers as the start policy does when it is asked the prompt
itself. The baseline makes as many updates, on pairs of its own, as an online arm of four times 128 prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from optune import instructions
from optune.config import Dtype, LossConfig, SamplingSettings, TrainingConfig
from optune.instructions.editor import edited
from optune.instructions.parts.progress import progress
from optune.instructions.preferences import preference_rows
from optune.store import StageStore, content_hash
from optune.types import Prompt, UserError
from optune.utils.precision import fast_dtype
from optune.utils.threads import cpu_threads

PAIRS = "pairs.parquet"


@dataclass(frozen=True, slots=True)
class OfflineBuild:
    """Sizes of a build. pairs: as many as an online arm trains on in all its iterations, at the same batch size.

    dtype: of sampling and training.
    """

    prompts: int = 320
    answers: int = 2
    comparisons: int = 3
    pairs: int = 512
    temperature: float = 0.7
    max_new_tokens: int = 48
    beta_1: float = 0.1
    dtype: Dtype = field(default_factory=fast_dtype)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(learning_rate=3e-6, batch_size=16, micro_batch_size=16)
    )


def pairs(start: Path, seed: int, root: Path, settings: OfflineBuild | None = None, threads: int = 2) -> Path:
    """The file of a build's preferences, in the columns `prompt_id`, `prompt`, `chosen`, `rejected`."""
    settings = settings or OfflineBuild()

    def write(folder: Path) -> dict[str, Any]:
        with cpu_threads(threads):
            rows = preferences(start, seed, settings)
        if len(rows) < settings.pairs:
            raise UserError(
                f"Offline build {seed} of the instructions gave {len(rows)} preferences, fewer than {settings.pairs}; "
                "ask for more prompts."
            )
        pd.DataFrame(rows[: settings.pairs]).to_parquet(folder / PAIRS)
        return {"rows": {"offered": len(rows), "kept": settings.pairs}}

    fields = {"seed": seed, "settings": {**asdict(settings), "training": None, "beta_1": None}}
    return StageStore(root).run("instructions_pairs", write, fields=fields, inputs=_inputs(start)).path / PAIRS


def baseline(start: Path, seed: int, root: Path, settings: OfflineBuild | None = None, threads: int = 2) -> Path:
    """The folder of a build's baseline: the start policy after one pass of DPO over `pairs`."""
    settings = settings or OfflineBuild()
    file = pairs(start, seed, root, settings, threads)

    def train(folder: Path) -> dict[str, Any]:
        from optune.training.common import StepTeller
        from optune.training.dpo import train_dpo
        from optune.training.job import TrainJob

        with cpu_threads(threads):
            loss = LossConfig(name="dpo", beta_1=settings.beta_1)
            training = settings.training.model_copy(update={"dtype": settings.dtype})
            job = TrainJob(str(start), str(start), loss, 1.0, training, seed)
            with progress(f"baseline, build {seed}: training", "update") as tell:
                return train_dpo(job, _encoded(start, pd.read_parquet(file)), folder, callbacks=[StepTeller(tell)])

    fields = {"seed": seed, "settings": {**asdict(settings), "training": settings.training.model_dump()}}
    inputs = {**_inputs(start), "pairs": content_hash(file.parent)}
    return StageStore(root).run("instructions_baseline", train, fields=fields, inputs=inputs).path


def preferences(start: Path, seed: int, settings: OfflineBuild) -> list[dict[str, str]]:
    """At most `settings.comparisons` of the other writers' answers to each of the build's prompts."""
    from optune.instructions.fluency import shared

    asked = _prompts_of(seed, settings)
    read = [instructions.read(prompt.text) for prompt in asked]
    careless = _sampled(start, [r.sentence for r in read], settings, seed)
    rows = []
    with progress(f"offline pairs, build {seed}: grading", "prompt") as tell:
        for done, (prompt, instruction, texts) in enumerate(zip(asked, read, careless, strict=True), 1):
            answers = list(dict.fromkeys([*texts, *(edited(instruction, text) for text in texts)]))
            nats = shared(start).nats([prompt.text] * len(answers), answers)
            golds = [instructions.gold(prompt.text, a, n) for a, n in zip(answers, nats, strict=True)]
            comparisons = preference_rows(prompt, answers, golds, settings.comparisons, seed)
            rows += [{"prompt_id": prompt.prompt_id, **row} for row in comparisons]
            tell(done, len(asked))
    return rows


def _prompts_of(seed: int, settings: OfflineBuild) -> list[Prompt]:
    """A build's own part of the split `offline`; builds take parts in turn."""
    everything = instructions.prompts("offline")
    start = seed % (len(everything) // settings.prompts) * settings.prompts
    return everything[start : start + settings.prompts]


def _sampled(start: Path, tasks: Sequence[str], settings: OfflineBuild, seed: int) -> list[list[str]]:
    from optune.generate.hf import sample

    n = settings.answers
    decoding = SamplingSettings(
        n=n,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        max_prompt_tokens=256,
        batch_size=64,
        dtype=settings.dtype,
    )
    asked = [Prompt(f"careless-{i}", task) for i, task in enumerate(tasks)]
    with progress(f"offline pairs, build {seed}: sampling", "answer") as tell:
        answers = sample(start, asked, decoding, seed=seed, iteration=0, on_progress=tell)
    texts = [answer.text for answer in answers]
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def _encoded(start: Path, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Token ids as the loop's own rows have them: an answer ends with the end token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start)
    chats = [[{"role": "user", "content": text}] for text in table.prompt]
    asked = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    ids = {name: tokenizer(list(t), add_special_tokens=False)["input_ids"] for name, t in
           (("prompt", asked), ("chosen", table.chosen), ("rejected", table.rejected))}  # fmt: skip
    return [
        {
            "prompt_ids": prompt,
            "chosen_ids": [*chosen, tokenizer.eos_token_id],
            "rejected_ids": [*rejected, tokenizer.eos_token_id],
            **{"score_chosen": 1.0, "score_rejected": 0.0},  # the annotator's verdict; `dpo` does not weigh it
        }
        for prompt, chosen, rejected in zip(ids["prompt"], ids["chosen"], ids["rejected"], strict=True)
    ]


def _inputs(start: Path) -> dict[str, str]:
    return {"policy": content_hash(start), "instructions": instructions.content_hash()}
