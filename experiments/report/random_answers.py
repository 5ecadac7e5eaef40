"""Answers of the final policies, drawn at random and never chosen: what the numbers of the real model look like.

`python -m experiments.report.random_answers --preset smollm2 --seeds 4` draws COUNT of all pairs of a run (wDPO, each
strategy and ratio) and a test prompt of each seed, on the machine that has the seed's runs, since policies are not
committed. `results/<preset>/random_answers.json` keeps them, and the report shows COUNT of those, drawn again: each
answer of each seed is as likely as any other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from experiments.claims.real_model import WDPO_ARMS
from experiments.compute.arms import Arm
from experiments.compute.evaluate import final_policy
from experiments.compute.measure import answers_of
from experiments.compute.results import RESULTS
from experiments.compute.setting import Setting
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

COUNT = 20
FILE = "random_answers.json"


def drawn(setting: Setting, seed: int, arms: Sequence[Arm] = WDPO_ARMS) -> list[dict[str, Any]]:
    """COUNT answers of a seed's runs, each with its arm, seed, prompt, gold and the share of constraints met.

    The draw depends on the seed and on which runs there are. Raises UserError where one is not on this machine.
    """
    runs = [arm for arm in arms if setting.committed(arm.name, seed).exists()]
    if not runs or not all(setting.computed(arm.name, seed).exists() for arm in runs):
        raise UserError(f"Runs of seed {seed} are not here: make fig3 PRESET={setting.preset} SEEDS={seed} makes them.")
    last = [read_json(setting.computed(arm.name, seed))["iterations"][-1] for arm in runs]
    pairs = [(run, place) for run in range(len(runs)) for place in range(len(last[run]["gold"]))]
    rows = []
    for run, place in sorted(Random(seed).sample(pairs, COUNT)):
        config = setting.resolve(setting.arm_config(runs[run], seed))
        answer = answers_of(final_policy(setting, runs[run], seed), config, setting.work_dir)[place]
        told = {"prompt": answer["instruction"], "answer": answer["output"]}
        known = {name: last[run][name][place] for name in ("gold", "met")}
        rows.append({"arm": runs[run].name, "seed": seed, **told, **known})
    return rows


def add(preset: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Draw from the seeds that have no answers yet; write and return all rows."""
    path = RESULTS / preset / FILE
    rows = read_json(path) if path.exists() else []
    for seed in sorted({*seeds} - {row["seed"] for row in rows}):
        rows += drawn(Setting(preset), seed)
    write_json(path, rows)
    return rows


def section(preset: str) -> Iterable[str]:
    """The report's list of them, as quoted text."""
    path = RESULTS / preset / FILE
    if not path.exists():
        return
    everything = read_json(path)
    rows = [everything[i] for i in sorted(Random(0).sample(range(len(everything)), min(COUNT, len(everything))))]
    seeds = ", ".join(map(str, sorted({row["seed"] for row in everything})))
    yield f"## {len(rows)} answers drawn at random\n"
    yield "Of all final policies under wDPO and all test prompts; none was chosen. Gold is from 1 to 10."
    yield f"Seeds drawn from: {seeds}.\n"
    for row in rows:
        yield f"**{row['arm']}, seed {row['seed']}**; gold {row['gold']:.1f}, constraints met {row['met']:.0%}\n"
        yield _quoted("Prompt: " + row["prompt"]) + "\n"
        yield _quoted(row["answer"] or "(empty)") + "\n"


def _quoted(text: str) -> str:
    """A code block: a model's text is neither Markdown nor HTML of ours."""
    return "\n".join("    " + line for line in text.splitlines())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="smollm2")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    options = parser.parse_args(arguments)
    return exit_status(lambda: print(f"{len(add(options.preset, options.seeds))} answers are kept."))


if __name__ == "__main__":
    sys.exit(main())
