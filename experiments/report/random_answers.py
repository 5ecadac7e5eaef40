"""Answers of the final policies, drawn at random and never chosen: what the numbers of the real model look like.

`python -m experiments.report.random_answers --preset smollm2` draws COUNT of all pairs of a run (wDPO, each strategy
and ratio, each committed seed) and a test prompt, from the runs on this machine; `results/<preset>/random_answers.json`
keeps them.
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


def drawn(setting: Setting, arms: Sequence[Arm] = WDPO_ARMS) -> list[dict[str, Any]]:
    """COUNT answers, each with its arm, seed, prompt, gold and the share of constraints met.

    The draw depends on which runs there are, and on nothing else. Raises UserError where there is none.
    """
    runs = []
    for arm in arms:
        seeds = sorted(int(path.stem[4:]) for path in setting.committed(arm.name, 0).parent.glob("seed*.json"))
        runs += [(arm, seed) for seed in seeds]
    if not runs:
        raise UserError(f"There are no results of preset {setting.preset} yet: run `make fig3` with it.")
    prompts = len(read_json(setting.committed(runs[0][0].name, runs[0][1]))["iterations"][-1]["gold"])
    pairs = [(run, place) for run in range(len(runs)) for place in range(prompts)]
    rows = []
    for run, place in sorted(Random(0).sample(pairs, COUNT)):
        arm, seed = runs[run]
        config = setting.resolve(setting.arm_config(arm, seed))
        answer = answers_of(final_policy(setting, arm, seed), config, setting.work_dir)[place]
        last = read_json(setting.committed(arm.name, seed))["iterations"][-1]
        known = {"gold": last["gold"][place], "met": last["met"][place]}
        rows.append(
            {"arm": arm.name, "seed": seed, "prompt": answer["instruction"], "answer": answer["output"], **known}
        )
    return rows


def section(preset: str) -> Iterable[str]:
    """The report's list of them, as quoted text."""
    path = RESULTS / preset / FILE
    if not path.exists():
        return
    rows = read_json(path)
    yield f"## {len(rows)} answers drawn at random\n"
    yield "Of all final policies under wDPO and all test prompts; none was chosen. Gold is from 1 to 10.\n"
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
    preset = parser.parse_args(arguments).preset
    return exit_status(lambda: print(write_json(RESULTS / preset / FILE, drawn(Setting(preset)))))


if __name__ == "__main__":
    sys.exit(main())
