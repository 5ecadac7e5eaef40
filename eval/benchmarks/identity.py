"""Whom a results file measured: all that it says of the model, so that two models never share a row.

What a file does not know is another matter than what it says: an old file names no commit and no dtype. Such a field
(`Measured.known`) separates rows only where files of one model say different things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optune.utils.hashing import stable_hash

NAMES = ("pretrained", "model", "path", "engine", "model_name", "model_path")  # of the model among the arguments
# Arguments that say how a model was run, not what it is. All others, known or not, make it another one.
_HOW_IT_RAN = {
    "attn_implementation",
    "backend",
    "batch_size",
    "cache_dir",
    "data_parallel_size",
    "device",
    "device_map",
    "device_map_option",
    "disable_log_stats",
    "dtype",  # see `known`
    "enforce_eager",
    "gpu_memory_utilization",
    "load_format",
    "logits_cache",
    "low_cpu_mem_usage",
    "max_batch_size",
    "max_cpu_memory",
    "max_memory_per_gpu",
    "max_retries",
    "num_concurrent",
    "offload_folder",
    "parallelize",
    "pipeline_parallel_size",
    "seed",
    "swap_space",
    "tensor_parallel_size",
    "timeout",
    "tokenized_requests",
    "tokenizer_backend",
    "tp_plan",
    "trust_remote_code",
    "use_accelerate",
    "use_fast_tokenizer",
    "use_safetensors",
}
# What lm-eval does where an argument is not given.
_DEFAULTS = {
    "revision": "main",
    "load_in_4bit": "False",
    "load_in_8bit": "False",
    "autogptq": "False",
    "gptqmodel": "False",
    "add_bos_token": "False",
}
_COMMITS = ("model_sha", "peft_sha", "delta_sha")
_PLAIN_DTYPE = re.compile(r"(?:torch\.)?((?:float|bfloat)\d+)")


@dataclass(frozen=True)
class Measured:
    """The model of one results file: its name, and each setting that makes it another model.

    `known`: what some files say and others leave unsaid: the commit, the dtype.
    """

    name: str
    settings: tuple[tuple[str, str], ...]
    known: Mapping[str, str] = field(compare=False)

    @property
    def title(self) -> str:
        return titled(self.name, dict(self.settings))


def titled(name: str, settings: Mapping[str, str]) -> str:
    """`org/base (peft=org/adapter, revision=v2)`."""
    told = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{name} ({told})" if told else name


def measured_model(content: Mapping[str, Any], path: Path) -> Measured:
    """Whom the results file `path` measured; a file that names nobody stands for itself."""
    config = content.get("config") or content.get("config_general") or {}
    arguments = _arguments(config.get("model_args"))
    named = next((arguments[key] for key in NAMES if key in arguments), None)
    name = named or _text(content.get("model_name")) or _text(config.get("model_name")) or str(path)
    dtype = _text(config.get("model_dtype")) or arguments.get("dtype", "auto")
    plain = _PLAIN_DTYPE.fullmatch(dtype)
    settings = {key: value for key, value in arguments.items() if key not in {*_HOW_IT_RAN, *NAMES}}
    settings.setdefault("revision", _text(config.get("model_revision")))
    if not plain and dtype != "auto":  # the first leaderboard's "4bit", "8bit" and "GPTQ"
        settings["dtype"] = dtype
    settings |= dict(_asked_with(content))
    if settings.get("tokenizer") == name:
        del settings["tokenizer"]
    said = {key: value for key, value in settings.items() if value and value != _DEFAULTS.get(key)}
    known = {
        "dtype": plain[1] if plain else "",
        "commit": "+".join(filter(None, (_text(config.get(c)) for c in _COMMITS))),
    }
    return Measured(name, tuple(sorted(said.items())), known)


def _arguments(given: Any) -> dict[str, str]:
    """lm-eval's model arguments, as an object or as `name=value,...`; without those that are null or empty."""
    if not isinstance(given, Mapping):
        given = dict(part.split("=", 1) for part in str(given or "").split(",") if "=" in part)
    texts = {str(key).strip(): _text(value) for key, value in given.items()}
    return {key: value for key, value in texts.items() if value}


def _asked_with(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Chat template and system text, by the beginning of their hashes."""
    for name, title in (("chat_template", "chat template"), ("system_instruction", "system text")):
        if text := _text(content.get(name)):
            yield title, (_text(content.get(f"{name}_sha")) or stable_hash(text))[:12]
    if _text(content.get("chat_template")) and content.get("fewshot_as_multiturn"):
        yield "few-shot", "as turns"


def _text(value: Any) -> str:
    """A setting as text; empty for what is null or says none."""
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ("none", "null") else {"true": "True", "false": "False"}.get(text.lower(), text)
