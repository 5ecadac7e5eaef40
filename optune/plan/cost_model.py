"""What a run will cost, before it is run: time, memory, disk and judge calls of every stage, from first principles.

Every stage is that of the configuration: on the GPUs that it uses, with the passes that its training makes.

Work is counted (floating-point operations of matrix products, bytes that a decoding step reads) and divided by what a
machine reaches. For GPUs these rates are assumptions, each stated in MACHINES; a machine whose ledgers are at hand is
modelled in `measured_cost.py`. Expected lengths are assumptions, too, unless given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from optune.config import RunConfig
from optune.plan.hardware import Machine, Shape, shape_of
from optune.prompts.sources import SOURCES, variation
from optune.selection.strategies import selection_count
from optune.utils.registry import resolve

PHASES = ("generation", "rewarding", "training")
# Mean lengths where none are given, as shares of the limits.
PROMPT_SHARE, RESPONSE_SHARE = 0.35, 0.6
# Prompts of the evaluation sets that presets name.
EVALUATION_PROMPTS = {"lima": 300, "alpaca_eval": 805, "sandbox:lima": 300, "sandbox:alpaca": 805, "sandbox:test": 2048}
RATING_PROMPT_TOKENS, RATING_REPLY_TOKENS = 250, 250  # around the two answers; the reply with its explanation
BYTES = {"float32": 4, "bfloat16": 2, "auto": 2}


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
    """A stage of a plan: on how many GPUs, wall-clock seconds, bytes of memory per GPU, bytes left on disk."""

    stage: str
    iteration: int
    gpus: int
    seconds: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Spread:
    """How many GPUs each phase is spread over, evenly."""

    generation: int = 1
    rewarding: int = 1
    training: int = 1

    @property
    def gpus(self) -> int:
        """That the run needs."""
        return max(self.generation, self.rewarding, self.training)

    @classmethod
    def even(cls, gpus: int) -> Spread:
        """Every phase over all of them."""
        return cls(gpus, gpus, gpus)


def spread_of(config: RunConfig) -> Spread:
    """The GPUs that a run uses as it is configured; an endpoint's own are not known, and count as one."""
    generation = config.generation
    each = tensor_parallel(config)
    if generation.engine == "vllm":
        sampling = each * (generation.vllm.data_parallel_size if generation.vllm else 1)
    elif generation.engine == "ray":
        sampling = each * (generation.ray.workers if generation.ray else 1)
    else:
        sampling = generation.workers or 1
    training = config.launch.processes if config.launch else 1
    return Spread(generation=sampling, rewarding=config.reward.workers or 1, training=training)


def tensor_parallel(config: RunConfig) -> int:
    """GPUs of one sampling worker."""
    generation = config.generation
    engine = generation.ray.engine if generation.engine == "ray" and generation.ray else generation.engine
    return generation.vllm.tensor_parallel_size if engine in ("vllm", "ray") and generation.vllm else 1


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


def training_seconds(
    shape: Shape, config: RunConfig, machine: Machine, pairs: float, lengths: Lengths, scored: float | None = None
) -> float:
    """Line 22: reference log-probabilities of `scored` pairs (default: all), then forward and backward.

    Backward takes twice the forward pass, once for weights and once for inputs, and once more with checkpointing; the
    weights that a LoRA leaves alone need none of theirs. Padding is not counted.
    """
    settings = config.training
    forward = pair_flops(shape, config, lengths)
    backward = 1 + trainable_parameters(shape, config) / shape.parameters
    passes = settings.epochs * (1 + settings.gradient_checkpointing + backward)
    reference = (pairs if scored is None else scored) * forward / (machine.peak * machine.forward_efficiency)
    return machine.start_s + reference + passes * pairs * forward / (machine.peak * machine.train_efficiency)


def pair_flops(shape: Shape, config: RunConfig, lengths: Lengths) -> float:
    """A forward pass over one pair: two rows, or with `training.batching` one that has the prompt once.

    The one row's mask is no plain causal one, so its attention is computed over the whole row.
    """
    if config.training.batching is None:
        return shape.flops(2 * lengths.both, lengths.both / 2)
    row = lengths.both + lengths.response
    return shape.flops(row, row)


def trainable_parameters(shape: Shape, config: RunConfig) -> int:
    """All, or a LoRA's: r numbers for each input and each output of the matrices that it adapts.

    A pattern in the place of names is taken to adapt every matrix of the layers.
    """
    lora = config.training.lora
    if lora is None:
        return shape.parameters
    hidden, own, shared = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sides = {
        "q_proj": hidden + own,
        "k_proj": hidden + shared,
        "v_proj": hidden + shared,
        "o_proj": own + hidden,
        "gate_proj": hidden + shape.intermediate,
        "up_proj": hidden + shape.intermediate,
        "down_proj": shape.intermediate + hidden,
    }
    named = sides if isinstance(lora.target_modules, str) else lora.target_modules
    return shape.layers * lora.r * sum(sides.get(name, 0) for name in named)


# --- bytes ------------------------------------------------------------------------------------------------------------


# Bytes of optimizer state for each trained parameter; 8-bit states have one 4-byte scale for every 256 of them.
STATE_BYTES = {"rmsprop": 4.0, "adamw_torch": 8.0, "rmsprop_8bit": 1 + 4 / 256, "adamw_8bit": 2 * (1 + 4 / 256)}


def training_bytes(shape: Shape, config: RunConfig, gpus: int) -> float:
    """Per GPU: what training takes, or before it scoring the reference, whichever is more.

    Weights, gradients and optimizer state in fp32, sharded over `gpus` by FSDP and ZeRO-3. Activations: a layer's
    inputs with checkpointing (about 16 times that without), and at most the logits with their gradient in fp32. The
    reference is scored by whole models in each process: the policy, and the reference where it is another one.
    """
    settings = config.training
    width = 4  # of a number in fp32
    trained = (width + STATE_BYTES[settings.optimizer]) * trainable_parameters(shape, config)
    states = (width * shape.parameters + trained) / (gpus if shards_weights(config) else 1)
    tokens = micro_batch_positions(config)
    kept = 1 if settings.gradient_checkpointing else 16
    activations = tokens * shape.hidden * shape.layers * kept * BYTES[settings.dtype]
    models = 1 if settings.reference == "iteration_start" and settings.start is None else 2
    scoring = models * width * shape.parameters
    return max(states + activations + 2 * width * tokens * shape.vocabulary, scoring)


def shards_weights(config: RunConfig) -> bool:
    """Whether processes share the weights out; a configuration file of one's own is taken to do so."""
    return config.launch is not None and config.launch.mode == "accelerate" and config.launch.config != "ddp"


def micro_batch_positions(config: RunConfig) -> int:
    """Positions of the largest forward pass in training: a token budget, or the longest pairs."""
    settings, prompt, response = config.training, config.prompts.max_tokens, config.generation.max_new_tokens
    if settings.micro_batch_tokens:
        return settings.micro_batch_tokens
    if settings.batching:
        return settings.micro_batch_size * (prompt + 2 * response)
    return settings.micro_batch_size * 2 * (prompt + response)


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
    prompts: int,
    lengths: Lengths,
    spread: Spread | None = None,
    engine: str | None = None,
    batch: int | None = None,
) -> list[StageCost]:
    """The stages of one run, in order. `spread` and `engine`: other than configured; `batch`: rows on each GPU."""
    spread = spread or spread_of(config)
    engine, batch = engine or _sampler(config), batch or config.generation.batch_size
    policy = shape_of(config.policy.model)
    reward = shape_of(config.reward.model) if config.reward.model else None  # `gold` takes no time
    rows_bytes = 2 * config.generation.n * lengths.response * 8  # ids and text, in history and pairs
    offline = offline_pairs(config) or 0
    memory = {"generation": generation_bytes(policy, config, machine, engine)}
    memory["training"] = training_bytes(policy, config, spread.training)
    memory["rewarding"] = rewarding_bytes(reward, config) if reward else 0.0
    costs = []

    def add(t: int, stage: str, seconds: float, disk: float, phase: str | None = None) -> None:
        costs.append(StageCost(stage, t, getattr(spread, phase or stage), seconds, memory[phase or stage], disk))

    def sampled(config: RunConfig, asked: int) -> float:
        return generation_seconds(policy, config, machine, asked / spread.generation, lengths, engine, batch)

    def rewarded(responses: int) -> float:
        return rewarding_seconds(reward, machine, responses / spread.rewarding, lengths) if reward else 0.0

    for t in range(config.iterations + 1):
        fresh = fresh_prompts(config, prompts, t)
        add(t, "generation", sampled(config, fresh), fresh * rows_bytes)
        if reward:
            add(t, "rewarding", rewarded(fresh * config.generation.n), 0.0)
        pairs = training_pairs(config, prompts, t, offline)
        scored = pairs - fresh if config.training.fresh_reference else pairs
        share = (pairs / spread.training, lengths, scored / spread.training)
        add(t, "training", training_seconds(policy, config, machine, *share), 4.0 * policy.parameters)
        if asked := kl_prompts_of(config, prompts):
            seconds = sampled(answering_once(config), asked)
            seconds += rewarding_seconds(policy, machine, asked / spread.generation, lengths)  # the SFT policy reads
            add(t, "kl", seconds, 0.0, "generation")
        asked, answering = validation_of(config)
        if asked:
            responses = asked * answering.generation.n
            seconds = sampled(answering, asked) + rewarded(responses)
            add(t, "validation", seconds, responses * lengths.response * 8, "generation")
    return costs


def _sampler(config: RunConfig) -> str:
    """The engine that samples; Ray only spreads one."""
    own = config.generation
    return (own.ray.engine if own.ray else "vllm") if own.engine == "ray" else own.engine


def validation_of(config: RunConfig) -> tuple[int, RunConfig]:
    """Validation prompts of an iteration (0 without, or where only the data would tell), and how they are answered."""
    asked = config.validation
    if not (asked and asked.limit):
        return 0, config
    return asked.limit, config.model_copy(update={"generation": config.generation.model_copy(update={"n": asked.n})})


def kl_prompts_of(config: RunConfig, prompts: int) -> int:
    """Prompts that each new policy answers once for KL(pi || pi_SFT); 0 where that stage is turned off."""
    return min(config.kl_at_most, prompts)


def answering_once(config: RunConfig) -> RunConfig:
    """With one response to a prompt."""
    return config.model_copy(update={"generation": config.generation.model_copy(update={"n": 1})})


def prompts_of(config: RunConfig) -> int | None:
    """Prompts in each iteration, as configured; None where only the data would tell."""
    own = config.prompts
    if own.synthetic:
        return own.synthetic.per_iteration
    if variation(resolve(SOURCES, own.source, "prompt source")) == "never":
        return own.limit
    return own.per_iteration or (own.limit and own.limit // (config.iterations + 1))


def training_pairs(config: RunConfig, prompts: int, iteration: int, offline: int = 0) -> int:
    """Pairs that an iteration trains on, if every group makes one, by the view of the history.

    Sources that bring other prompts in each iteration are taken to repeat none of them. `offline` pairs train in
    iteration 0, and later too unless only fresh ones do.
    """
    fresh = [fresh_prompts(config, prompts, t) for t in range(iteration + 1)]
    view = config.pairs.view
    reused = prompts - fresh[-1]
    reused = reused if config.pairs.keep is None else math.ceil(config.pairs.keep * reused)
    online = {"latest": fresh[-1] + reused, "fresh": fresh[-1], "all": sum(fresh)}[view]
    return online + (offline if iteration == 0 or view != "fresh" else 0)


def offline_pairs(config: RunConfig) -> int | None:
    """Pairs in the file of `pairs.offline`; 0 without one, None where it is not here."""
    if config.pairs.offline is None:
        return 0
    path = Path(config.pairs.offline)
    if not path.is_file():
        return None
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    with open(path, encoding="utf-8") as lines:
        return sum(1 for line in lines if line.strip())


def fresh_prompts(config: RunConfig, prompts: int, iteration: int) -> int:
    """How many prompts an iteration samples from: all in iteration 0, then what the strategy regenerates."""
    if iteration == 0:
        return prompts
    return 0 if config.selection.strategy == "none" else selection_count(config.selection.ratio, prompts)


def shares(stages: Sequence[StageCost]) -> dict[str, float]:
    """Each phase's share of the three phases' time: Table 1 of the paper, for a run at ratio 1."""
    total = sum(stage.seconds for stage in stages if stage.stage in PHASES)
    of_phase = {}
    for phase in PHASES:
        of_phase[phase] = sum(stage.seconds for stage in stages if stage.stage == phase) / total
    return of_phase


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
