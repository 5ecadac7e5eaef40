"""What a run is: typed, strict configuration. An unknown, misspelt or impossible value is an error that names it.

A configuration is built from four parts; each overrides those before it: a preset (`optune/presets/*.yaml`), a recipe
(`optune/presets/recipes/*.yaml`), the user's YAML file, which may name a preset and a recipe to start from (`preset:
tiny`, `recipe: vanilla`), and dotted overrides (`selection.ratio=0.4`). Scale and method are data: no code asks which
preset or recipe it runs.
"""

from __future__ import annotations

import difflib
import re
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from optune.types import UserError
from optune.utils.files import parse_yaml, read_yaml

C = TypeVar("C", bound=BaseModel)
PRESETS = Path(__file__).parent / "presets"
RECIPES = PRESETS / "recipes"
Dtype = Literal["float32", "bfloat16", "auto"]
# Options that do not change a run's results. They may be changed when a run is continued.
OPERATIONAL: dict[str, Any] = {
    "report_to": True,
    "keep": True,
    "evaluation": True,  # what a finished policy is measured with
    "prompts": {
        "synthetic": {
            "writer": {"base_url", "api_key_env", "concurrency", "price_in", "price_out", "max_cost"},
        }
    },
    "generation": {
        "server": {
            "base_url",
            "model",
            "command",
            "start_timeout",
            "concurrency",
            "timeout",
            "max_attempts",
            "api_key_env",
            "replies",
        },
        "vllm": {"python", "gpu_memory_utilization"},
        "ray": {"address"},
    },
    "reward": {"workers"},
}
# For options that were added after the first results: a dump leaves them out while they have their default, so that the
# stage keys, run directories and results from before stay valid.
LATER = {"exclude_if": lambda value: value is None}
KL_PROMPTS = 256  # where `kl_prompts` is left alone
# Defaults for users' configurations: safer and faster than the fields' own. They are not field defaults, because the
# recorded results, and the presets that made them, were made without them.
RECOMMENDED = {
    "generation": {"sampler": "inverse_cdf"},
    "pairs": {"without_words": "left_out"},
    "training": {"batching": "length_grouped"},
}


# Marks options that name a folder, a file, or a model or data set on the hub. They also take `scheme:name`, such as
# `sandbox:policy`, which is replaced by a folder or file before the loop starts.
RESOURCE = "resource"
_SCHEME = re.compile(r"[a-z_]+:(?!//)")


def holds_credentials(address: str | None) -> bool:
    """Whether an endpoint's address may hold a key or password: these come from the environment alone."""
    return "@" in (address or "")


def _address(value: str) -> str:
    if holds_credentials(value):
        raise ValueError("an address must not hold a key or password; put it into the environment (api_key_env)")
    return value


Address = Annotated[str, AfterValidator(_address)]


class Section(BaseModel):
    """Base of every section: immutable, and closed to names it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )


class PolicyConfig(Section):
    """The policy to start from (pi_SFT): a `transformers` folder or hub name."""

    model: Annotated[str, RESOURCE]
    trust_remote_code: bool = False


class RewardConfig(Section):
    """What ranks responses: r(x, y) of Eq. 1."""

    kind: str = "sequence_classifier"
    model: Annotated[str | None, RESOURCE] = None
    batch_size: int = Field(64, ge=1, description="rows in one forward pass")
    max_length: int = Field(1024, ge=1, description="tokens of prompt and response together")
    dtype: Dtype = "float32"
    trust_remote_code: bool = False
    noise: float = Field(
        0.0, ge=0, description="`gold`, `imperfect_checker` only: standard deviation added to each score"
    )
    length_penalty: float | None = Field(None, ge=0, description="taken off for each character of a response", **LATER)
    workers: int | None = Field(
        None, ge=1, description="`sequence_classifier` only: processes, each with a GPU of its own", **LATER
    )

    options: dict[str, Any] | None = Field(None, description="of a Python reward: its keyword arguments", **LATER)
    weights: dict[str, float] | None = Field(
        None, description="`weighted` only: Python functions, file.py:name or package.module:name, and weights", **LATER
    )
    template: str | None = Field(
        None,
        description="`preference` only: steamshp, rlhf_workflow, or a text with {prompt}, {a} and {b}",
        **LATER,
    )

    @model_validator(mode="after")
    def _check(self) -> RewardConfig:
        if self.template is not None and self.kind != "preference":
            raise ValueError(f"a template is of kind preference, not {self.kind}")
        if self.workers and self.kind != "sequence_classifier":
            raise ValueError(f"workers are of kind sequence_classifier, not {self.kind}")
        if self.kind in ("sequence_classifier", "preference") and not self.model:
            raise ValueError(f"kind {self.kind!r} needs a model: a folder or hub name in reward.model")
        if (self.kind == "weighted") != bool(self.weights):
            raise ValueError("kind 'weighted' and weights need each other")
        if self.kind == "imperfect_checker" and not self.noise:
            raise ValueError("kind 'imperfect_checker' needs noise above 0; without noise it is kind 'checker'")
        return self


class WriterConfig(Section):
    """Who writes prompts: `sandbox`, `openai` (any OpenAI-compatible endpoint), or `package.module:function`."""

    name: str = "openai"
    model: str | None = Field(None, description="its name at the endpoint")
    base_url: Address | None = None
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = Field(1.0, ge=0)
    max_tokens: int = Field(4096, ge=1, description="of one reply")
    concurrency: int = Field(16, ge=1, description="calls under way at once")
    price_in: float | None = Field(None, ge=0, description="per million prompt tokens")
    price_out: float | None = Field(None, ge=0, description="per million completion tokens")
    max_cost: float | None = Field(None, ge=0, description="refuse to spend more than this in one iteration")


class SyntheticConfig(Section):
    """Prompts that a writer makes in each iteration, shown questions of a reference set (`prompts.path`)."""

    per_iteration: int = Field(ge=1, description="prompts that an iteration trains on")
    questions_per_category: int = Field(15, ge=1, description="reference questions of each category in a draw")
    draws: int = Field(40, ge=1, description="samples of the reference set, each a call of the writer")
    prompts_per_draw: int = Field(50, ge=1, description="prompts that a call asks for")
    style: str = Field("", description="a sentence to the writer on how prompts should sound")
    max_characters: int = Field(2000, ge=1, description="longer prompts are rejected and counted")
    held_out: list[str] = Field(
        [], description="evaluation prompt sets (name#split on the hub); a written prompt equal to one is rejected"
    )
    embedding: str = Field("tfidf", description="tfidf, or a folder or hub name of a `transformers` encoder")
    components: int = Field(50, ge=1, description="of the principal component analysis before clustering")
    clusters: int = Field(11, ge=1, description="of k-means; near-duplicates are looked for inside a cluster")
    similarity: float = Field(0.9, gt=0, le=1, description="cosine from which two prompts are near-duplicates")
    writer: WriterConfig = WriterConfig()


class PromptsConfig(Section):
    """Where prompts come from: the set P of Algorithm 1."""

    source: str = "fixed"
    path: Annotated[str, RESOURCE] = Field(description="JSONL or Parquet file, or a hub data set's name")
    split: str = Field("train", description="hub data sets only")
    columns: dict[Literal["prompt", "prompt_id", "category"], str] | None = Field(
        None, description="what these columns are called in the file or data set", **LATER
    )
    limit: int | None = Field(None, ge=1, description="a fixed random sample of this size")
    sample_seed: int = Field(0, description="of that sample; the same for every run seed")
    max_tokens: int = Field(512, ge=1, description="longer prompts are left out and counted, never cut")
    synthetic: SyntheticConfig | None = Field(None, **LATER)
    per_iteration: int | None = Field(
        None, ge=1, description="`disjoint` only: prompts in each iteration; default: an equal share of them", **LATER
    )

    @model_validator(mode="after")
    def _check(self) -> PromptsConfig:
        if self.per_iteration and self.source == "fixed":
            raise ValueError("per_iteration is of source 'disjoint'; source 'fixed' has the same prompts throughout")
        return self


class ServerConfig(Section):
    """`engine: server`: an OpenAI-compatible completions endpoint (vLLM, SGLang, llama.cpp)."""

    base_url: Address = "http://127.0.0.1:8000/v1"
    model: str | None = Field(None, description="its name there; default: the policy's path, which it must serve")
    command: str | None = Field(None, description="starts an endpoint for each policy: 'vllm serve {model}'")
    start_timeout: float = Field(900.0, gt=0, description="seconds until that endpoint must answer")
    concurrency: int = Field(64, ge=1, description="requests under way at once")
    timeout: float = Field(600.0, ge=1, description="seconds for one response")
    max_attempts: int = Field(8, ge=1)
    api_key_env: str = "OPENAI_API_KEY"
    replies: str | None = Field(
        None, description="folder that keeps each response as it comes; default: beside the run's stages", **LATER
    )
    parameters: dict[str, Any] = Field({}, description="more fields of a request; null leaves one of ours out")


class VllmConfig(Section):
    """`engine: vllm`: workers of their own, in an interpreter of their own."""

    python: str = Field(".venv-vllm/bin/python", description="the interpreter that has vLLM")
    data_parallel_size: int = Field(1, ge=1, description="workers, each with a copy of the policy")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs of one worker")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    options: dict[str, Any] = Field({}, description="more arguments of vllm.LLM, such as enforce_eager")


class RayConfig(Section):
    """`engine: ray`: prompts sharded over a Ray cluster whose nodes see policy and package at the same paths."""

    address: str | None = Field("auto", description="of the cluster; null starts one on this machine")
    engine: Literal["hf", "vllm"] = Field("vllm", description="what samples in each worker")
    workers: int = Field(1, ge=1, description="each with GPUs of its own: vllm.tensor_parallel_size of them, hf one")


class GenerationConfig(Section):
    """Algorithm 1, line 8."""

    engine: str = "hf"
    n: int = Field(2, ge=1, description="responses per prompt; the loop needs at least two to make a pair")
    temperature: float = Field(1.0, ge=0, description="0 is greedy decoding")
    temperatures: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, min_length=1, description="in its place: response k of a prompt is drawn at number k, in turn", **LATER
    )
    top_p: float = Field(0.9, gt=0, le=1)
    max_new_tokens: int = Field(512, ge=1)
    batch_size: int = Field(64, ge=1, description="rows in one forward pass")
    dtype: Dtype = "float32"
    server: ServerConfig | None = Field(None, **LATER)
    vllm: VllmConfig | None = Field(None, **LATER)
    ray: RayConfig | None = Field(None, **LATER)
    workers: int | None = Field(None, ge=1, description="`engine: hf`: processes, each with a GPU of its own", **LATER)
    sampler: Literal["inverse_cdf"] | None = Field(
        None, description="`engine: hf`: one random number a token; other tokens than without, by the same law", **LATER
    )

    @model_validator(mode="after")
    def _check_workers(self) -> GenerationConfig:
        if self.workers and self.engine != "hf":
            raise ValueError(
                f"workers are of engine hf, not {self.engine}; vllm has vllm.data_parallel_size, ray ray.workers"
            )
        return self


class SamplingSettings(GenerationConfig):
    """All that an engine needs: how to decode, and how long a prompt may be."""

    max_prompt_tokens: int = Field(512, ge=1)
    trust_remote_code: bool = False


class SelectionConfig(Section):
    """Algorithm 1, lines 4-7: which prompts are regenerated."""

    strategy: str = "lowest_reward"
    ratio: float = Field(0.5, description="rho, in (0, 1]")
    offset_samples: int = Field(
        0, ge=0, description="responses per prompt of the start policy, whose mean reward `lowest_centered` subtracts"
    )

    @model_validator(mode="after")
    def _check(self) -> SelectionConfig:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must lie in (0, 1], not {self.ratio}")
        if self.strategy == "all" and self.ratio != 1:
            raise ValueError("strategy 'all' regenerates every prompt; set ratio to 1")
        return self


class PairsConfig(Section):
    """Algorithm 1, lines 12-18 and 20: which responses train, and how they pair."""

    view: Literal["latest", "fresh", "all"] = "latest"
    pairing: str = "best_vs_worst"
    without_words: Literal["left_out"] | None = Field(
        None, description="left_out: a response that is empty, white space or special tokens makes no pair", **LATER
    )
    offline: Annotated[str | None, RESOURCE] = Field(
        None, description="more pairs, JSONL or Parquet: `prompt`, `chosen`, `rejected`", **LATER
    )
    keep: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the reused pairs, of largest reward gap (largest wDPO weight), that train beside the "
        "fresh ones; default: all. Pairs of `offline` all train",
        **LATER,
    )

    @model_validator(mode="after")
    def _check(self) -> PairsConfig:
        if self.keep is not None and self.view != "latest":
            raise ValueError(f"keep is of view 'latest', which reuses pairs; view {self.view!r} has its own rule")
        return self


class LossConfig(Section):
    """Eq. 5 (`dpo`) and Eq. 6 (`wdpo`)."""

    name: str = "wdpo"
    beta_1: float = Field(0.1, gt=0)
    beta_2: float | Literal["auto"] = Field("auto", description="auto: 1 / the median reward gap of iteration 0")
    beta_2_factor: float | None = Field(None, ge=0, description="with beta_2 auto: this many times auto", **LATER)

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if isinstance(self.beta_2, float) and self.beta_2 < 0:
            raise ValueError("beta_2 must be at least 0 (loss 'dpo' is its limit at infinity)")
        if self.beta_2_factor is not None and self.beta_2 != "auto":
            raise ValueError("beta_2_factor multiplies beta_2 auto; with a number for beta_2, leave it out")
        return self

    def automatic_beta_2(self, median_gap: float) -> float:
        """What `auto` stands for, given the median reward gap of the pairs."""
        return (1.0 if self.beta_2_factor is None else self.beta_2_factor) / median_gap


class LoraConfig(Section):
    """Low-rank adapters are trained instead of all weights. A policy is saved merged, with its adapter beside it."""

    r: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class TrainingConfig(Section):
    """Algorithm 1, line 22."""

    learner: str | None = Field(None, description="dpo (default), rloo, or package.module:function", **LATER)
    learning_rate: float = Field(5e-7, gt=0)
    optimizer: Literal["rmsprop", "adamw_torch", "rmsprop_8bit", "adamw_8bit"] = "rmsprop"
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    batch_size: int = Field(128, ge=1, description="pairs per update")
    micro_batch_size: int = Field(8, ge=1, description="pairs per forward pass")
    epochs: int = Field(1, ge=1)
    max_grad_norm: float = Field(1.0, ge=0)
    reference: Literal["iteration_start", "sft"] = "iteration_start"
    start: Literal["sft"] | None = Field(
        None, description="sft: each iteration trains from the SFT policy, not from the last one", **LATER
    )
    dtype: Dtype = "float32"
    gradient_checkpointing: bool = False
    lora: LoraConfig | None = Field(None, **LATER)
    batching: Literal["length_grouped", "token_budget"] | None = Field(
        None,
        description="cut each update by length: at micro_batch_size pairs, or at micro_batch_tokens positions",
        **LATER,
    )
    micro_batch_tokens: int | None = Field(
        None, ge=1, description="positions in a forward pass, padding included", **LATER
    )

    fresh_reference: Literal["sampler"] | None = Field(
        None,
        description="sampler: fresh responses keep their sampler's log-probabilities; default: recomputed",
        **LATER,
    )

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.fresh_reference and self.reference != "iteration_start":
            raise ValueError("fresh_reference 'sampler' needs reference 'iteration_start', the policy that sampled")
        if self.batching is None and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size {self.micro_batch_size}"
            )
        if (self.batching == "token_budget") != (self.micro_batch_tokens is not None):
            raise ValueError("batching 'token_budget' and micro_batch_tokens need each other")
        return self

    @property
    def limits(self) -> dict[str, int | None]:
        """What a micro-batch may hold, as `micro_batches` takes it."""
        if self.batching == "token_budget":
            return {"max_pairs": self.batch_size, "max_tokens": self.micro_batch_tokens}
        return {"max_pairs": self.micro_batch_size, "max_tokens": None}


class ValidationConfig(Section):
    """Prompts that each iteration's policy answers. The best policy has the highest mean outcome, or else reward."""

    path: Annotated[str, RESOURCE] = Field(description="as prompts.path; none of the prompts that train")
    split: str = Field("train", description="hub data sets only")
    limit: int | None = Field(None, ge=1, description="a fixed random sample of this size")
    n: int = Field(1, ge=1, description="answers per prompt")
    temperature: float = Field(0.0, ge=0, description="0 is greedy decoding")
    outcome: str | None = Field(
        None,
        description="what nobody trains on, measured on the answers: a Python function, as a reward is",
        **LATER,
    )
    patience: int | None = Field(
        None, ge=1, description="iterations without a better outcome (else reward) after which the run ends", **LATER
    )


class LaunchConfig(Section):
    """Where training runs: in a process of its own, or in several under `accelerate launch`."""

    mode: Literal["process", "accelerate"]
    processes: int = Field(1, ge=1, description="in all; batch_size stays the pairs of an update over all of them")
    config: str = Field("ddp", description="ddp, fsdp, zero3, or a file that `accelerate config` wrote")
    command: str | None = Field(None, description="starts the processes in the place of ours: 'srun accelerate launch'")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> LaunchConfig:
        if self.mode == "process" and (self.processes > 1 or self.command):
            raise ValueError("mode 'process' is one process; several, or a command, need mode 'accelerate'")
        if self.mode == "accelerate" and self.processes == 1:
            raise ValueError("mode 'accelerate' needs processes, at least 2; one alone is mode 'process'")
        return self


class JudgeConfig(Section):
    """Who compares two answers; the key comes from the environment alone."""

    name: str = "sandbox"
    form: Literal["rating", "choice"] | None = Field(
        None, description="rating (default): two scores; choice: A, B or C for a tie", **LATER
    )
    model: str = "sandbox-judge"
    base_url: Address | None = None
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(1024, ge=1)


class EvaluationConfig(Section):
    """How final policies are measured. The loop never reads it."""

    baseline: str
    prompts: str = "lima"
    max_new_tokens: int = Field(512, ge=1)
    batch_size: int = Field(64, ge=1)
    dtype: Dtype = "float32"
    judge: JudgeConfig = JudgeConfig()


class SandboxConfig(Section):
    """Which build of the embedded world `sandbox:` names refer to. They are replaced before the loop starts."""

    size: str = "tiny"
    build: int = Field(0, ge=0, description="seed of SFT policy, reward model and baseline")


class InstructionsConfig(Section):
    """Which build of the world `instructions` its names refer to, as SandboxConfig."""

    build: int = Field(0, ge=0, description="seed of reward model, offline pairs and baseline")


class RunConfig(Section):
    """One run of Algorithm 1: one arm, one seed."""

    preset: str | None = None
    recipe: str | None = Field(None, description="the method's own settings, between preset and file", **LATER)
    seed: int = Field(0, ge=0)
    iterations: int = Field(3, ge=0, description="after iteration 0, which regenerates every prompt")
    threads: int | None = Field(None, ge=1, description="CPU threads; part of the result in its last bits")
    policy: PolicyConfig
    reward: RewardConfig
    prompts: PromptsConfig
    generation: GenerationConfig = GenerationConfig()
    selection: SelectionConfig = SelectionConfig()
    pairs: PairsConfig = PairsConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    validation: ValidationConfig | None = Field(None, **LATER)
    evaluation: EvaluationConfig | None = None
    sandbox: SandboxConfig | None = None
    instructions: InstructionsConfig | None = Field(None, **LATER)
    report_to: str | list[str] | None = Field(None, description="tensorboard, wandb, trackio, ...", **LATER)
    launch: LaunchConfig | None = Field(
        None, description="where training runs: process, accelerate; default: in this process", **LATER
    )
    kl_prompts: int | None = Field(
        None, ge=0, description="responses that measure each policy's KL to the start; default 256, 0: none", **LATER
    )
    keep: Literal["last"] | None = Field(
        None, description="last: free an iteration's policy after the next; all, the default: none", **LATER
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _keep_all(cls, value: Any) -> Any:
        return None if value == "all" else value

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.launch and self.training.learner not in (None, "dpo"):
            raise ValueError(f"launch starts the learner 'dpo'; {self.training.learner!r} learns in the run's process")
        if self.generation.n < 2:
            raise ValueError("generation.n must be at least 2: a pair needs two responses")
        if self.keep == "last" and self.validation:
            raise ValueError("keep 'last' would free the policies that validation chooses from; leave out one of them")
        server = self.generation.server or ServerConfig()
        if self.generation.engine == "server" and self.iterations and server.model and not server.command:
            raise ValueError(
                "generation.server.model names one model, but every iteration samples from another policy: "
                "give generation.server.command, which starts an endpoint for each"
            )
        return self

    @property
    def kl_at_most(self) -> int:
        """How many prompts the KL to the start is measured on, if there are as many."""
        return KL_PROMPTS if self.kl_prompts is None else self.kl_prompts

    def sampling(self) -> SamplingSettings:
        """The generation section with the limits and permissions that stand in other sections."""
        return SamplingSettings(
            **self.generation.model_dump(),
            max_prompt_tokens=self.prompts.max_tokens,
            trust_remote_code=self.policy.trust_remote_code,
        )

    def validating(self) -> SamplingSettings:
        """Sampling of validation answers: `validation.n` and its temperature, from the whole distribution (top_p 1)."""
        own = {"n": self.validation.n, "temperature": self.validation.temperature, "temperatures": None, "top_p": 1.0}
        return self.sampling().model_copy(update=own)

    def with_overrides(self, dotted: dict[str, Any]) -> RunConfig:
        """A copy with changes such as `{"selection.ratio": 0.4}`, validated again."""
        data = self.model_dump()
        for name, value in dotted.items():
            _set(data, name, value)
        return parse_config(data, "overrides")


def load_config(
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    recipe: str | None = None,
) -> RunConfig:
    """Preset, recipe, file, then `name=value` overrides; later ones win.

    A preset or recipe given here replaces the one that the file names. Raises UserError naming the field, and the
    nearest known name where the field is unknown.
    """
    own = _without_empty_sections(_read_yaml(Path(file))) if file is not None else {}
    return _load(own, preset, overrides, recipe, str(file or preset or "configuration"))


def complete_config(own: RunConfig | dict[str, Any] | str | Path | None, given: dict[str, Any]) -> RunConfig:
    """A configuration, a YAML file or nested options, with the sections of `given` over it. Raises UserError."""
    if isinstance(own, RunConfig):
        return parse_config(_merge(own.model_dump(), given), "run_optune")
    data = _without_empty_sections(_read_yaml(Path(own))) if isinstance(own, str | Path) else own or {}
    return _load(_merge(data, given), None, (), None, str(own) if isinstance(own, str | Path) else "run_optune")


def _load(
    own: dict[str, Any], preset: str | None, overrides: list[str] | tuple[str, ...], recipe: str | None, where: str
) -> RunConfig:
    preset, recipe = preset or own.get("preset"), recipe or own.get("recipe")
    data = _merge(RECOMMENDED, _read_yaml(preset_path(preset)) if preset is not None else {})
    if recipe is not None:
        data = _merge(data, recipe_settings(recipe, preset))
    named = {name: value for name, value in (("preset", preset), ("recipe", recipe)) if value is not None}
    data = _merge(data, own) | named
    for override in overrides:
        if override.partition("=")[0].strip() == "recipe":
            raise UserError(f"Override {override!r}: a recipe comes before overrides; give it as --recipe.")
        set_option(data, override)
    return parse_config(data, where)


def _without_empty_sections(own: dict[str, Any]) -> dict[str, Any]:
    """A section of which every line is commented out is null in YAML, and as good as absent."""
    kinds = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    sections = {name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}
    return {name: value for name, value in own.items() if value is not None or name not in sections}


def recipe_settings(name: str, preset: str | None = None, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a recipe: those of its `base`, then its `method`, then what `scales` says for this preset.

    Later settings override earlier ones. `base` names another recipe to start from. `name` is a file in
    `optune/presets/recipes` without its ending, or the path of another `.yaml` file. `above`: the recipes that were
    followed to this one through `base`. Raises UserError for an unknown recipe and for a circle of `base`.
    """
    path = Path(name) if str(name).endswith(".yaml") else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise UserError(f"Unknown recipe {name!r}; known: {known}; or the path of a .yaml file.")
    chain = (*above, path)
    if path.resolve() in [one.resolve() for one in above]:
        raise UserError(f"{' -> '.join(map(str, chain))}: a circle of `base`; one of these recipes must do without.")
    recipe = _read_yaml(path)
    method, scales = recipe.pop("method", None) or {}, recipe.pop("scales", None) or {}
    base = recipe.pop("base", None)
    if recipe or not isinstance(method, dict) or not isinstance(scales, dict):
        raise UserError(f"{path}: a recipe has `method` and `scales`, mappings both; see optune/presets/recipes.")
    for scale in scales:
        preset_path(scale)
    settings = _merge(method, scales.get(preset) or {})
    return _merge(recipe_settings(base, preset, chain), settings) if base else settings


def set_option(data: dict[str, Any], override: str) -> None:
    """Set one `section.name=value` in nested options, its value read as YAML. Raises UserError."""
    name, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"Override {override!r}: write it as name=value, for example selection.ratio=0.4.")
    try:
        _set(data, name.strip(), parse_yaml(text))
    except ValueError:
        raise UserError(f"Override {override!r}: {text!r} is not a value that YAML can read.") from None


def preset_path(name: str) -> Path:
    """The file of a preset; raises UserError listing the known ones."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise UserError(f"Unknown preset {name!r}; known: {known}.")
    return path


def load_section(
    kind: type[C], file: str | Path | None, given: dict[str, Any], overrides: list[str] | tuple[str, ...] = ()
) -> C:
    """A configuration of another kind than a run's: file, values given by dotted name, then `name=value` overrides."""
    data = _read_yaml(Path(file)) if file is not None else {}
    for name, value in given.items():
        _set(data, name, value)
    for override in overrides:
        set_option(data, override)
    return parse_config(data, str(file or "configuration"), kind)


def parse_config(data: dict[str, Any], where: str, kind: type[C] = RunConfig) -> C:
    """Validate. Raises one UserError that lists every problem as `section.field: what is wrong`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_explain(e, kind) for e in error.errors())) from None


def resources(section: BaseModel, prefix: str = "") -> dict[str, str]:
    """Field -> value, of the options below `section` that name a folder, a file, or what is on the hub."""
    named = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            named |= resources(value, f"{prefix}{name}.")
        elif RESOURCE in field.metadata and value:
            named[f"{prefix}{name}"] = value
    return named


def unresolved(section: BaseModel) -> list[str]:
    """The options below `section` that still hold a `scheme:name`, as `policy.model=sandbox:policy`."""
    named = resources(section).items()
    return [f"{name}={value}" for name, value in named if _SCHEME.match(value) and not Path(value).exists()]


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Which fields two configurations differ in, as `field: old -> new`."""
    unlike = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            unlike += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            unlike.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return unlike


def _explain(error: dict[str, Any], kind: type[BaseModel]) -> str:
    place = [str(p) for p in error["loc"] if not str(p).startswith(("literal[", "float", "function-"))]
    name = ".".join(place) or "configuration"
    if error["type"] == "extra_forbidden":
        near = _nearest(place[-1], _fields_at(place[:-1], kind))
        hint = f"; did you mean {'.'.join([*place[:-1], near[0]])}?" if near else ""
        return f"{name} is not an option{hint}"
    message = error["msg"].removeprefix("Value error, ")
    silent = error["type"] in ("missing", "value_error") or holds_credentials(repr(error["input"]))
    given = "" if silent else f" (given: {error['input']!r})"
    return f"{name}: {message}{given}"


# What TRL and transformers call these options.
ELSEWHERE = {
    "beta": "beta_1",
    "lr_scheduler_type": "schedule",
    "max_tokens": "max_new_tokens",
    "num_train_epochs": "epochs",
    "optim": "optimizer",
    "per_device_train_batch_size": "micro_batch_size",
}


def _nearest(name: str, known: list[str]) -> list[str]:
    """The field that a name most likely means: by its initials (`lr`), by its name elsewhere, or by its letters."""
    initials = [field for field in known if "".join(word[0] for word in field.split("_")) == name]
    elsewhere = [field for field in (ELSEWHERE.get(name),) if field in known]
    return initials[:1] or elsewhere or difflib.get_close_matches(name, known, n=1)


def _fields_at(place: list[str], kind: type[BaseModel]) -> list[str]:
    model: Any = kind
    for part in place:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)
        if model is None:
            return []
    return list(model.model_fields)


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, name = dotted.split(".")
    for section in sections:
        inner = data.get(section)
        if not isinstance(inner, dict):
            inner = data[section] = {}
        data = inner
    data[name] = value


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section. Nothing is shared with either: options are set in the result."""
    merged = deepcopy(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if both else deepcopy(value)
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path}: there is no such configuration file.")
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: a configuration is a mapping of names to values; see optune/presets/tiny.yaml.")
    return data
