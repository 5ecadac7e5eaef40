"""AlpacaEval 2 for two files of answers: the win rates of the `alpaca-eval` package, raw and length-controlled.

    python -m eval.alpaca_eval --outputs O.json --reference R.json --annotations A.json --assets DIR --offline
    python -m eval.alpaca_eval --outputs O.json --reference R.json --run-dir DIR --judge gpt-4-1106-preview
    python -m eval.alpaca_eval --outputs O.json --reference R.json --run-dir DIR --judge sandbox

Annotations that exist (`--annotations`, a file as the package writes it) are taken as they are; only what they lack is
asked, through the project's own client, which keeps every reply in DIR/replies.jsonl and never pays for one twice. The
package does the rest: prompt, seeded order of the two outputs, parsing of log-probabilities, metrics. Prints JSON, and
writes it to DIR with all annotations. An annotation file that is named and not there yet is made; one that is there is
never written to.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from eval.alpaca_eval import world_annotator
from eval.alpaca_eval.annotate import DEFAULT_MODEL, annotate, asked_through
from eval.alpaca_eval.length_control import Assets, find_assets, hub_assets, length_controlled, load_package
from eval.answers import read_outputs
from eval.judges import Judge, judge_of, make_judge
from optune.chat.client import ChatClient
from optune.config import JudgeConfig
from optune.prompts.conversation import present
from optune.prompts.files import check_characters
from optune.store import run_lock
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json
from optune.utils.hashing import sha256_of, stable_hash

# SHA-256 of AlpacaEval's 805 instructions in their order, joined by NUL: the instructions the hub's tables are for.
ALPACA_EVAL_INSTRUCTIONS = "bfe8c45991f635de0b1f94abeeb1335ef665d58eddd87ddf6fa71b7b0c2ce7a5"
PAIR = ["instruction", "output_1", "output_2"]


# --- reading ---------------------------------------------------------------------------------------------------------


def pair_outputs(outputs: Path, reference: Path, *, allow_empty: bool = False) -> pd.DataFrame:
    """One row per instruction, in the reference's order: `PAIR` (output_1 is the reference's) and both generators.

    Raises UserError where an instruction stands twice in a file or in one file only, or an output is empty (unless
    `allow_empty`), and says which.
    """
    model, base = _read_outputs(outputs, allow_empty), _read_outputs(reference, allow_empty)
    _require(model["instruction"], outputs, base["instruction"], reference)
    _require(base["instruction"], reference, model["instruction"], outputs)
    return base.merge(model, on="instruction", suffixes=("_1", "_2"))


def _read_outputs(path: Path, allow_empty: bool) -> pd.DataFrame:
    answers = read_outputs(path)
    rows = pd.DataFrame(
        {
            "instruction": [row["instruction"] for row in answers],
            "output": [row["output"] for row in answers],
            "generator": [str(row["generator"]) if present(row.get("generator")) else path.stem for row in answers],
        }
    )
    twice = rows.loc[rows["instruction"].duplicated(), "instruction"]
    if len(twice):
        raise UserError(f"{path}: {len(twice)} instructions stand there more than once, first {_first(twice)}.")
    empty = rows.loc[rows["output"].str.strip() == "", "instruction"]
    if len(empty) and not allow_empty:
        raise UserError(
            f"{path}: {len(empty)} of {len(rows)} outputs are empty, first that to {_first(empty)}; give --allow-empty "
            "to have them judged as they are."
        )
    return rows


def recorded_annotations(path: Path, pairs: pd.DataFrame) -> pd.DataFrame:
    """The annotations of exactly these pairs of outputs in an annotation file, which may hold other models' too.

    Raises UserError where the file annotates an instruction that is not among the pairs, gives two preferences for one
    pair, or gives a preference that is none.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise UserError(f"{path}: expected a list of annotations.")
    for number, row in enumerate(records, start=1):
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in PAIR):
            raise UserError(f"{path}: row {number} is no annotation; it needs texts in {', '.join(PAIR)}.")
        for name in (*PAIR, "annotator"):
            check_characters(str(row.get(name)), f"{path}: row {number}: `{name}`")
    if records and not any("preference" in row for row in records):
        raise UserError(f"{path}: there is no preference in it.")
    rows = pd.DataFrame([_annotation(row) for row in records], columns=[*PAIR, "raw_completion", "annotator"])
    _require(rows["instruction"], path, pairs["instruction"], "the outputs")
    numbers = [_preference(row, f"{path}: row {number}") for number, row in enumerate(records, start=1)]
    rows["preference"] = pd.Series(numbers, dtype=float)
    rows = rows.merge(pairs[PAIR], on=PAIR)
    twice = rows.loc[rows.duplicated(PAIR), "instruction"]
    if len(twice):
        raise UserError(f"{path}: it annotates the same pair of outputs more than once: {_first(twice)}.")
    return rows[[*PAIR, "preference", "raw_completion", "annotator"]]


def _annotation(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that are read, but for the preference."""
    annotator = row.get("annotator")
    named = str(annotator) if present(annotator) else "unknown"
    raw = row.get("raw_completion")  # kept as it is, but for characters that no table can hold
    raw = raw.encode("utf-8", "backslashreplace").decode() if isinstance(raw, str) else raw
    return {**{name: row[name] for name in PAIR}, "raw_completion": raw, "annotator": named}


def _preference(row: dict[str, Any], where: str) -> float:
    """From 1 (the reference) to 2 (the model); NaN where a reply could not be read, which the package marks by -1."""
    given = row.get("preference")
    try:
        number = math.nan if given is None else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if math.isnan(number) or number == -1:
        return math.nan
    number = 1.5 if number == 0 else number  # the package's older mark of a tie
    if isinstance(given, bool) or not 1 <= number <= 2:
        raise UserError(f"{where} has the preference {given!r}, not a number from 1 to 2.")
    return number


def _require(wanted: pd.Series, wanted_by: Path, there: pd.Series, there_in: Path | str) -> None:
    missing = wanted[~wanted.isin(there)].drop_duplicates()
    if len(missing):
        raise UserError(
            f"The instructions differ: {len(missing)} of {wanted_by} are not in {there_in}, first {_first(missing)}."
        )


def _first(texts: pd.Series) -> str:
    text = texts.iloc[0]
    return repr(text if len(text) <= 100 else text[:97] + "...")


# --- from pairs to numbers -------------------------------------------------------------------------------------------


def gather(
    pairs: pd.DataFrame, annotations: Path | None, client: ChatClient | None, **asking: bool
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The pairs with `preference`, `raw_completion` and `annotator`, and how many came from where.

    What the annotation file lacks is asked through `client` (`asking`: as `asked_through` takes it); without one,
    UserError names the first that is missing.
    """
    columns = [*PAIR, "preference", "raw_completion", "annotator"]
    recorded = pd.DataFrame(columns=columns)
    if annotations is not None and (annotations.exists() or client is None):
        recorded = recorded_annotations(annotations, pairs)
    there = pairs.merge(recorded[PAIR], on=PAIR, how="left", indicator=True)["_merge"] == "both"
    missing = pairs[~there.to_numpy()]
    if missing.empty:
        return pairs.merge(recorded[columns], on=PAIR), {"annotation_file": len(pairs)}
    if client is None:
        raise UserError(
            f"{len(missing)} of {len(pairs)} pairs of outputs have no annotation"
            f"{f' in {annotations}' if annotations else ''}, first that of {_first(missing['instruction'])}; give "
            "--judge to ask for them."
        )
    asked = annotate(missing, asked_through(client, **asking), client.settings.model)[columns]
    same = int((missing["output_1"] == missing["output_2"]).sum())
    sources = {"annotation_file": len(recorded), "replies": len(missing) - same, "equal_outputs": same}
    return pairs.merge(asked if recorded.empty else pd.concat([recorded[columns], asked]), on=PAIR), sources


def is_alpaca_eval(pairs: pd.DataFrame) -> bool:
    """Whether the instructions are AlpacaEval's own 805, in their order."""
    joined = "\0".join(pairs["instruction"]).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest() == ALPACA_EVAL_INSTRUCTIONS


def choose_assets(pairs: pd.DataFrame, folder: Path | None, *, offline: bool) -> Assets:
    """The tables that the length-controlled model of these instructions takes: the folder's, the hub's, or none."""
    if is_alpaca_eval(pairs):
        return hub_assets(offline=offline) if folder is None else find_assets(folder)
    if folder is not None:
        raise UserError(
            "--assets holds difficulties of AlpacaEval's own 805 instructions, in their order, and the reference's are "
            "others; leave it away, and length is controlled without difficulties."
        )
    return Assets()


def score(annotated: pd.DataFrame, assets: Assets) -> dict[str, Any]:
    """The numbers: win rate (percent), its standard error, the length-controlled ones, average length and counts."""
    unparsed = int(annotated["preference"].isna().sum())
    if unparsed == len(annotated):
        raise UserError(f"None of the {unparsed} preferences could be read; there is nothing to count.")
    raw = load_package("metrics").get_winrate(annotated[["preference"]])
    return {
        "win_rate": float(raw["win_rate"]),
        "standard_error": None if len(annotated) - unparsed == 1 else float(raw["standard_error"]),
        **length_controlled(annotated, assets.read_difficulty(), assets.read_gamed()),
        "avg_length": int(annotated["output_2"].str.len().mean()),
        "n": len(annotated) - unparsed,
        "unparsed": unparsed,
        "empty_outputs": int((annotated["output_2"].str.strip() == "").sum()),
        "discrete_win_rate": float(raw["discrete_win_rate"]),
    }


def evaluate(
    outputs: Path,
    reference: Path,
    annotations: Path | None = None,
    *,
    assets_folder: Path | None = None,
    judge: Judge | None = None,
    run_dir: Path | None = None,
    allow_empty: bool = False,
    retry_unparsed: bool = False,
    offline: bool = False,
) -> dict[str, Any]:
    """All of it, for files: checks, annotations, numbers and where each of them came from.

    With `run_dir`, replies, annotations and result are kept there; with a judge and none given, below runs/alpaca_eval.
    Raises UserError on inputs that do not match, on a run directory made from other inputs, and from the client.
    """
    pairs = pair_outputs(outputs, reference, allow_empty=allow_empty)
    assets = choose_assets(pairs, assets_folder, offline=offline)  # before anything is paid for
    files = {
        role: {"file": path.name, "sha256": sha256_of(path)}
        for role, path in (("outputs", outputs), ("reference", reference), ("annotations", annotations))
        if path is not None and path.exists()
    }
    client = None
    if judge is not None:
        identity = {"outputs": sha256_of(outputs), "reference": sha256_of(reference), "model": judge.chat.model}
        run_dir = run_dir or Path("runs", "alpaca_eval", f"{outputs.stem}-{stable_hash(identity)[:12]}")
        client = ChatClient(judge.chat, run_dir / "replies.jsonl", transport=judge.transport)
    with contextlib.nullcontext() if run_dir is None else run_lock(run_dir):
        if client is not None:
            _claim(run_dir, identity)
        asking = {} if judge is None else {"system": judge.system, "retry_unparsed": retry_unparsed}
        annotated, sources = gather(pairs, annotations, client, **asking)
        result = {
            **score(annotated, assets),
            "preferences_from": sources,
            "annotator": _one_annotator(annotated),
            "instructions": "AlpacaEval" if is_alpaca_eval(pairs) else "own",
            "generator": ", ".join(sorted(pairs["generator_2"].unique())),
            "reference": ", ".join(sorted(pairs["generator_1"].unique())),
            "files": files,
            "assets": assets.provenance(),
            "package": f"alpaca-eval {importlib.metadata.version('alpaca-eval')}",
        }
        rows = annotated.to_dict(orient="records")
        if annotations is not None and not annotations.exists():
            write_json(annotations, rows)
        if run_dir is not None:
            write_json(run_dir / "annotations.json", rows)
            write_json(run_dir / "alpaca_eval.json", result)
    return result


def _claim(run_dir: Path, identity: dict[str, str]) -> None:
    """Make the directory this comparison's, or raise UserError where it is another's."""
    path = run_dir / "comparison.json"
    if path.exists() and (before := read_json(path)) != identity:
        other = next(name for name in identity if before.get(name) != identity[name])
        raise UserError(f"{run_dir}: made with another {other}; give another --run-dir.")
    write_json(path, identity)


def _one_annotator(annotated: pd.DataFrame) -> str:
    names = sorted(annotated["annotator"].unique())
    if len(names) > 1:
        raise UserError(f"The preferences come from different annotators ({', '.join(names)}); keep to one.")
    return names[0]


# --- command line ----------------------------------------------------------------------------------------------------


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval.alpaca_eval", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--outputs", type=Path, required=True, help="the model's answers, in AlpacaEval's format")
    add("--reference", type=Path, required=True, help="the reference's answers to the same instructions")
    add("--annotations", type=Path, help="recorded annotations, in the package's form; made where there are none")
    add("--assets", type=Path, help="folder with df_gamed*.csv and instruction_difficulty*.csv, instead of the hub's")
    add("--offline", action="store_true", help="recorded annotations and replies only; nothing is asked or downloaded")
    add("--allow-empty", action="store_true", help="have empty answers judged as they are")
    add("--retry-unparsed", action="store_true", help="ask again where a call failed for good or could not be read")
    add("--no-system", action="store_true", help="for endpoints without a system turn: put its text before the user's")
    add("--run-dir", type=Path, help="where replies and results are kept (with a judge: one below runs/alpaca_eval)")
    add("--judge", help=f"sandbox, openai ({DEFAULT_MODEL} or --model), a model's name, or package.module:function")
    add("--model", help="the annotator's model name at the endpoint")
    add("--base-url", help="of an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    add("--api-key-env", default="OPENAI_API_KEY", help="environment variable that holds the key")
    add("--concurrency", type=int, default=16, help="calls under way at once")
    add("--timeout", type=float, default=120.0, help="seconds per call")
    add("--max-attempts", type=int, default=8, help="per call, before it counts as failed")
    add("--price-in", type=float, help="per million prompt tokens")
    add("--price-out", type=float, help="per million completion tokens")
    add("--max-cost", type=float, help="refuse to spend more than this on the missing calls")
    return parser.parse_args(argv)


def annotator_of(config: JudgeConfig) -> Judge:
    """The annotator that goes with a run's judge: of a world's judge, the one that answers in AlpacaEval's form."""
    if config.name == "sandbox":
        return world_annotator.judge()
    if config.name == "instructions":
        return world_annotator.instructions_judge(Path(config.model))
    return judge_of(config)


def choose_judge(args: argparse.Namespace) -> Judge | None:
    """The annotator that the arguments name; None where none is named."""
    if args.judge is None and args.model is None and args.base_url is None:
        return None
    names = "base_url api_key_env concurrency timeout max_attempts price_in price_out max_cost offline"
    options = {name: getattr(args, name) for name in names.split()}
    if args.judge == "sandbox":
        return world_annotator.judge(args.model, **options)
    name = args.judge or "openai"
    judge = make_judge(name, args.model or (DEFAULT_MODEL if name == "openai" else None), **options)
    return replace(judge, system=not args.no_system)


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: _print_result(parse_arguments(argv)))


def _print_result(args: argparse.Namespace) -> None:
    result = evaluate(
        args.outputs,
        args.reference,
        args.annotations,
        assets_folder=args.assets,
        judge=choose_judge(args),
        run_dir=args.run_dir,
        allow_empty=args.allow_empty,
        retry_unparsed=args.retry_unparsed,
        offline=args.offline,
    )
    print(json.dumps(result, indent=2, ensure_ascii=False))
