"""Whether the parts of a run fit each other, before anything is generated: `python -m optune check --config FILE`.

Policy, tokenizer, chat template, reward model, prompts and limits come from different hands. What one of them cannot
take from another is one sentence here, not an error from deep inside a library after an iteration has been paid for.
Configs, tokenizers and the headers of weight files are read; weights are not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from optune.config import RunConfig
from optune.generate.prepare import stop_ids_of
from optune.loop.memory_check import Weights, check_memory
from optune.loop.parts import outcome_of, parts_of
from optune.pairs.offline import offline_pairs_beside
from optune.prompts.files import load_prompts
from optune.prompts.sources import SOURCES, sample_of
from optune.prompts.tokens import TemplateRefuses, encode_prompts
from optune.reward.functions import WEIGHTED, PythonReward, try_outcome, try_reward
from optune.reward.sequence_classifier import encode_rows
from optune.types import Prompt, Response, UserError
from optune.utils.checkpoints import UNREADABLE, first_line, load_generation_config, load_tokenizer
from optune.utils.precision import advice

Rows = list[list[int]]
Encode = Callable[[Sequence[Prompt]], Rows]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself without its weights; `skeleton` is the network with no memory behind it."""

    title: str  # "The policy 'folder'"
    config: Any
    tokenizer: Any
    skeleton: torch.nn.Module

    @property
    def positions(self) -> int | None:
        """The longest text it is made for, in tokens; None where its config sets no limit."""
        return positions_of(self.config)

    @property
    def weights(self) -> Weights:
        """How many there are, and of which type in its files."""
        count = sum(weight.numel() for weight in self.skeleton.parameters())
        dtype = getattr(self.config, "dtype", None)
        dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        return Weights(count, dtype or torch.float32, self.quantised)

    @property
    def quantised(self) -> bool:
        """Whether its files hold packed weights, which have shapes of their own."""
        return bool(getattr(self.config, "quantization_config", None))


def positions_of(config: Any) -> int | None:
    """The longest text that a model of this `transformers` config is made for, in tokens; None without a limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_run(
    config: RunConfig,
    reward: Any = None,
    outcome: PythonReward | None = None,
    made_later: Collection[str] = (),
) -> list[str]:
    """One line for each thing that fits. Raises UserError with one sentence for the first that does not.

    reward, outcome: those of functions that were passed, which the configuration only names. made_later: fields whose
    model or file is not there yet, because it is made when the run starts.
    """
    policy = read_checkpoint("policy", config.policy.model, AutoModelForCausalLM, config.policy.trust_remote_code)
    lines = [check_vocabulary(policy), check_end(policy, config.policy.model, config.policy.trust_remote_code)]
    prompts, rows = _check_prompts(policy, config)
    lines.append(f"The chat template takes the {len(prompts)} prompts that are no longer than prompts.max_tokens.")
    lines.append(_check_length(policy, _longest(rows), config.generation.max_new_tokens))
    if config.pairs.offline and "pairs.offline" not in made_later:
        lines.append(_check_offline(policy, prompts, config))
    lines.append(_check_types(policy, config))
    model = None
    if config.reward.kind == "sequence_classifier" and "reward.model" not in made_later:
        settings = config.reward
        model = read_checkpoint(
            "reward", settings.model, AutoModelForSequenceClassification, settings.trust_remote_code
        )
        lines += _check_reward(model, policy, prompts, config)
    elif ":" in config.reward.kind or config.reward.kind == WEIGHTED:
        lines.append(try_reward(reward or parts_of(config)["reward"], config.reward, prompts or _first(config)))
    if outcome := outcome or outcome_of(config):
        asked = load_prompts(config.validation.path, config.validation.split)[:1]
        lines.append(try_outcome(outcome, config.validation.outcome, asked))
    return [*lines, check_memory(config, policy.weights, model and model.weights)]


def _first(config: RunConfig) -> list[Prompt]:
    """The first prompt of the file, where none was short enough to be checked."""
    return load_prompts(config.prompts.path, config.prompts.split, config.prompts.columns)[:1]


def _check_reward(model: Checkpoint, policy: Checkpoint, prompts: list[Prompt], config: RunConfig) -> Iterator[str]:
    """The reward model against itself, the prompts, and the longest response."""
    settings = config.reward
    labels = model.config.num_labels
    if labels != 1:
        raise UserError(f"{model.title} has {labels} labels; a reward model has one.")
    yield check_vocabulary(model)

    def encode(asked: Sequence[Prompt]) -> Rows:
        return encode_rows(model.tokenizer, asked, [Response(p.prompt_id, 0, 0, (), "ok.", "stop") for p in asked])

    longest = _longest(_encoded(encode, prompts, model.title))
    yield f"Its chat template takes these {len(prompts)} prompts with an answer."
    # How long a response is in another vocabulary, nobody knows before it is there.
    same = model.tokenizer.get_vocab() == policy.tokenizer.get_vocab()
    new = config.generation.max_new_tokens if same else 1
    if longest and longest[0] + new > settings.max_length:
        raise UserError(
            f"{model.title}: prompt {longest[1]!r} has {longest[0]} tokens there, and {new} of a response make more "
            f"than reward.max_length ({settings.max_length}); raise it, or lower prompts.max_tokens or "
            "generation.max_new_tokens."
        )
    yield _check_length(model, longest, new)


def read_checkpoint(role: str, model: str, auto_class: Any, trust: bool) -> Checkpoint:
    """What `model` says of itself. Raises UserError where it cannot be read, or its weights are not as it says."""
    title = f"The {'policy' if role == 'policy' else 'reward model'} {str(model)!r}"
    tokenizer = load_tokenizer(model, trust_remote_code=trust)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust)
        with torch.device("meta"):
            skeleton = auto_class.from_config(config, trust_remote_code=trust)
    except (*UNREADABLE, RuntimeError) as error:
        raise UserError(f"No model can be loaded from {str(model)!r}: {first_line(error)}.") from error
    checkpoint = Checkpoint(title, config, tokenizer, skeleton)
    if not checkpoint.quantised:
        _check_shapes(checkpoint, _shapes(Path(model)))
    return checkpoint


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Name -> shape of the weights in a local folder, from the files' headers."""
    shapes = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: its weights cannot be read ({first_line(error)}).") from None
    return shapes


def _check_shapes(model: Checkpoint, shapes: dict[str, list[int]]) -> None:
    """The weights that are there have the shapes that the config says, and a head is among them."""
    if not shapes:
        return
    inside = f"{model.skeleton.base_model_prefix}."
    may_be_tied = getattr(model.skeleton, "_tied_weights_keys", None) or ()
    tied = may_be_tied if getattr(model.config.get_text_config(), "tie_word_embeddings", True) else ()
    for name, weight in model.skeleton.named_parameters():
        shape = shapes.get(name, shapes.get(name.removeprefix(inside)))
        if shape is not None and shape != list(weight.shape):
            raise UserError(
                f"{model.title}: the weight {name} has the shape {shape}, but config.json says {list(weight.shape)}"
                f"{_labels(model, shape)}; mend config.json, or take the checkpoint that it belongs to."
            )
        if shape is None and not name.startswith(inside) and name not in tied:
            raise UserError(
                f"{model.title} is no {type(model.skeleton).__name__}: it has no weights for {name}, which would be "
                "drawn at random."
            )


def _labels(model: Checkpoint, shape: list[int]) -> str:
    """Where a head has another number of labels than the config."""
    labels = model.config.num_labels
    return f" ({labels} labels where the head has {shape[0]})" if labels != shape[0] and shape[0] <= 2 else ""


def check_vocabulary(model: Checkpoint) -> str:
    """Every id that the tokenizer knows has a row in the embedding."""
    rows = model.skeleton.get_input_embeddings().weight.shape[0]
    known = model.tokenizer.get_vocab()
    beyond = sorted((i, token) for token, i in known.items() if i >= rows)
    if beyond:
        raise UserError(
            f"{model.title}: its tokenizer has the token {beyond[0][1]!r} with the id {beyond[0][0]}, but its "
            f"embedding has {rows} rows: resize it (model.resize_token_embeddings), or use a token that was there "
            "before."
        )
    return f"{model.title}: {len(known)} tokens lie within an embedding of {rows} rows."


def check_end(policy: Checkpoint, name: str, trust: bool) -> str:
    """Something ends a response, and training has something to pad with."""
    stop = stop_ids_of(load_generation_config(name, trust_remote_code=trust), policy.tokenizer)
    if not stop:
        raise UserError(
            f"{policy.title} has no end token: neither its generation config nor its tokenizer names an eos_token, so "
            "that no response would end; set one."
        )
    if policy.tokenizer.eos_token_id is None and policy.tokenizer.pad_token_id is None:
        raise UserError(f"{policy.title}: its tokenizer has neither pad_token nor eos_token to pad with; set one.")
    return f"The ids {sorted(stop)} end a response."


def _check_types(policy: Checkpoint, config: RunConfig) -> str:
    """The device computes in the types that are asked for, and the policy's weights are ones that training can move."""
    if policy.quantised and config.training.learner in (None, "dpo", "rloo"):
        raise UserError(
            f"{policy.title} has quantised weights, which training cannot move; take the checkpoint that they were "
            "made from."
        )
    asked = {section: getattr(config, section).dtype for section in ("generation", "reward", "training")}
    for section, dtype in asked.items():
        emulated = not (section == "generation" and config.generation.engine == "vllm")  # vLLM wants it in hardware
        if dtype == "bfloat16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(emulated):
            gpu = torch.cuda.get_device_name(0)
            raise UserError(f"{section}.dtype: the GPU ({gpu}) does not compute in bfloat16; give float32.")
    return advice(config) or (
        f"The device computes in the types asked for ({', '.join(f'{s} {d}' for s, d in asked.items())})."
    )


def _check_prompts(policy: Checkpoint, config: RunConfig) -> tuple[list[Prompt], dict[str, int]]:
    """The prompts that the policy will be asked, without those too long, and each one's number of tokens."""
    limit, prompts = config.prompts.max_tokens, []
    if config.prompts.source in SOURCES:  # one of a user's own may take `path` as it likes
        prompts = sample_of(
            load_prompts(config.prompts.path, config.prompts.split, config.prompts.columns),
            config.prompts.limit,
            config.prompts.sample_seed,
        )
    if config.validation:
        offered = load_prompts(config.validation.path, config.validation.split)
        prompts = [*prompts, *sample_of(offered, config.validation.limit, 0)]
    rows = _encoded(lambda asked: encode_prompts(policy.tokenizer, asked, limit)[0], prompts, policy.title)
    kept = [p for p in prompts if rows[p.prompt_id] <= limit]
    return kept, {p.prompt_id: rows[p.prompt_id] for p in kept}


def _check_offline(policy: Checkpoint, prompts: list[Prompt], config: RunConfig) -> str:
    """The pairs of `pairs.offline` can be read, and the policy's chat template takes their prompts."""
    try:
        offline = offline_pairs_beside({p.prompt_id: p for p in prompts}, config, policy.tokenizer)
    except TemplateRefuses as error:
        raise UserError(f"{config.pairs.offline}: {policy.title}: its {error.reason}") from None
    return f"{len(offline.pairs)} of the {offline.offered} pairs of {config.pairs.offline} can train."


def _encoded(encode: Encode, prompts: Sequence[Prompt], title: str) -> dict[str, int]:
    """Prompt id -> tokens. Raises UserError naming the first prompt that the chat template does not take."""
    try:
        return {p.prompt_id: len(row) for p, row in zip(prompts, encode(prompts), strict=True)}
    except TemplateRefuses as error:
        raise UserError(f"{title}: its {error.reason}") from None


def _longest(rows: dict[str, int]) -> tuple[int, str] | None:
    return max(((count, name) for name, count in rows.items()), default=None)


def _check_length(model: Checkpoint, longest: tuple[int, str] | None, new: int) -> str:
    """The longest prompt and the longest response together are no longer than the model's positions."""
    if longest is None or model.positions is None:
        return f"{model.title} sets no limit to a text's length." if longest else "No prompts to measure."
    count, name = longest
    if count + new > model.positions:
        raise UserError(
            f"{model.title} has {model.positions} positions, but prompt {name!r} has {count} tokens and a response up "
            f"to {new} (generation.max_new_tokens); lower prompts.max_tokens or generation.max_new_tokens."
        )
    return f"{model.title}: {count} tokens of the longest prompt and {new} of a response fit its positions."
