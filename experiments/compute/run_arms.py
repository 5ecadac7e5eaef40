"""Compute arms: every (arm, seed) of a figure in worker processes, and compare with the committed evidence.

Each worker uses the preset's number of `threads`, so that the last digits do not depend on how many workers run at
once. After a stop at any moment, the next start computes only what is missing.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.compute.arms import Arm
from experiments.compute.consistency import compare, verdict
from experiments.compute.machine import machine, why_results_differ
from experiments.compute.raw_result import RawResult
from experiments.compute.results import RESULTS, check_made_alike, committed_results, publish
from experiments.compute.setting import Setting, made_with
from optune.config import RunConfig
from optune.store import package_versions
from optune.utils.files import read_json, write_json
from optune.utils.precision import advice
from optune.utils.registry import resolve as resolve_part
from optune.utils.threads import cpu_threads

Task = tuple[Setting, Arm, int]  # one arm with one seed


def compute(setting: Setting, arms: Sequence[Arm], seeds: Sequence[int]) -> dict[str, str]:
    """Make sure that every arm and seed has been computed on this machine; print and return how each compares."""
    setting.check_arms(arms)
    tasks = [(setting, arm, seed) for arm in arms for seed in arm.runs_on(seeds)]
    new = set()
    for _, arm, seed in tasks:
        config, committed = setting.arm_config(arm, seed), setting.committed(arm.name, seed)
        if not committed.exists():
            new.add((arm.name, seed))
        elif not setting.overrides:
            check_made_alike(read_json(committed), made_with(config), committed)
    missing = [task for task in tasks if not setting.computed(task[1].name, task[2]).exists()]
    if missing:
        if slow := advice(setting.config):
            print(f"{slow} As ARGS they make a trial, which is not compared with the committed results.")
        builds = {(setting.build_of(seed), arm.probe): (arm, seed) for _, arm, seed in missing if setting.world}
        for arm, seed in builds.values():  # each once, before workers want it at the same time
            setting.resolve_arm(arm, seed)
        # Runs for the clock come by themselves at the end, arms in turn, so that the machine's moods hit all alike.
        _run_all([task for task in missing if not task[1].for_the_clock])
        _run_all(sorted((task for task in missing if task[1].for_the_clock), key=lambda task: task[2]))
    return {} if setting.overrides else _report(setting, arms, seeds, new)


def run_arm(setting: Setting, arm: Arm, seed: int, tick: Any = None) -> None:
    """One arm with one seed: the loop, then every iteration's policy measured; writes the raw result."""
    from experiments.compute.ledger import ledger
    from optune.loop.algorithm import run_optune

    config, resolved = setting.arm_config(arm, seed), setting.resolve_arm(arm, seed)
    result = run_optune(resolved, setting.run_dir(arm.name, seed), setting.work_dir / "stages")
    with cpu_threads(config.threads):
        measured = _measured(arm, resolved, result, setting.work_dir, tick)
    raw: RawResult = {
        **made_with(config),
        "arm": arm.name,
        "seed": seed,
        "build": setting.build_of(seed),
        "packages": package_versions(),
        **measured,
        "timing": {
            **measured.get("timing", {"ledger": ledger(result.stages)}),
            "machine": machine(),
        },
    }
    write_json(setting.computed(arm.name, seed), raw)


def _measured(arm: Arm, config: RunConfig, result: Any, work_dir: Path, tick: Any) -> dict[str, Any]:
    """Measures a finished run: the baseline and every iteration's policy, or the arm's probe instead."""
    from experiments.compute.measure import measure, quality

    last = len(result.policies) - 1
    tell = tick.put if tick else lambda count: None
    if arm.probe:
        measured = resolve_part({}, arm.probe.function, "probe")(config, result, work_dir)
        tell(last + 1)
        return measured
    iterations = []
    for t, policy in enumerate(result.policies):
        counts = {e["stage"]: e["counts"] for e in result.stages if e["iteration"] == t}
        wanted = t in (0, last) or not arm.ends_only
        iterations.append({"iteration": t, **(measure(policy, config, work_dir) if wanted else {}), "stages": counts})
        tell(1)
    return {"baseline": quality(config.evaluation.baseline, config, work_dir), "iterations": iterations}


def workers() -> int:
    """Worker processes: one per core, each on one thread; a GPU is not shared."""
    import torch

    return 1 if torch.cuda.is_available() else max(1, os.cpu_count() or 1)


def _start_worker(ticks: Any) -> None:
    """A worker counts its finished policies into `ticks`, leaves Ctrl-C to the parent, and ends with it."""
    global _ticks
    _ticks = ticks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A parent that is killed tells nobody; without this its worker would compute on, and keep a core busy."""
    multiprocessing.parent_process().join()
    os._exit(1)  # at once: a stage that is cut off is made again, and locks are the kernel's


def _work(task: Task) -> None:
    setting, arm, seed = task
    run_arm(*task, tick=_ticks)
    if not setting.overrides:  # evidence is kept from the moment it is there
        publish(read_json(setting.computed(arm.name, seed)), RESULTS)


def _run_all(tasks: Sequence[Task]) -> None:
    """Run tasks of any kind in as many workers as there are cores."""
    if not tasks:
        return
    policies = sum(setting.arm_config(arm, seed).iterations + 1 for setting, arm, seed in tasks)
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


def _report(setting: Setting, arms: Sequence[Arm], seeds: Sequence[int], new: set[tuple[str, int]]) -> dict[str, str]:
    """Print and return, for every arm and seed, how this machine's result compares with the committed one.

    `new`, `reproduced` bit for bit, `consistent (...)` with the committed seeds, or `differs (...)`.
    """
    print("This machine's results beside the committed ones:")
    outcome: dict[str, str] = {}
    unlike: list[tuple[RawResult, RawResult]] = []
    for arm in arms:
        states, other = _states(setting, arm, seeds, new)
        outcome |= {f"{arm.name}/seed{seed}": state for seed, state in states.items()}
        unlike += other
        told = "; ".join(f"{n} x {state}" for state, n in Counter(states.values()).items())
        print(f"  {arm.name:28s} {told}")
    if unlike:
        outside = any(state.startswith("differs") for state in outcome.values())
        print("\n".join(why_results_differ(unlike, outside)))
    return outcome


def _states(
    setting: Setting, arm: Arm, seeds: Sequence[int], new: set[tuple[str, int]]
) -> tuple[dict[int, str], list[tuple[RawResult, RawResult]]]:
    """One arm's state by seed, and the pairs (this machine's result, the committed one) that are not equal."""
    states, unlike = {}, []
    for seed in arm.runs_on(seeds):
        mine = read_json(setting.computed(arm.name, seed))
        state = publish(mine, RESULTS)
        states[seed] = "new" if (arm.name, seed) in new else state
        if states[seed].startswith("differs"):
            unlike.append((mine, read_json(setting.committed(arm.name, seed))))
    if unlike:
        own = [mine for mine, _ in unlike]
        other = verdict(compare(own, committed_results(RESULTS, setting.preset, arm.name, new)))
        states |= {mine["seed"]: other for mine in own}
    return states, unlike
