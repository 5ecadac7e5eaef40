"""Answers a prompt set with a checkpoint, in AlpacaEval's form, with a leaderboard-style model config beside it.

    python -m eval.outputs --model CHECKPOINT --prompts sandbox:lima --out outputs.json

Prompt sets: `sandbox:test`, `sandbox:lima`, `sandbox:alpaca` and `sandbox:validation` (`test` and `validation` for
short); `lima` (300 test prompts) and `alpaca_eval` (805) from the hub; or a local file, JSON, JSONL or Parquet, whose
rows have `instruction`, `conversations`, `prompt` or `messages`. Greedy decoding unless told otherwise.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from tqdm import tqdm

from optune import instructions
from optune.config import SamplingSettings, ServerConfig, set_option
from optune.generate import ENGINES, PromptsRefused
from optune.packaged_models.names import checkpoint_of
from optune.prompts.conversation import present, transcript
from optune.prompts.files import check_characters, load_prompts, parse_prompt
from optune.types import Prompt, UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, read_jsonl, write_json, write_text
from optune.utils.hashing import stable_hash
from optune.utils.registry import resolve

SANDBOX_SPLITS = ("test", "lima", "alpaca", "validation")
HUB = {  # name -> file on the hub, number of prompts
    "lima": ("hf://datasets/GAIR/lima/test.jsonl", 300),
    "alpaca_eval": ("hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval.json", 805),
}


def prompt_set(name: str) -> list[Prompt]:
    """The prompts called `name`, or those of the file `name`. Raises UserError naming the known sets, or the row."""
    split = f"sandbox:{name}" if name in ("test", "validation") else name
    if split.startswith("sandbox:"):
        from optune.sandbox.parts.mixes import sandbox_prompts

        if split.removeprefix("sandbox:").partition("@")[0] not in SANDBOX_SPLITS:
            known = ", ".join(f"sandbox:{s}" for s in SANDBOX_SPLITS)
            raise UserError(f"Unknown prompt set {name!r}; the sandbox's are {known}.")
        return sandbox_prompts(split.removeprefix("sandbox:"))
    if name.startswith("instructions:"):
        return instructions.prompts(name.removeprefix("instructions:"))
    if name in HUB:
        return _from_hub(name)
    if not Path(name).is_file():
        known = ", ".join((*(f"sandbox:{s}" for s in SANDBOX_SPLITS), *HUB))
        raise UserError(f"Prompt set {name!r} is neither a file nor one of {known}.")
    return _from_file(Path(name))


def answer_prompts(
    model: str | Path,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    *,
    seed: int = 0,
    generator: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """One row per prompt: AlpacaEval's `instruction`, `output` and `generator`, and how the answer was made.

    `settings.engine` names the engine, and `settings.n` must be 1. Rows are in the order of the prompts. A prompt that
    can have no answer has no row, and the reason is told on stderr.
    """
    if settings.n != 1:
        raise UserError(f"Model outputs hold one answer per prompt, so n must be 1, not {settings.n}.")
    sample = resolve(ENGINES, settings.engine, "engine")
    try:
        responses = sample(model, prompts, settings, seed=seed, iteration=0, on_progress=on_progress)
    except PromptsRefused as partly:
        print(partly, file=sys.stderr)
        responses = partly.responses
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    decoding = describe(settings, seed)
    return [
        {
            "prompt_id": response.prompt_id,
            "instruction": transcript(by_id[response.prompt_id]),
            "output": response.text,
            "generator": generator or Path(model).name,
            "decoding": decoding,
            "finish_reason": response.finish_reason,
        }
        for response in responses
    ]


@contextmanager
def replies_beside(out: Path, settings: SamplingSettings) -> Iterator[SamplingSettings]:
    """Settings with which the engine `server` keeps what it answers in a folder beside `out`.

    After a failure the same command asks only for what is missing; the folder goes where the block ends well.
    """
    server = settings.server or ServerConfig()
    if settings.engine != "server" or server.replies:
        yield settings
        return
    folder = out.with_name(f"{out.name}.replies")
    yield settings.model_copy(update={"server": server.model_copy(update={"replies": str(folder)})})
    shutil.rmtree(folder, ignore_errors=True)


def describe(settings: SamplingSettings, seed: int) -> str:
    """The decoding settings as one line, for the file of answers."""
    if settings.temperature == 0:
        how = "greedy"
    else:
        how = f"temperature {settings.temperature:g}, top_p {settings.top_p:g}, seed {seed}"
    return f"{how}, at most {settings.max_new_tokens} new tokens, {settings.engine} engine, {settings.dtype}"


def model_config(model: str | Path, settings: SamplingSettings, generator: str, seed: int) -> dict[str, Any]:
    """The checkpoint as AlpacaEval's leaderboard describes models (`models_configs/<name>/configs.yaml`)."""
    local = Path(model).is_dir()
    completions = {
        "model_name": Path(model).name if local else str(model),
        "model_kwargs": {"torch_dtype": settings.dtype},
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "do_sample": settings.temperature > 0,
        "batch_size": settings.batch_size,
    }
    return {
        generator: {
            "prompt_template": "the checkpoint's chat template",
            "fn_completions": "huggingface_local_completions",
            "completions_kwargs": completions,
            "pretty_name": generator,
            "link": None if local else f"https://huggingface.co/{model}",
            "decoding": describe(settings, seed),
        }
    }


def _from_hub(name: str) -> list[Prompt]:
    from datasets import load_dataset

    file, expected = HUB[name]
    try:
        rows = load_dataset("json", data_files=file, split="train").to_list()
    except Exception as error:  # errors of the hub, the network and the login, which only the user can fix
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"The prompt set {name!r} cannot be loaded from the hub ({reason}); download it once and give the file."
        ) from None
    prompts = _from_rows(rows, name)
    if len(prompts) != expected:
        raise UserError(f"The prompt set {name!r} has {len(prompts)} prompts on the hub, not {expected}; give a file.")
    return prompts


def _from_file(path: Path) -> list[Prompt]:
    if path.suffix == ".json":
        rows = read_json(path)
        if not isinstance(rows, list) or not rows:
            raise UserError(f"{path}: expected a JSON list of prompts, at least one.")
        return _from_rows(rows, str(path))
    if path.suffix == ".jsonl":
        rows = [row for _, row in read_jsonl(path)]
        if any(isinstance(row, dict) and ("instruction" in row or "conversations" in row) for row in rows):
            return _from_rows(rows, str(path))
    return load_prompts(path)


def _from_rows(rows: Sequence[Any], where: str) -> list[Prompt]:
    """Prompts from AlpacaEval's rows (`instruction`), LIMA's (`conversations`) or any that prompt files may have."""
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(rows, start=1):
        prompt, has_id = parse_prompt(row, f"{where}, row {number}")
        category = prompt.category or (str(row["dataset"]) if present(row.get("dataset")) else "")
        # The id of a plain text without one is the text's hash alone: judges' replies are kept under it.
        prompt_id = prompt.prompt_id if has_id or prompt.messages else stable_hash(prompt.text)[:16]
        check_characters(category, f"{where}, row {number}: the dataset")
        if prompt_id in prompts:
            raise UserError(f"{where}, row {number}: the prompt {prompt_id!r} was there before.")
        prompts[prompt_id] = replace(prompt, prompt_id=prompt_id, category=category)
    return list(prompts.values())


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.outputs", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="checkpoint folder or hub name")
    parser.add_argument("--prompts", required=True, help="a prompt set's name, or a file")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--generator", help="the model's name in the file; default: the checkpoint's")
    add_sampling_options(parser)
    parser.add_argument("--limit", type=int, help="answer only the first so many")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing --out")
    return parser.parse_args(argv)


def add_sampling_options(
    parser: argparse.ArgumentParser,
    *,
    temperature: float | None = 0.0,
    max_new_tokens: int = 512,
    max_prompt_tokens: int = 2048,
) -> None:
    """Command-line options for sampling, with these defaults. `sampling_of` reads them."""
    parser.add_argument("--engine", default="hf", help=f"{', '.join(ENGINES)} or package.module:function")
    parser.add_argument("--base-url", help="of the endpoint, for `--engine server`")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another option of the engine: server.concurrency=8, vllm.data_parallel_size=2, workers=2",
    )
    told = "0, the default, is greedy" if temperature == 0 else "0 is greedy; default: by category"
    parser.add_argument("--temperature", type=float, default=temperature, help=told)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--max-new-tokens", type=int, default=max_new_tokens)
    parser.add_argument("--max-prompt-tokens", type=int, default=max_prompt_tokens)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)


def sampling_of(args: argparse.Namespace) -> SamplingSettings:
    """Sampling settings from the options, with one answer per prompt. Raises UserError naming the option."""
    names = ("engine", "temperature", "top_p", "max_new_tokens", "max_prompt_tokens", "batch_size", "dtype")
    return _settings({"n": 1, **{name: getattr(args, name) for name in names}}, args.base_url, args.set)


def run(args: argparse.Namespace) -> Path:
    """Answer the prompts and write the answers and the model's config. Returns the path of the answers."""
    out = Path(args.out)
    if out.exists() and not args.overwrite:
        raise UserError(f"{out}: is there already; give another --out, or --overwrite.")
    settings = sampling_of(args)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit: must be at least 1, not {args.limit}.")
    prompts = prompt_set(args.prompts)[: args.limit]
    args.model = checkpoint_of(args.model)
    generator = args.generator or Path(args.model).name
    with replies_beside(out, settings) as kept, tqdm(total=len(prompts), desc="answers", disable=None) as bar:
        rows = answer_prompts(
            args.model,
            prompts,
            kept,
            seed=args.seed,
            generator=generator,
            on_progress=lambda done, _: bar.update(done - bar.n),
        )
        write_json(out, rows)
    if len(rows) < len(prompts):
        print(f"{out}: {len(rows)} of {len(prompts)} prompts have an answer; see above.", file=sys.stderr)
    config = model_config(args.model, settings, generator, args.seed)
    write_text(out.with_suffix(".configs.yaml"), yaml.safe_dump(config, sort_keys=False))
    return out


def _settings(data: dict[str, Any], base_url: str | None, options: Sequence[str]) -> SamplingSettings:
    """Sampling settings with the engine's own options. Raises UserError naming the option."""
    for option in [*([f"server.base_url={base_url}"] if base_url else []), *options]:
        set_option(data, option)
    try:
        return SamplingSettings(**data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "--set"
        flag = f"--{where.replace('_', '-')}" if len(first["loc"]) == 1 else where
        raise UserError(f"{flag}: {first['msg']}.") from None


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: print(run(parse_arguments(argv))))


if __name__ == "__main__":
    sys.exit(main())
