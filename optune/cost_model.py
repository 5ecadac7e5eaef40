"""What a run will cost, before it is run: time, memory, disk and judge calls of every stage, from first principles.

Work is counted (floating-point operations of matrix products, bytes that a decoding step reads) and divided by what a
machine reaches. For GPUs these rates are assumptions, each stated in MACHINES; a machine whose ledgers are at hand is
modelled in `measured_cost.py`. Expected lengths are assumptions, too, unless given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optune.artefacts import read_json
from optune.config import RunConfig
from optune.selection import selection_count
from optune.types import UserError

PHASES = ("generation", "rewarding", "training")
# Mean lengths where none are given, as shares of the limits.
PROMPT_SHARE, RESPONSE_SHARE = 0.35, 0.6
# Prompts of the evaluation sets that presets name.
EVALUATION_PROMPTS = {"lima": 300, "alpaca_eval": 805, "sandbox:lima": 300, "sandbox:alpaca": 805, "sandbox:test": 2048}
RATING_PROMPT_TOKENS, RATING_REPLY_TOKENS = 250, 250  # around the two answers; the reply with its explanation
BYTES = {"float32": 4, "bfloat16": 2, "auto": 2}


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder-only transformer with grouped-query attention and a gated MLP."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False

    @property
    def matrix_parameters(self) -> int:
        """Parameters that every token is multiplied with: all but the input embeddings."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All parameters, norms left out."""
        return self.matrix_parameters + (0 if self.tied else self.hidden * self.vocabulary)

    def flops(self, tokens: float, context: float) -> float:
        """Operations of a forward pass over `tokens` tokens that attend to `context` tokens on average."""
        return tokens * (2 * self.matrix_parameters + 4 * self.layers * self.heads * self.head_dim * context)

    def cache_bytes(self, tokens: float, width: int) -> float:
        """Keys and values of `tokens` tokens."""
        return tokens * 2 * self.layers * self.kv_heads * self.head_dim * width


MISTRAL_7B = Shape(32, 4096, 14336, 32, 8, 128, 32000)
SHAPES = {
    "alignment-handbook/zephyr-7b-sft-full": MISTRAL_7B,
    "weqweasdas/RM-Mistral-7B": MISTRAL_7B,
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(24, 896, 4864, 14, 2, 64, 151936, tied=True),
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": Shape(28, 1024, 3072, 16, 8, 128, 151936, tied=True),
    "sandbox:policy": Shape(3, 128, 256, 8, 8, 16, 230, tied=True),
    "sandbox:reward": Shape(3, 128, 256, 8, 8, 16, 230, tied=True),
}


@dataclass(frozen=True)
class Machine:
    """What one GPU reaches. Rates in operations or bytes per second, memory in bytes.

    `peak` and `bandwidth` are data-sheet numbers, the efficiencies the share of them that is taken to be reached. A
    decoding step takes at least `launch_s` per layer, which is what launching a layer's kernels one by one costs.
    """

    name: str
    memory: float
    peak: float
    bandwidth: float
    train_efficiency: float = 0.40
    forward_efficiency: float = 0.50
    bandwidth_efficiency: float = 0.50
    launch_s: float = 0.9e-3
    start_s: float = 60.0  # of a stage: importing, loading a model


# bf16 dense peak and memory bandwidth from the vendor's data sheets; all else as above.
MACHINES = {
    "a100": Machine("A100 80 GB", 80e9, 312e12, 2.04e12),
    "h100": Machine("H100 80 GB", 80e9, 989e12, 3.35e12),
    "h200": Machine("H200 141 GB", 141e9, 989e12, 4.8e12),
}
CONTINUOUS = ("vllm", "server")  # engines that give a finished row's place to the next one
COMPILED_SHARE = 1 / 3  # of `launch_s`, with compiled kernels and CUDA graphs


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt and of a response."""

    prompt: float
    response: float

    @property
    def both(self) -> float:
        """Of the two together."""
        return self.prompt + self.response


@dataclass(frozen=True)
class StageCost:
    """A stage of a plan: wall-clock seconds with all GPUs at work, bytes of memory per GPU, bytes left on disk."""

    stage: str
    iteration: int
    seconds: float
    memory: float
    disk: float


def shape_of(model: str) -> Shape:
    """A checkpoint's sizes: from its folder, from the presets' models, or else from the hub. Raises UserError."""
    if model in SHAPES:
        return SHAPES[model]
    file = Path(model) / "config.json"
    if file.is_file():
        return _shape(read_json(file), model)
    from transformers import AutoConfig

    try:
        return _shape(AutoConfig.from_pretrained(model).to_dict(), model)
    except OSError:
        raise UserError(
            f"The size of {model!r} is unknown: it is no checkpoint folder, nor known on the hub."
        ) from None


def _shape(config: Mapping[str, Any], model: str) -> Shape:
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return Shape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings")),
        )
    except KeyError as error:
        raise UserError(f"{model}: its config.json has no {error.args[0]}, so its cost cannot be worked out.") from None


def expected_lengths(config: RunConfig, prompt: float | None = None, response: float | None = None) -> Lengths:
    """Mean lengths: as given, else fixed shares of the limits."""
    return Lengths(
        prompt=prompt or PROMPT_SHARE * config.prompts.max_tokens,
        response=response or RESPONSE_SHARE * config.generation.max_new_tokens,
    )


# --- seconds of a stage, for one GPU's share of the work ------------------------------------------------------------


def generation_seconds(
    shape: Shape, config: RunConfig, machine: Machine, prompts: float, lengths: Lengths, engine: str, batch: int
) -> float:
    """Line 8 for `prompts` prompts.

    `plain`: one `model.generate` call per batch, in which every row waits for the longest and computes its own prompt.
    `hf`: finished rows leave, and responses share their prompt. `vllm`, `server`: the next row takes a finished one's
    place.
    """
    settings = config.generation
    rows = prompts * settings.n
    if not rows:
        return 0.0
    batch = min(batch, math.ceil(rows))
    if engine in CONTINUOUS:
        steps, alive, launch_s = rows * lengths.response / batch, batch, COMPILED_SHARE * machine.launch_s
    else:
        steps, alive, launch_s = math.ceil(rows / batch) * settings.max_new_tokens, batch, machine.launch_s
    if engine == "hf":
        alive *= lengths.response / settings.max_new_tokens
    context, width = lengths.prompt + lengths.response / 2, BYTES[settings.dtype]
    read = shape.matrix_parameters * width + shape.cache_bytes(alive * context, width)
    step = max(
        read / (machine.bandwidth * machine.bandwidth_efficiency),
        shape.flops(alive, context) / (machine.peak * machine.forward_efficiency),
    )
    # Launching hides behind long kernels; scheduling between the steps of an engine does not.
    floor = shape.layers * launch_s
    step = step + floor if engine in CONTINUOUS else max(step, floor)
    prefill = shape.flops((rows if engine == "plain" else prompts) * lengths.prompt, lengths.prompt / 2)
    return machine.start_s + prefill / (machine.peak * machine.forward_efficiency) + steps * step


def rewarding_seconds(shape: Shape, machine: Machine, responses: float, lengths: Lengths) -> float:
    """Line 19: a forward pass over prompt and response."""
    if not responses:
        return 0.0
    flops = shape.flops(responses * lengths.both, lengths.both / 2)
    return machine.start_s + flops / (machine.peak * machine.forward_efficiency)


def training_seconds(shape: Shape, config: RunConfig, machine: Machine, pairs: float, lengths: Lengths) -> float:
    """Line 22: reference log-probabilities, then forward and backward (twice forward with checkpointing)."""
    forward = shape.flops(2 * pairs * lengths.both, lengths.both / 2)
    passes = config.training.epochs * (3 + config.training.gradient_checkpointing)
    rate = machine.peak * machine.train_efficiency
    return machine.start_s + forward / (machine.peak * machine.forward_efficiency) + passes * forward / rate


# --- bytes ------------------------------------------------------------------------------------------------------------


def training_bytes(shape: Shape, config: RunConfig, gpus: int) -> float:
    """Per GPU with weights, gradients and optimizer state in fp32 sharded over `gpus`, and the activations of a batch.

    Activations: a layer's inputs with checkpointing (about 16 times that without), and the logits with their gradient
    in fp32.
    """
    states = {"rmsprop": 1, "adamw_torch": 2}[config.training.optimizer]
    rows = 2 * config.training.micro_batch_size
    tokens = rows * (config.prompts.max_tokens + config.generation.max_new_tokens)
    kept = 1 if config.training.gradient_checkpointing else 16
    activations = tokens * shape.hidden * shape.layers * kept * BYTES[config.training.dtype]
    return 4 * (2 + states) * shape.parameters / gpus + activations + 2 * 4 * tokens * shape.vocabulary


def generation_bytes(shape: Shape, config: RunConfig, machine: Machine, engine: str) -> float:
    """Per GPU: weights and the keys and values of a batch of the longest rows; vLLM takes the share it is given."""
    if engine in CONTINUOUS:
        return machine.memory * (config.generation.vllm.gpu_memory_utilization if config.generation.vllm else 0.9)
    width = BYTES[config.generation.dtype]
    tokens = config.generation.batch_size * (config.prompts.max_tokens + config.generation.max_new_tokens)
    return shape.parameters * width + shape.cache_bytes(tokens, width)


def rewarding_bytes(shape: Shape, config: RunConfig) -> float:
    """Per GPU: weights, and a few layers' activations of a batch."""
    width = BYTES[config.reward.dtype]
    return (shape.parameters + 8 * config.reward.batch_size * config.reward.max_length * shape.hidden) * width


# --- a run ------------------------------------------------------------------------------------------------------------


def plan_run(
    config: RunConfig,
    machine: Machine,
    gpus: int,
    prompts: int,
    lengths: Lengths,
    engine: str | None = None,
    batch: int | None = None,
) -> list[StageCost]:
    """The stages of one run on `gpus` GPUs, prompts sharded over them, in order. `engine`: other than configured."""
    engine, batch = engine or config.generation.engine, batch or config.generation.batch_size
    policy = shape_of(config.policy.model)
    reward = shape_of(config.reward.model) if config.reward.model else None  # `gold` takes no time
    rows_bytes = 2 * config.generation.n * lengths.response * 8  # ids and text, in history and pairs
    found = []
    for t in range(config.iterations + 1):
        fresh = fresh_prompts(config, prompts, t)
        share, responses = fresh / gpus, fresh * config.generation.n
        seconds = generation_seconds(policy, config, machine, share, lengths, engine, batch)
        found.append(
            StageCost("generation", t, seconds, generation_bytes(policy, config, machine, engine), fresh * rows_bytes)
        )
        if reward:
            seconds = rewarding_seconds(reward, machine, responses / gpus, lengths)
            found.append(StageCost("rewarding", t, seconds, rewarding_bytes(reward, config), 0.0))
        seconds = training_seconds(policy, config, machine, training_pairs(config, prompts, t) / gpus, lengths)
        found.append(StageCost("training", t, seconds, training_bytes(policy, config, gpus), 4.0 * policy.parameters))
        asked, answering = validation_of(config)
        if asked:
            seconds = generation_seconds(policy, answering, machine, asked / gpus, lengths, engine, batch)
            if reward:
                seconds += rewarding_seconds(reward, machine, asked * answering.generation.n / gpus, lengths)
            memory = generation_bytes(policy, answering, machine, engine)
            disk = asked * answering.generation.n * lengths.response * 8
            found.append(StageCost("validation", t, seconds, memory, disk))
    return found


def validation_of(config: RunConfig) -> tuple[int, RunConfig]:
    """Validation prompts of an iteration (0 without, or where only the data would tell), and how they are answered."""
    asked = config.validation
    if not (asked and asked.limit):
        return 0, config
    return asked.limit, config.model_copy(update={"generation": config.generation.model_copy(update={"n": asked.n})})


def prompts_of(config: RunConfig) -> int | None:
    """Prompts in each iteration, as configured; None where only the data would tell."""
    own = config.prompts
    if own.synthetic:
        return own.synthetic.per_iteration
    if own.source == "fixed":
        return own.limit
    return own.per_iteration or (own.limit and own.limit // (config.iterations + 1))


def training_pairs(config: RunConfig, prompts: int, iteration: int) -> int:
    """Pairs that an iteration trains on, if every group makes one, by the view of the history; without offline ones.

    Sources that bring other prompts in each iteration are taken to repeat none of them.
    """
    fresh = [fresh_prompts(config, prompts, t) for t in range(iteration + 1)]
    return {"latest": prompts, "fresh": fresh[-1], "all": sum(fresh)}[config.pairs.view]


def fresh_prompts(config: RunConfig, prompts: int, iteration: int) -> int:
    """How many prompts an iteration samples from: all in iteration 0, then what the strategy regenerates."""
    if iteration == 0:
        return prompts
    return 0 if config.selection.strategy == "none" else selection_count(config.selection.ratio, prompts)


def shares(stages: Sequence[StageCost]) -> dict[str, float]:
    """Each phase's share of the time: Table 1 of the paper, for a run at ratio 1."""
    total = sum(stage.seconds for stage in stages)
    return {phase: sum(s.seconds for s in stages if s.stage == phase) / total for phase in PHASES}


@dataclass(frozen=True)
class JudgeCost:
    """Calls to judge every iteration's policy against the baseline, in both orders, and what they cost."""

    calls: int
    tokens_in: float
    tokens_out: float
    price: float | None


def judge_cost(config: RunConfig, lengths: Lengths, prices: Mapping[str, Mapping[str, float]]) -> JudgeCost | None:
    """None without an evaluation, or where its prompt set's size is not known. `prices` are per million tokens."""
    evaluation = config.evaluation
    if not evaluation or evaluation.prompts not in EVALUATION_PROMPTS:
        return None
    calls = 2 * EVALUATION_PROMPTS[evaluation.prompts] * (config.iterations + 1)
    answer = lengths.response / config.generation.max_new_tokens * evaluation.max_new_tokens
    tokens_in = calls * (RATING_PROMPT_TOKENS + lengths.prompt + 2 * answer)
    tokens_out = calls * min(RATING_REPLY_TOKENS, evaluation.judge.max_tokens)
    price = prices.get(evaluation.judge.model)
    cost = (tokens_in * price["price_in"] + tokens_out * price["price_out"]) / 1e6 if price else None
    return JudgeCost(calls, tokens_in, tokens_out, cost)
