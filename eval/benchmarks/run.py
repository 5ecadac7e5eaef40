"""Academic benchmarks (Tables 3 and 5) through lm-eval: run them, read results made elsewhere, compare checkpoints.

    python -m eval.benchmarks --model PATH [--data-dir DIR] [--suite paper|sandbox|rlhf_workflow] ...
    python -m eval.benchmarks import RESULTS.json ...
    python -m eval.benchmarks compare RUN_A RUN_B

A run writes `<out>/<task>/`: lm-eval's own results file, its log of samples, and `settings.json`, which says what was
measured. The folder appears when the task is finished, and is neither computed again nor overwritten afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks.compare import compare
from eval.benchmarks.compare import markdown as comparison_markdown
from eval.benchmarks.results import ModelScores, as_json, markdown, read_results
from eval.benchmarks.suites import SUITES, USUAL, Benchmark, write_paper_tasks
from optune.packaged_models.names import checkpoint_of
from optune.store import content_hash, run_lock
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json, write_text
from optune.utils.hashing import sha256_of
from optune.utils.quiet import quiet_libraries

WORK = ".work"
SETTINGS_FILE = "settings.json"
_NOT_COMPARED = ("model",)  # a checkpoint may move: what identifies it is its content


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in (*_COMMANDS, "-h", "--help"):
        argv = ["run", *argv]
    args = _parser().parse_args(argv)
    return exit_status(lambda: _COMMANDS[args.command](args))


# --- run -------------------------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    """Measure what is not yet measured, then write and print the table."""
    args.model = checkpoint_of(args.model)
    out = args.out or Path("runs") / "benchmarks" / Path(args.model).name
    print(markdown(_measured(args, out), (args.suite,)))


def measure_checkpoint(
    model: str | Path, suite: str, out: Path, options: Sequence[str] = ("--no-log-samples",)
) -> ModelScores:
    """A suite's scores of one checkpoint, by the command's defaults and these options; lm-eval's files go to `out`.

    Without `--data-dir` the paper's suite reads its data from the Hugging Face hub. Lines and progress bars go to
    `out/run.log`.
    """
    args = _parser().parse_args(["run", "--model", str(model), "--suite", suite, *options])
    _set_environment(offline=suite == "sandbox" or args.data_dir is not None)
    import lm_eval.models.huggingface  # noqa: F401  (loggers keep the stream under which they are made: the real one)

    out.mkdir(parents=True, exist_ok=True)
    with open(out / "run.log", "w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        (scores,) = _measured(args, out)
    return scores


def _measured(args: argparse.Namespace, out: Path) -> list[ModelScores]:
    """The scores, measured where they are not yet there; the table is written to `out`."""
    benchmarks = _chosen(args)
    if args.suite == "sandbox" and args.data_dir is not None:
        raise UserError("--data-dir: the sandbox's benchmarks bring their own data; give --suite paper with it.")
    _set_environment(offline=args.data_dir is not None or args.suite == "sandbox")
    if any(benchmark.runs_code for benchmark in benchmarks):
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # --allow-code-execution said so; lm-eval's metric asks for this, too
        _check_code_metric()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("Start one process; several GPUs serve it by --backend vllm or --model-args parallelize=True.")
    if args.apply_chat_template is None:
        args.apply_chat_template = args.suite == "sandbox"
    with run_lock(out):
        work = out / WORK
        shutil.rmtree(work, ignore_errors=True)
        try:
            _run_missing(benchmarks, args, out, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    models = read_results([out / benchmark.task for benchmark in benchmarks], (args.suite,))
    write_json(out / "table.json", as_json(models, (args.suite,)))
    write_text(out / "table.md", markdown(models, (args.suite,)))
    return models


def _set_environment(offline: bool) -> None:
    """Variables that the libraries read when they are imported, so this comes before them."""
    os.environ.setdefault("TQDM_DELAY", "5")  # a bar for what takes long only; lm-eval shows 57 of them for MMLU
    os.environ.setdefault("TQDM_MININTERVAL", "0.5" if sys.stderr.isatty() else "30")
    if offline:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def _check_code_metric() -> None:
    """Raises UserError where lm-eval's metric that runs code cannot be had: the package `evaluate` has it from the hub.

    Tried before the model is loaded; lm-eval would try it afterwards.
    """
    import evaluate

    try:
        evaluate.load("code_eval")
    except (OSError, ImportError, ValueError) as error:  # no network, no such file, or one that cannot be read
        raise UserError(
            "HumanEval and MBPP need the metric `code_eval` of the package evaluate, which is neither cached nor in a "
            f'folder `code_eval` here ({" ".join(str(error).split())[:120]}): run `python -c "import evaluate; '
            "evaluate.load('code_eval')\"` once with network, or leave these two out by --tasks."
        ) from None


def _run_missing(benchmarks: Sequence[Benchmark], args: argparse.Namespace, out: Path, work: Path) -> None:
    """All settings are checked before anything is computed, and the model is loaded only if something is missing."""
    model_hash = content_hash(_checked_model(args.model))
    settings = {b.task: _settings(b, args, model_hash, _write_tasks(b, args, work)) for b in benchmarks}
    missing = [b for b in benchmarks if not _finished(out / b.task, settings[b.task])]
    lm = _load(args, missing) if missing else None
    for benchmark in benchmarks:
        if benchmark not in missing:
            print(f"{benchmark.task}: measured before, kept")
            continue
        started = time.perf_counter()
        finished = work / "results" / benchmark.task
        _measure(lm, benchmark, args, work / "tasks" / benchmark.task, finished)
        write_json(finished / SETTINGS_FILE, settings[benchmark.task])
        os.replace(finished, out / benchmark.task)
        print(f"{benchmark.task}: measured in {time.perf_counter() - started:.0f} s", flush=True)


def _write_tasks(benchmark: Benchmark, args: argparse.Namespace, work: Path) -> list[Path]:
    """Write the benchmark's task files (and the sandbox's items) into `work`; returns the data files they read."""
    folder, cache = (work / "tasks" / benchmark.task).resolve(), (work / "cache").resolve()
    if args.suite == "sandbox":
        from eval.benchmarks.sandbox import write_sandbox_tasks

        return write_sandbox_tasks(benchmark, folder, work / "data", cache)
    return write_paper_tasks(benchmark, folder, args.data_dir, cache)


def _settings(benchmark: Benchmark, args: argparse.Namespace, model_hash: str, data: Sequence[Path]) -> dict[str, Any]:
    """Everything that decides what a task's result means."""
    return {
        "task": benchmark.task,
        "shots": benchmark.shots,
        "model": args.model,
        "model_hash": model_hash,
        "model_args": args.model_args,
        "backend": args.backend,
        "apply_chat_template": args.apply_chat_template,
        "limit": args.limit,
        "log_samples": args.log_samples,
        "data": {"/".join(path.parts[-2:]): sha256_of(path) for path in data} or "Hugging Face hub",
        "lm_eval": importlib.metadata.version("lm_eval"),
    }


def _finished(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the task is measured already. Raises UserError where it was measured with other settings."""
    if not folder.exists():
        return False
    found = read_json(folder / SETTINGS_FILE)
    other = [k for k in wanted if k not in _NOT_COMPARED and found.get(k) != wanted[k]]
    if other:
        was = "; ".join(f"{k} was {_short(found.get(k))}, is now {_short(wanted[k])}" for k in other)
        raise UserError(
            f"{folder}: measured with other settings ({was}); give another --out, or move that folder away."
        )
    return True


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _measure(lm: Any, benchmark: Benchmark, args: argparse.Namespace, tasks: Path, folder: Path) -> None:
    """Evaluate one benchmark and write lm-eval's own files into `folder`."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(folder / "results.json"))
    with contextlib.redirect_stdout(sys.stderr):
        results = simple_evaluate(
            model=lm,
            model_args=_model_args(args),
            tasks=[benchmark.task],
            batch_size=args.batch_size,
            limit=args.limit,
            apply_chat_template=args.apply_chat_template,
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            evaluation_tracker=tracker,
            confirm_run_unsafe_code=benchmark.runs_code,
            log_samples=True,  # the task hashes are made of them
        )
    samples = results.pop("samples")
    results["config"]["model"] = tracker.general_config_tracker.model_source = args.backend
    tracker.save_results_aggregated(results, samples)
    if args.log_samples:
        for task, rows in samples.items():
            tracker.save_results_samples(task, rows)
    expected = 1 + len(samples) * args.log_samples
    if len(list(folder.glob("*.json*"))) != expected:  # lm-eval only warns where it cannot write
        raise UserError(f"{benchmark.task}: lm-eval could not write its results into {folder}; is the disk full?")


# --- the model -------------------------------------------------------------------------------------------------------


def _load(args: argparse.Namespace, benchmarks: Sequence[Benchmark]) -> Any:
    """The checkpoint as an lm-eval model, loaded once for all `benchmarks`."""
    quiet_libraries()
    import torch
    from lm_eval.api.registry import get_model

    on_gpu = torch.cuda.is_available()
    if args.batch_size is None:
        args.batch_size = "128" if args.suite == "sandbox" else "auto" if on_gpu or args.backend == "vllm" else "8"
    placement = {"device": "cuda" if on_gpu else "cpu"} if args.backend == "hf" else {}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            model_class = get_model(args.backend)
            lm = model_class.create_from_arg_obj(_model_args(args), {"batch_size": args.batch_size, **placement})
    except ModuleNotFoundError as error:
        raise UserError(f"--backend {args.backend} needs the package {error.name!r}, which is not installed.") from None
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{args.model!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if args.apply_chat_template and not lm.tokenizer.chat_template:
        raise UserError(f"{args.model!r} has no chat template; run with --no-apply-chat-template.")
    if "gsm8k" in (b.task for b in benchmarks) and lm.max_length <= lm.max_gen_toks:
        room = f"a context of {lm.max_length} tokens has no room for the {lm.max_gen_toks} that GSM8K generates"
        raise UserError(f"{args.model!r}: {room}; leave gsm8k out with --tasks.")
    return lm


def _model_args(args: argparse.Namespace) -> dict[str, Any]:
    from lm_eval.utils import simple_parse_args_string

    safe = {"use_safetensors": True} if args.backend == "hf" else {"load_format": "safetensors"}
    given = simple_parse_args_string(args.model_args)
    for name in ("pretrained", "trust_remote_code"):
        if name in given:
            raise UserError(f"--model-args: {name} cannot be given here (the model is --model, its code is not run).")
    return {"pretrained": args.model, **safe, **given}


def _checked_model(model: str) -> str:
    path = Path(model)
    looks_like_path = path.exists() or path.is_absolute() or model.startswith(".") or len(path.parts) > 2
    if looks_like_path and not (path / "config.json").is_file():
        raise UserError(f"--model {model}: not a checkpoint folder: it has no config.json.")
    return model


# --- import and compare ----------------------------------------------------------------------------------------------


def import_results(args: argparse.Namespace) -> None:
    """Print, and with --out write, Table 3's columns of result files made elsewhere."""
    suites = _suites(args)
    models = read_results(args.results, suites)
    if args.out:
        write_json(args.out / "table.json", as_json(models, suites))
        write_text(args.out / "table.md", markdown(models, suites))
    print(markdown(models, suites))


def compare_runs(args: argparse.Namespace) -> None:
    """Print the paired tests of two runs."""
    print(comparison_markdown(*compare(args.run_a, args.run_b, _suites(args)), (str(args.run_a), str(args.run_b))))


# --- command line ----------------------------------------------------------------------------------------------------

_COMMANDS = {"run": run, "import": import_results, "compare": compare_runs}


def _chosen(args: argparse.Namespace) -> list[Benchmark]:
    suite = {b.task: b for b in SUITES[args.suite]}
    names = args.tasks.split(",") if args.tasks else list(suite)
    if unknown := [n for n in names if n not in suite]:
        raise UserError(f"--tasks: {unknown[0]!r} is not in the suite {args.suite!r}, which has {', '.join(suite)}.")
    found = [suite[name] for name in dict.fromkeys(names)]
    if args.allow_code_execution:
        return found
    running = [benchmark.task for benchmark in found if benchmark.runs_code]
    if running and args.tasks:
        raise UserError(
            f"--tasks: {running[0]} runs the model's code on this machine; give --allow-code-execution, in a container."
        )
    if running:
        print(f"Left out, as they run the model's code: {', '.join(running)} (--allow-code-execution).")
    return [benchmark for benchmark in found if not benchmark.runs_code]


def _suites(args: argparse.Namespace) -> tuple[str, ...]:
    """The suites that results are read as."""
    return (args.suite,) if args.suite else USUAL


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _batch_size(text: str) -> str:
    return text if text.startswith("auto") else str(_positive(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eval.benchmarks", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    p = commands.add_parser("run", help="measure a checkpoint (the default command)")
    p.add_argument("--model", required=True, help="checkpoint folder, hub name, or packaged:<name>")
    p.add_argument(
        "--suite", choices=SUITES, default="paper", help="the paper's four, the sandbox's four, or RLHF Workflow's six"
    )
    p.add_argument("--tasks", help="only these of the suite, separated by commas")
    p.add_argument(
        "--allow-code-execution",
        action="store_true",
        help="HumanEval and MBPP, too: they run what the model writes, without a sandbox, on this machine",
    )
    p.add_argument("--data-dir", type=Path, help="local JSONL of the benchmarks; nothing is then downloaded")
    p.add_argument("--limit", type=_positive, help="only the first N items of each task (a try, not a result)")
    p.add_argument(
        "--batch-size", type=_batch_size, help="number or auto; default: auto on a GPU, 8 on a CPU; sandbox 128"
    )
    p.add_argument("--backend", choices=("hf", "vllm"), default="hf")
    p.add_argument("--model-args", default="", help="more arguments of lm-eval's backend, as name=value,...")
    p.add_argument(
        "--apply-chat-template", action=argparse.BooleanOptionalAction, help="default: in the sandbox suite only"
    )
    p.add_argument(
        "--log-samples",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep every item's answer, which compare needs (default)",
    )
    p.add_argument("--out", type=Path, help="default: runs/benchmarks/<model>")
    p = commands.add_parser("import", help="lm-eval results made elsewhere, old ones too, as Table 3")
    p.add_argument("results", nargs="+", type=Path, help="result files, or folders with them")
    p.add_argument("--out", type=Path, help="folder to write table.json and table.md into")
    p.add_argument(
        "--suite", choices=SUITES, help="read the results as this suite's; default: the paper's and the sandbox's"
    )
    p = commands.add_parser("compare", help="paired tests of two runs on the same items")
    p.add_argument("run_a", type=Path)
    p.add_argument("run_b", type=Path)
    p.add_argument(
        "--suite", choices=SUITES, help="read the results as this suite's; default: the paper's and the sandbox's"
    )
    return parser
