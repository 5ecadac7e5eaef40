"""Reward models of the world `instructions` (Eq. 1), built once per seed and cached by content.

A build samples the start policy, grades the answers by gold, and lets noisy annotators compare all answers to a prompt,
others among them that cost no sampling: answers to prompts on other topics, and own answers that the editor changed to
meet the prompt's constraints, or another prompt's. From these comparisons alone it trains the first layers of the start
policy.

Measured once (build 1000, 150 prompts about topics that it never saw, the policy's own answers): it agrees with gold on
77% of 509 pairs a point apart; on 83% of 199 where only the text differs, and on 67% of 122 where only the constraints
do. Without the edited answers that last share was chance (52%).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from optune import instructions
from optune.config import Dtype, RewardConfig, SamplingSettings
from optune.instructions.editor import edited
from optune.instructions.parts.progress import progress
from optune.instructions.preferences import preference_rows
from optune.instructions.prompts import stable_int
from optune.store import StageStore, content_hash
from optune.training.reward_model import train_reward_model
from optune.training.sft import TrainingSettings
from optune.types import Prompt, Response
from optune.utils.precision import fast_dtype
from optune.utils.threads import cpu_threads

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANSWERS = "answers.parquet"
"""A build's answers: prompt_id, prompt, answer, own (whether the policy was asked this very prompt), nats, gold."""
ALIKE = 0.05  # texts' qualities, from 0 to 1, that are no further apart
PADDING = "<|endoftext|>"  # the start policy pads with its end token, which a reward model must be able to read
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)
"""The start policy's, without its system line: every token is computed many times."""


@dataclass(frozen=True, slots=True)
class RewardBuild:
    """Sizes of a build. layers: of the start policy. For each prompt, off_topic: answers to other topics' prompts;
    edited: own answers edited to meet its constraints, and as many edited to meet another prompt's. dtype: of sampling
    and of training's mixed precision.
    """

    prompts: int = 400
    samples: int = 4
    off_topic: int = 2
    edited: int = 1
    max_new_tokens: int = 48
    layers: int = 16
    head_scale: float = 0.1
    dtype: Dtype = field(default_factory=fast_dtype)
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(learning_rate=1e-4, batch_size=48, max_length=192, adam_beta2=0.98)
    )


def build(start: Path, seed: int, root: Path, settings: RewardBuild | None = None, threads: int = 2) -> Path:
    """The folder of the reward model of build `seed`, trained below `root` unless it is there already.

    start: folder of the start policy. The answers are a stage of their own, so that a build which is killed while it
    trains does not sample again.
    """
    settings = settings or RewardBuild()
    store = StageStore(root)
    inputs = {"policy": content_hash(start), "instructions": instructions.content_hash()}
    fields = {"seed": seed, "settings": asdict(settings)}
    asked = {
        name: value for name, value in asdict(settings).items() if name not in ("layers", "head_scale", "training")
    }

    def sample(folder: Path) -> dict[str, Any]:
        with cpu_threads(threads):
            table = graded(start, _prompts_of(seed, settings), settings, seed, f"reward model, build {seed}")
        table.to_parquet(folder / ANSWERS)
        return {"rows": {"answers": len(table)}, "gold_mean": float(table.query("own").gold.mean())}

    def train(folder: Path) -> dict[str, Any]:
        with cpu_threads(threads):
            trained = train_on(pd.read_parquet(answers / ANSWERS), start, seed, settings, folder)
        return {**trained, "seconds": trained.pop("timing")}

    answers = store.run("instructions_answers", sample, fields={"seed": seed, "settings": asked}, inputs=inputs).path
    return store.run("instructions_reward", train, fields=fields, inputs=inputs).path


def graded(start: Path, prompts: Sequence[Prompt], settings: RewardBuild, seed: int, part: str) -> pd.DataFrame:
    """Answers to the prompts with their gold: `settings.samples` of the policy's own, then the others.

    part: what the lines of progress call this.
    """
    from optune.instructions.fluency import shared

    own = sampled(start, prompts, settings, seed, part)
    rows = []
    for prompt, texts in zip(prompts, own, strict=True):
        others = _other_topics(prompt, prompts, own, settings.off_topic, seed)
        others += _edited(prompt, prompts, texts, settings.edited, seed)
        rows += [(prompt, text, True) for text in texts] + [(prompt, text, False) for text in others]
    with progress(f"{part}: fluency", "answer") as tell:
        tell(0, len(rows))
        nats = shared(start).nats([p.text for p, _, _ in rows], [text for _, text, _ in rows])
        tell(len(rows), len(rows))
    return pd.DataFrame(
        {
            "prompt_id": [p.prompt_id for p, _, _ in rows],
            "prompt": [p.text for p, _, _ in rows],
            "answer": [text for _, text, _ in rows],
            "own": [is_own for _, _, is_own in rows],
            "nats": nats,
            "gold": [instructions.gold(p.text, text, n) for (p, text, _), n in zip(rows, nats, strict=True)],
        }
    )


def sampled(start: Path, prompts: Sequence[Prompt], settings: RewardBuild, seed: int, part: str) -> list[list[str]]:
    """`settings.samples` answers of the start policy to each prompt, at temperature 1 and top-p 0.9."""
    from optune.generate.hf import sample

    n = settings.samples
    decoding = SamplingSettings(
        n=n, max_new_tokens=settings.max_new_tokens, max_prompt_tokens=256, batch_size=64, dtype=settings.dtype
    )
    with progress(f"{part}: sampling", "answer") as tell:
        answers = sample(start, prompts, decoding, seed=seed, iteration=0, on_progress=tell)
    texts = [answer.text for answer in answers]
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def train_on(answers: pd.DataFrame, start: Path, seed: int, settings: RewardBuild, folder: Path) -> dict[str, Any]:
    """Train on comparisons of a build's answers, and save the model; returns what `train_reward_model` does."""
    from optune.training.common import StepTeller

    rows = []
    for (prompt_id, text), group in answers.groupby(["prompt_id", "prompt"], sort=False):
        unique = group.drop_duplicates("answer")
        everything = len(unique) ** 2
        rows += preference_rows(Prompt(prompt_id, text), list(unique.answer), list(unique.gold), everything, seed)

    def prepare(model: PreTrainedModel) -> None:
        """The first layers, a small head, and embeddings that stay as they are: a fifth of the parameters is theirs."""
        model.model.layers = model.model.layers[: settings.layers]
        model.config.num_hidden_layers = settings.layers
        model.config.pad_token_id = tokenizer.pad_token_id
        model.score.weight.data *= settings.head_scale
        model.model.embed_tokens.requires_grad_(False)

    tokenizer = reward_tokenizer(start)
    training = replace(settings.training, seed=seed, bf16=settings.dtype == "bfloat16")
    with progress(f"reward model, build {seed}: training", "update") as tell:
        return train_reward_model(
            start,
            tokenizer,
            rows,
            training,
            folder,
            prepare=prepare,
            each_answer_once=True,
            callbacks=[StepTeller(tell)],
        )


def reward_tokenizer(start: Path) -> PreTrainedTokenizerBase:
    """The start policy's tokenizer with a padding token of its own and a template without a system line."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(start)
    tokenizer.pad_token = PADDING
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def report(model: Path, answers: pd.DataFrame, batch_size: int = 64) -> dict[str, Any]:
    """How a reward model agrees with gold on answers that it was not trained on (a table as `graded` makes it).

    `agreement_all`: share of pairs of a prompt's own answers, of different gold, that it orders as gold does;
    `agreement_gap_1`: of those at least a point apart; of these again, `agreement_text`, where the answers meet the
    constraints alike, and `agreement_constraints`, where their texts are alike (within ALIKE); and Spearman's
    correlation of each prompt's mean reward with its mean gold.
    """
    from optune.reward.sequence_classifier import SequenceClassifier

    table = answers.query("own")
    asked = [Prompt(i, text) for i, text in zip(table.prompt_id, table.prompt, strict=True)]
    responses = [Response(row.prompt_id, k, 0, (), row.answer, "stop") for k, row in enumerate(table.itertuples())]
    classifier = SequenceClassifier(RewardConfig(model=str(model), batch_size=batch_size))
    parts = [instructions.quality(row.prompt, row.answer, row.nats) for row in table.itertuples()]
    table = table.assign(
        reward=classifier.score(asked, responses, seed=0),
        met=[part.met for part in parts],
        text=[part.text for part in parts],
    )
    gaps: list[Gap] = []
    for _, group in table.groupby("prompt_id"):
        gaps += _gaps(group)
    means = table.groupby("prompt_id")[["gold", "reward"]].mean()
    apart = [gap for gap in gaps if abs(gap.gold) >= 1]
    of = {
        "all": gaps,
        "gap_1": apart,
        "text": [gap for gap in apart if gap.met == 0],
        "constraints": [gap for gap in apart if gap.met and abs(gap.text) <= ALIKE],
    }
    return {
        **{f"agreement_{name}": _agreement(some) for name, some in of.items()},
        "pairs": {name: len(some) for name, some in of.items()},
        "rank_correlation_across_prompts": float(means.gold.corr(means.reward, method="spearman")),
    }


def _prompts_of(seed: int, settings: RewardBuild) -> list[Prompt]:
    """A build's own part of the split `preference`; builds take parts in turn."""
    everything = instructions.prompts("preference")
    parts = len(everything) // settings.prompts
    start = seed % parts * settings.prompts
    return everything[start : start + settings.prompts]


def _other_topics(
    prompt: Prompt, prompts: Sequence[Prompt], own: Sequence[Sequence[str]], count: int, seed: int
) -> list[str]:
    """Answers to prompts on other topics."""
    rng = Random(stable_int("off topic", seed, prompt.text))
    topic = instructions.read(prompt.text).topic
    answers: list[str] = []
    while len(answers) < count:
        i = rng.randrange(len(prompts))
        if instructions.read(prompts[i].text).topic != topic:
            answers.append(rng.choice(own[i]))
    return answers


def _edited(prompt: Prompt, prompts: Sequence[Prompt], own: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` own answers edited to meet the prompt's constraints, and `count` edited to meet another prompt's.

    Without the latter, every trace of editing would be a reason to prefer an answer.
    """
    rng = Random(stable_int("edited", seed, prompt.text))
    asked = instructions.read(prompt.text)
    texts = []
    for _ in range(count):
        texts.append(edited(asked, rng.choice(own)))
        other = instructions.read(rng.choice(prompts).text)
        texts.append(edited(replace(asked, constraints=other.constraints), rng.choice(own)))
    return texts


class Gap(NamedTuple):
    """By how much one answer to a prompt is ahead of another: in gold, reward, constraints met, quality of the text."""

    gold: float
    reward: float
    met: float
    text: float


def _gaps(group: pd.DataFrame) -> list[Gap]:
    """Gaps of all pairs of a prompt's answers that differ in gold."""
    values = group[list(Gap._fields)].to_numpy().tolist()
    pairs = [Gap(*(x - y for x, y in zip(a, b, strict=True))) for a, b in itertools.combinations(values, 2)]
    return [pair for pair in pairs if pair.gold]


def _agreement(gaps: Sequence[Gap]) -> float | None:
    return fmean(gap.gold * gap.reward > 0 for gap in gaps) if gaps else None
