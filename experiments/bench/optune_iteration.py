"""One OPTune iteration at ratio 0.5 and 0.7 against ratio 1: the time it takes beside the time predicted.

Every arm goes on from the same iteration 0, in turn, each in a copy of its folder. Predicted from ratio 1's own
shares: generation's seconds go with the tokens sampled (selected prompts may have other lengths), rewarding's with the
responses scored, and all else stays.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from experiments.bench.rows import Row, compared
from experiments.bench.timing import Found, in_turn, ratios, spread
from experiments.bench.worlds import World
from experiments.compute.setting import RUNS
from optune.config import RunConfig
from optune.utils.threads import cpu_threads

GOAL = 0.05
WHY = (
    "an iteration takes a few seconds here, and part of generation and rewarding (loading a model, tokenising, steps "
    "for the longest response) does not shrink with what is sampled"
)
RATIOS = (0.5, 0.7)


def measure(world: World, repetitions: int) -> list[Row]:
    """Measured over predicted seconds per ratio, turn by turn."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=_made(RUNS / "bench")) as folder,
        cpu_threads(world.config.threads),
    ):
        start = Path(folder) / "start"
        _iteration(_arm(world, None), start, 0)
        things = {
            ratio: lambda r=ratio: _one_more(_arm(world, None if r == 1 else r), start, Path(folder) / f"arm-{r}")
            for ratio in (1, *RATIOS)
        }
        turns_by_ratio = in_turn(things, repetitions)
    return [_row(ratio, turns_by_ratio[1], turns_by_ratio[ratio]) for ratio in RATIOS]


def predicted(full: Found, tokens: int, responses: int) -> float:
    """Seconds of an iteration that samples `tokens` and scores `responses`, from those of ratio 1."""
    fresh = full["generate"] * tokens / full["tokens"] + full["score"] * responses / full["responses"]
    return full["seconds"] - full["generate"] - full["score"] + fresh


def _row(ratio: float, full: list[Found], reduced: list[Found]) -> Row:
    measured = [turn["seconds"] for turn in reduced]
    told = [predicted(a, b["tokens"], b["responses"]) for a, b in zip(full, reduced, strict=True)]
    tokens, responses = (reduced[0][name] / full[0][name] for name in ("tokens", "responses"))
    shares = {name: spread([turn[name] / turn["seconds"] for turn in full])["median"] for name in ("generate", "score")}
    faster = ratios([turn["seconds"] for turn in full], measured)["median"]
    return compared(
        f"one OPTune iteration, ratio {ratio}",
        "the prediction from ratio 1's shares",
        "s",
        measured,
        told,
        GOAL,
        side="within",
        settings={"ours": f"iteration 1 after a shared iteration 0, ratio {ratio}", "peer": "ratio 1, same iteration"},
        note=f"{tokens:.0%} of the tokens, {responses:.0%} of the responses; at ratio 1 generation takes "
        f"{shares['generate']:.0%} and rewarding {shares['score']:.0%}; {faster:.2f} times as fast as ratio 1",
        why=WHY,
    )


def _arm(world: World, ratio: float | None) -> RunConfig:
    strategy = {"selection.strategy": "all", "selection.ratio": 1.0} if ratio is None else {"selection.ratio": ratio}
    return world.config.with_overrides(strategy)


def _iteration(config: RunConfig, folder: Path, iterations: int) -> list[dict]:
    from optune.loop.algorithm import run_optune

    return run_optune(config.with_overrides({"iterations": iterations}), folder / "run", folder / "stages").stages


def _one_more(config: RunConfig, start: Path, folder: Path) -> Found:
    """Iteration 1 after `start`'s iteration 0; `seconds` without what the copy and the KL stage took."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(start / "stages", folder / "stages")
    started = time.perf_counter()
    entries = [entry for entry in _iteration(config, folder, 1) if entry["iteration"] == 1]
    whole = time.perf_counter() - started
    seconds = {entry["stage"]: entry["timing"]["wall_s"] for entry in entries}
    counts = next(entry["counts"] for entry in entries if entry["stage"] == "generate")
    return {
        "seconds": whole - seconds["kl"],
        "generate": seconds["generate"],
        "score": seconds["score"],
        "tokens": counts["tokens"],
        "responses": counts["responses"],
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
