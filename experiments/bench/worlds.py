"""The worlds of the benchmark: a policy, a reward model and prompts, as a configuration of the loop.

`tiny` (and `nano`, for a quick try) is the sandbox's own world. `10m` and `100m` are random Llamas of about that size,
for larger machines: prompts of random words and many end tokens, so that lengths are mixed as they are in real use.
`smollm2` is the real model of the preset of that name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.compute.setting import RUNS, Setting
from optune.config import RunConfig, load_config
from optune.prompts.files import load_prompts, write_prompts
from optune.types import Prompt, UserError
from optune.utils.files import exclusive
from optune.utils.hashing import stable_hash
from optune.utils.precision import in_fast_type

# The sandbox's presets that are measured, and what is changed in them: every loop here has a reward model.
SANDBOXES = {"tiny": (), "nano": ("reward.kind=sequence_classifier", "reward.model=sandbox:reward")}
# Presets of a real model: without an evaluation, whose baseline takes long to build, and with a batch of prompts.
REAL = {"smollm2": ("evaluation=null", "prompts.limit=32")}
PRESETS = SANDBOXES | REAL


@dataclass(frozen=True)
class Size:
    """A random Llama and what it is asked. Responses end with probability 1 / mean_response at every token."""

    hidden: int
    layers: int
    heads: int
    vocabulary: int
    prompts: int
    longest_prompt: int
    mean_response: int
    longest_response: int
    batch_size: int


SIZES = {
    "10m": Size(256, 10, 8, 8192, 128, 96, 32, 96, 256),
    "100m": Size(768, 12, 12, 32000, 1024, 256, 128, 512, 1024),
}
SPECIAL = ("<pad>", "</s>", "<unk>", "<user>", "<assistant>")
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<user> {{ message['content'] }} "
    "{% else %}<assistant> {{ message['content'] }} </s> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@dataclass(frozen=True)
class World:
    """A resolved configuration, and the prompts that it stands for."""

    name: str
    config: RunConfig
    prompts: list[Prompt]
    parameters: int

    @property
    def real(self) -> bool:
        """Whether it is a real language model, which has goals of its own."""
        return self.name in REAL

    @property
    def warm_up(self) -> int:
        """Turns that do not count, of what takes whole minutes with a real model: none there."""
        return 0 if self.real else 1

    @property
    def facts(self) -> dict[str, Any]:
        """For the result file."""
        generation = self.config.generation
        return {
            "parameters": self.parameters,
            "prompts": len(self.prompts),
            "responses_per_prompt": generation.n,
            "max_new_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "pairs_per_update": self.config.training.batch_size,
            "threads": self.config.threads,
        }


def world(name: str, threads: int) -> World:
    """Raises UserError for an unknown name."""
    if name in PRESETS:
        setting = Setting(name, (f"threads={threads}", *PRESETS[name]))
        config = setting.resolve(in_fast_type(setting.config))
    elif name in SIZES:
        config = _random_world(name, SIZES[name], threads)
    else:
        raise UserError(f"There is no model {name!r}; known: {', '.join((*PRESETS, *SIZES))}.")
    return World(name, config, _prompts(config), _parameters(config.policy.model))


# What a person's own configuration gets (`config.RECOMMENDED`) and the sandbox's presets leave out, by what is added
# to a row's name: for training alone, and for a whole iteration.
Options = dict[str, dict[str, Any]]
TRAINING_OPTIONS: Options = {", like lengths": {"training.batching": "length_grouped"}}
ITERATION_OPTIONS: Options = {
    ", like lengths, inverse_cdf": {"training.batching": "length_grouped", "generation.sampler": "inverse_cdf"}
}


def variants(world: World, options: Options = TRAINING_OPTIONS) -> dict[str, World]:
    """By what is added to a row's name: the world as its preset has it, and with those options that change it."""
    found = {"": world}
    for name, changes in options.items():
        config = world.config.with_overrides(changes)
        if config != world.config:
            found[name] = replace(world, config=config)
    return found


SMALLEST_HEAD = 32  # of those that vLLM's attention on a CPU has kernels for


def with_larger_heads(world: World) -> World:
    """The world itself, or one whose policy has the same weights in fewer, larger heads; and so answers nonsense.

    For engines without a kernel for smaller heads. One token of eight ends a response there, so that lengths are mixed.
    """
    import json
    import shutil

    source = Path(world.config.policy.model)
    shape = json.loads((source / "config.json").read_text("utf-8"))
    size = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
    if size >= SMALLEST_HEAD:
        return world
    fewer = SMALLEST_HEAD // size
    shape |= {"head_dim": SMALLEST_HEAD, "num_attention_heads": shape["num_attention_heads"] // fewer}
    shape["num_key_value_heads"] = shape["num_key_value_heads"] // fewer
    shape["eos_token_id"] = [shape["eos_token_id"], *range(len(SPECIAL), shape["vocab_size"], 8)]
    folder = RUNS / "bench" / f"{world.name}-heads-of-{SMALLEST_HEAD}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("generation_config.json", "stage.json"))
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    config = world.config.with_overrides({"policy.model": str(folder)})
    return World(f"{world.name}, heads of {SMALLEST_HEAD}", config, world.prompts, world.parameters)


def _prompts(config: RunConfig) -> list[Prompt]:
    from optune.prompts.sources import SOURCES
    from optune.utils.registry import resolve as part

    source = part(SOURCES, config.prompts.source, "prompt source")
    return source(config.prompts, iteration=0, policy=config.policy.model, history=None, seed=config.seed)


def _parameters(model: str) -> int:
    from safetensors import safe_open

    with safe_open(Path(model) / "model.safetensors", "pt") as weights:
        return sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118


def _random_world(name: str, size: Size, threads: int) -> RunConfig:
    folder = RUNS / "bench" / f"{name}-{stable_hash(vars(size))[:12]}"
    with exclusive(folder.with_suffix(".lock")):
        if not (folder / "prompts.parquet").exists():
            _build(folder, size)
    limits = {
        "threads": threads,
        "policy.model": str(folder / "policy"),
        "reward.model": str(folder / "reward"),
        "reward.max_length": 2 * (size.longest_prompt + size.longest_response),
        "prompts.path": str(folder / "prompts.parquet"),
        "prompts.limit": None,
        "prompts.max_tokens": size.longest_prompt + 8,
        "generation.max_new_tokens": size.longest_response,
        "generation.batch_size": size.batch_size,
        "training.micro_batch_size": 8,
        "sandbox": None,
        "evaluation": None,
    }
    return load_config("tiny").with_overrides(limits)


def _build(folder: Path, size: Size) -> None:
    """Policy, reward model and, last, prompts."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    words = [*SPECIAL, *(f"w{i}" for i in range(size.vocabulary - len(SPECIAL)))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    ends = [1, *range(len(SPECIAL), size.vocabulary, size.mean_response)]
    shape = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=8 * size.hidden // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=2 * (size.longest_prompt + size.longest_response),
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=ends,
    )
    torch.manual_seed(0)
    policy = LlamaForCausalLM(shape)
    shape.num_labels = 1
    for network, part in ((policy, "policy"), (LlamaForSequenceClassification(shape), "reward")):
        network.save_pretrained(folder / part)
        tokenizer.save_pretrained(folder / part)
    draw = random.Random(0)
    shortest = max(1, size.longest_prompt // 12)
    lengths = [round(shortest * (size.longest_prompt / shortest) ** draw.random()) for _ in range(size.prompts)]
    texts = [" ".join(draw.choices(words[len(SPECIAL) :], k=length)) for length in lengths]
    write_prompts(folder / "prompts.parquet", [Prompt(f"p{i}", text) for i, text in enumerate(texts)])
    assert len(load_prompts(folder / "prompts.parquet")) == size.prompts
