"""What the frozen settings rest on: ratio-1 DPO on development seeds, measured on validation prompts.

Only plain DPO at ratio 1 is ever run here, so that no comparison of arms can leak into a setting. Two uses:
`python -m experiments.development --grid` tries learning rates, beta_1 and epochs, one seed each, and prints gold at
every iteration; without it, the preset as it stands is run on all development seeds and
`results/<preset>/development.json` records ratio 1's gain from iteration 0 to 3, from which the parity margin follows.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import Any

from eval.stats import t_interval
from experiments.arms import DEVELOPMENT_SEEDS, arm
from experiments.compute import RESULTS, base_of, compute
from experiments.results import raw_path
from optune.artefacts import read_json, write_json
from optune.types import UserError

ARM = arm("dpo", "all")
ON_VALIDATION = "evaluation.prompts=sandbox:validation"
GRID = {
    "training.learning_rate": (1e-5, 3e-5, 6e-5),
    "loss.beta_1": (0.03, 0.1),
    "training.epochs": (1, 2),
}


def grid(preset: str, seed: int = DEVELOPMENT_SEEDS[0]) -> list[dict[str, Any]]:
    """Gold and KL at every iteration for each combination of GRID; one row each, as finished."""
    rows = []
    for values in itertools.product(*GRID.values()):
        settings = dict(zip(GRID, values, strict=True))
        overrides = [ON_VALIDATION, *(f"{name}={value}" for name, value in settings.items())]
        compute(preset, [ARM], [seed], overrides)
        iterations = read_json(raw_path(base_of(preset, overrides), preset, ARM.name, seed))["iterations"]
        row = {**settings, **{f"gold_{i['iteration']}": round(i["gold_mean"], 3) for i in iterations}}
        row["kl"] = iterations[-1]["stages"]["kl"]["kl_to_sft"]
        rows.append(row)
        print(row, flush=True)
    return rows


def gain(preset: str) -> dict[str, Any]:
    """Ratio 1's gain from iteration 0 to 3, per outcome: mean and 95% t interval over the development seeds."""
    compute(preset, [ARM], DEVELOPMENT_SEEDS, [ON_VALIDATION])
    results = [
        read_json(raw_path(base_of(preset, [ON_VALIDATION]), preset, ARM.name, seed)) for seed in DEVELOPMENT_SEEDS
    ]
    found: dict[str, Any] = {
        "preset": preset,
        "arm": ARM.name,
        "seeds": list(DEVELOPMENT_SEEDS),
        "sandbox": results[0]["sandbox"],
        "command": f"make develop PRESET={preset}",
    }
    for measure in ("win_score", "gold_mean"):
        first, last = ([r["iterations"][t][measure] for r in results] for t in (0, -1))
        interval = t_interval([b - a for a, b in zip(first, last, strict=True)])
        found[measure] = {"first": first, "last": last, "gain": interval.estimate}
        found[measure] |= {"low": interval.low, "high": interval.high}
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--grid", action="store_true", help="try settings on one development seed")
    options = parser.parse_args(arguments)
    try:
        if options.grid:
            write_json(RESULTS / options.preset / "development_grid.json", grid(options.preset))
        else:
            found = gain(options.preset)
            write_json(RESULTS / options.preset / "development.json", found)
            for measure in ("win_score", "gold_mean"):
                print(f"  {measure}: gain {found[measure]['gain']:.2f} [{found[measure]['low']:.2f}, ", end="")
                print(f"{found[measure]['high']:.2f}] from iteration 0 to 3")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
