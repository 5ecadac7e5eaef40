"""Compute arms: every (arm, seed) of a figure in worker processes, and compare with the committed evidence.

Each worker runs the loop on its own thread count (`threads` of the preset), so that the digits don't depend on how
many run at once. Stopped at any moment and started again, it makes only what is missing.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.compute.arms import ORACLE, Arm, build_of
from experiments.compute.consistency import compare, verdict
from experiments.compute.machine import machine, why_results_differ
from experiments.compute.results import ROOT, check_identity, committed_results, publish, raw_path
from optune.config import RunConfig, load_config
from optune.loop.stages import VERSIONS
from optune.store import package_versions
from optune.types import UserError
from optune.utils.files import read_json, write_json
from optune.utils.hashing import stable_hash
from optune.utils.registry import resolve as resolve_part
from optune.utils.threads import cpu_threads

RUNS = ROOT / "runs"
RESULTS = ROOT / "results"


def compute(preset: str, arms: Sequence[Arm], seeds: Sequence[int], overrides: Sequence[str] = ()) -> dict[str, str]:
    """Make sure that every arm and seed has been computed on this machine; print and return how each compares.

    Overridden runs are trials: they stay in `runs/` and are not compared with the committed results.
    """
    _check_arms(preset, arms, overrides)
    for arm in arms:
        for seed in arm.runs_on(seeds):
            config = arm_config(preset, arm, seed, overrides)
            committed = raw_path(RESULTS, preset, arm.name, seed)
            if not overrides and committed.exists():
                check_identity(read_json(committed), identity(config), committed)
    base = base_of(preset, overrides)
    tasks = [(preset, arm, seed, tuple(overrides), base) for arm in arms for seed in arm.runs_on(seeds)]
    missing = [task for task in tasks if not raw_path(base, preset, task[1].name, task[2]).exists()]
    new = {(task[1].name, task[2]) for task in tasks if not raw_path(RESULTS, preset, task[1].name, task[2]).exists()}
    if missing:
        _build_sandboxes(preset, sorted({build_of(task[2]) for task in missing}), overrides)
        # Runs for the clock come by themselves at the end, arms in turn, so that the machine's moods hit all alike.
        _run_all([task for task in missing if not task[1].for_the_clock])
        _run_all(sorted((task for task in missing if task[1].for_the_clock), key=lambda task: task[2]))
    if overrides:
        return {}
    return _report(base, preset, arms, seeds, new)


def _check_arms(preset: str, arms: Sequence[Arm], overrides: Sequence[str]) -> None:
    """Raises UserError for an arm that needs a sandbox where the preset has none, before anything is computed."""
    if load_config(preset, overrides=overrides).sandbox:
        return
    for arm in arms:
        if any("sandbox:" in str(value) or value == ORACLE for _, value in arm.overrides) or arm.needs_sandbox:
            raise UserError(
                f"Arm {arm.name} knows the sandbox's gold or prompts, and preset {preset!r} has no sandbox."
            )


def base_of(preset: str, overrides: Sequence[str] = ()) -> Path:
    """Where this machine's results of a preset are put: other settings, sandboxes or packages lie in another folder."""
    config = load_config(preset, overrides=overrides)
    return RUNS / "computed" / stable_hash(config.model_dump(), world(config), VERSIONS, package_versions())[:12]


def world(config: RunConfig) -> dict[str, Any] | None:
    """What a result in the sandbox was made with: the language, how its models are built, and the judge."""
    if not config.sandbox:
        return None
    from eval.judges import judge_of
    from optune.sandbox import VERSION, content_hash
    from optune.sandbox.parts.models import recipe_hash
    from optune.sandbox.parts.names import build_settings

    return {
        "version": VERSION,
        "hash": content_hash(),
        "build": recipe_hash(build_settings(config)),
        "judge": judge_of(config.evaluation.judge).chat.model,
    }


def run_arm(preset: str, arm: Arm, seed: int, overrides: Sequence[str], base: Path, tick: Any = None) -> None:
    """One arm with one seed: the loop, then every iteration's policy measured; writes the raw result."""
    from experiments.compute.ledger import ledger
    from optune.loop.algorithm import run_optune

    config = arm_config(preset, arm, seed, overrides)
    work_dir = RUNS / preset
    resolved = resolve(config)
    result = run_optune(resolved, base / preset / "arms" / arm.name / f"seed{seed}", work_dir / "stages")
    with cpu_threads(config.threads):
        measured = _measured(arm, resolved, result, work_dir, tick)
    raw = {
        **identity(config),
        "arm": arm.name,
        "seed": seed,
        "build": build_of(seed) if config.sandbox else None,
        "packages": package_versions(),
        **measured,
        "timing": {
            **measured.get("timing", {"ledger": ledger(result.stages)}),
            "machine": machine(),
        },
    }
    write_json(raw_path(base, preset, arm.name, seed), raw)


def _measured(arm: Arm, config: RunConfig, result: Any, work_dir: Path, tick: Any) -> dict[str, Any]:
    """What is measured of a finished run: the baseline and every iteration's policy, or what the arm's probe gives."""
    from experiments.compute.measure import measure, quality

    last = len(result.policies) - 1
    tell = tick.put if tick else lambda count: None
    if arm.probe:
        found = resolve_part({}, arm.probe, "probe")(config, result, work_dir)
        tell(last + 1)
        return found
    iterations = []
    for t, policy in enumerate(result.policies):
        counts = {e["stage"]: e["counts"] for e in result.stages if e["iteration"] == t}
        wanted = t in (0, last) or not arm.ends_only
        iterations.append({"iteration": t, **(measure(policy, config, work_dir) if wanted else {}), "stages": counts})
        tell(1)
    return {"baseline": quality(config.evaluation.baseline, config, work_dir), "iterations": iterations}


def identity(config: RunConfig) -> dict[str, Any]:
    """What two results must share to be compared at all."""
    facts = config.model_dump(exclude={"seed": True, "sandbox": {"build"}})
    return {"preset": config.preset, "config": facts, "sandbox": world(config)}


def arm_config(preset: str, arm: Arm, seed: int, overrides: Sequence[str] = ()) -> RunConfig:
    """The preset with the arm's recipe and overrides, then the arm's own changes, the seed and its sandbox build."""
    names = ("seed", *(name for name, _ in arm.overrides))
    taken = [name for name in names if any(o.partition("=")[0].strip() == name for o in overrides)]
    if taken:
        raise UserError(f"An experiment's arms and seeds set {taken[0]} themselves; override something else.")
    config = load_config(preset, overrides=overrides, recipe=arm.recipe)
    changes: dict[str, Any] = {**dict(arm.overrides), "seed": seed}
    if config.sandbox:
        changes["sandbox.build"] = build_of(seed)
    return config.with_overrides(changes)


def resolve(config: RunConfig) -> RunConfig:
    """`sandbox:` names as paths; the models are built on first use."""
    if not config.sandbox:
        return config
    from optune.sandbox.parts.names import resolve_sandbox

    return resolve_sandbox(config, RUNS / "sandbox")


def workers() -> int:
    """Worker processes: one per core, each on one thread; a GPU is not shared."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, os.cpu_count() or 1)


def _build_sandboxes(preset: str, builds: Sequence[int], overrides: Sequence[str]) -> None:
    config = load_config(preset, overrides=overrides)
    if not config.sandbox:
        return
    for build in builds:
        resolve(config.with_overrides({"sandbox.build": build}))


def _start_worker(ticks: Any) -> None:
    """A worker counts its finished policies into `ticks`, and leaves Ctrl-C to the parent."""
    global _ticks
    _ticks = ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(task: tuple[Any, ...]) -> None:
    preset, arm, seed, overrides, base = task
    run_arm(*task, tick=_ticks)
    if not overrides:  # evidence is kept from the moment it is there
        publish(read_json(raw_path(base, preset, arm.name, seed)), RESULTS)


def _run_all(tasks: Sequence[tuple[Any, ...]]) -> None:
    """Run tasks in as many workers as there are cores, whatever they are for."""
    if not tasks:
        return
    policies = sum(arm_config(preset, arm, seed, changed).iterations + 1 for preset, arm, seed, changed, _ in tasks)
    context = multiprocessing.get_context("spawn")
    ticks = context.Queue()
    bar = tqdm(total=policies, unit="policy", file=sys.stderr, smoothing=0.05)
    bar.set_description(f"{len(tasks)} runs")
    pool = ProcessPoolExecutor(workers(), mp_context=context, initializer=_start_worker, initargs=(ticks,))
    with bar, pool:
        futures = {pool.submit(_work, task) for task in tasks}  # neighbours differ in seed, and share little
        try:
            _watch(futures, ticks, bar)
            bar.update(bar.total - bar.n)  # the last ticks may still be on their way
        except BaseException:
            for process in list(pool._processes.values()):
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _watch(futures: set[Future], ticks: Any, bar: tqdm) -> None:
    while futures:
        done, futures = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
        while True:
            try:
                bar.update(ticks.get_nowait())
            except queue.Empty:
                break
        for future in done:
            future.result()  # raises what the run raised


def _report(
    base: Path, preset: str, arms: Sequence[Arm], seeds: Sequence[int], new: set[tuple[str, int]]
) -> dict[str, str]:
    """Print and return, for every arm and seed, how this machine's result compares with the committed one.

    `new`, `reproduced` bit for bit, `consistent (...)` with the committed seeds, or `differs (...)`.
    """
    print("This machine's results beside the committed ones:")
    outcome: dict[str, str] = {}
    unlike: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for arm in arms:
        states, other = _states(base, preset, arm, seeds, new)
        outcome |= {f"{arm.name}/seed{seed}": state for seed, state in states.items()}
        unlike += other
        told = "; ".join(f"{n} x {state}" for state, n in Counter(states.values()).items())
        print(f"  {arm.name:28s} {told}")
    if unlike:
        outside = any(state.startswith("differs") for state in outcome.values())
        print("\n".join(why_results_differ(unlike, outside)))
    return outcome


def _states(
    base: Path, preset: str, arm: Arm, seeds: Sequence[int], new: set[tuple[str, int]]
) -> tuple[dict[int, str], list[tuple[dict[str, Any], dict[str, Any]]]]:
    """One arm's state by seed, and the pairs (this machine's result, the committed one) that are not equal."""
    states, unlike = {}, []
    for seed in arm.runs_on(seeds):
        mine = read_json(raw_path(base, preset, arm.name, seed))
        state = publish(mine, RESULTS)
        states[seed] = "new" if (arm.name, seed) in new else state
        if states[seed].startswith("differs"):
            unlike.append((mine, read_json(raw_path(RESULTS, preset, arm.name, seed))))
    if unlike:
        own = [mine for mine, _ in unlike]
        other = verdict(compare(own, committed_results(RESULTS, preset, arm.name, new)))
        states |= {mine["seed"]: other for mine in own}
    return states, unlike
