"""A learning rate for RLHF Workflow's own optimizer, found on a development seed and validation prompts.

The recipe at the comparison's sizes (`experiments/claims/recipe_contrasts.py`), with its AdamW and cosine schedule, for
iterations 0 to 3, which take about the tokens that vanilla takes in its four. The rate with the highest win score after
iteration 3 is taken (the smaller of equals). One development seed: its build of the world takes minutes. Rates and rule
were committed before any of them was run. `results/<preset>/development_rlhf_workflow.json` records what was found;
RLHF_WORKFLOW_RATE in `experiments/claims/recipe_contrasts.py` rests on it.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from experiments.claims.recipe_contrasts import BEST_OF_8, recipe_arm
from experiments.compute.arms import DEVELOPMENT_SEEDS, Arm
from experiments.compute.results import RESULTS
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from experiments.development.settings import ON_VALIDATION
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

RATES = (5e-5, 1e-4, 2e-4)  # the preset's 2e-5, found for RMSprop, hardly moves this optimizer
SEED = DEVELOPMENT_SEEDS[0]


def trial(rate: float) -> Arm:
    """The recipe with one of the rates."""
    return recipe_arm("rlhf_workflow", 3, f"rate={rate}", training__learning_rate=rate, **BEST_OF_8)


def searched(preset: str) -> dict[str, Any]:
    """Runs what is missing; by rate the win score, gold and KL after every iteration; and the rate that is taken."""
    setting = Setting(preset, (ON_VALIDATION,))
    compute(setting, [trial(rate) for rate in RATES], (SEED,))
    rows = []
    for rate in RATES:
        iterations = read_json(setting.computed(trial(rate).name, SEED))["iterations"]
        row: dict[str, Any] = {"rate": rate}
        for measure in ("win_score", "gold_mean"):
            row[measure] = [round(point[measure], 3) for point in iterations]
        row["kl_to_sft"] = [round(point["stages"]["kl"]["kl_to_sft"], 3) for point in iterations]
        rows.append(row)
    taken = max(rows, key=lambda row: row["win_score"][-1])["rate"]
    command = f"python -m experiments.development.rlhf_workflow_rate --preset {preset}"
    return {"preset": preset, "seed": SEED, "rows": rows, "taken": taken, "command": command}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    return exit_status(lambda: _write(parser.parse_args(arguments).preset))


def _write(preset: str) -> None:
    found = searched(preset)
    write_json(RESULTS / preset / "development_rlhf_workflow.json", found)
    for row in found["rows"]:
        print(f"  {row['rate']}: win score {row['win_score']}, gold {row['gold_mean']}, KL {row['kl_to_sft']}")
    print(f"  taken: {found['taken']}")


if __name__ == "__main__":
    sys.exit(main())
