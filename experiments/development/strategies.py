"""Which of our further selection strategies is best, decided on development seeds and validation prompts alone.

Hypotheses: see `optune/selection/further.py`. Each strategy of FURTHER, and the paper's beside them, is run at ratio
0.5 with wDPO on the development seeds. The further one with the best mean gold at the last iteration (the rule in
`claims.py`) is then compared with `lowest_reward` once, on report seeds. (`lowest_centered` is compared there anyhow,
as a control: `when_selection_pays.py`.) `results/<preset>/development_strategies.json` records what was found, and
BEST_STRATEGY in `arms.py` rests on it.
"""

from __future__ import annotations

import argparse
import sys
from statistics import fmean
from typing import Any

from experiments.compute.arms import DEVELOPMENT_SEEDS, arm
from experiments.compute.results import RESULTS, read_raw
from experiments.compute.run_arms import compute
from experiments.compute.setting import Setting
from experiments.development.settings import ON_VALIDATION
from optune.utils.command import exit_status
from optune.utils.files import write_json

FURTHER = ("low_and_varied", "stalest", "retiring", "learnable")
RATIO = 0.5
ARMS = {strategy: arm("wdpo", strategy, RATIO) for strategy in ("lowest_reward", *FURTHER)}
MEASURES = ("gold_mean", "win_score")


def compared(preset: str) -> dict[str, Any]:
    """Runs what is missing; see `summary`."""
    setting = Setting(preset, (ON_VALIDATION,))
    compute(setting, tuple(ARMS.values()), DEVELOPMENT_SEEDS)
    raw = read_raw(setting.base, preset, tuple(ARMS.values()), DEVELOPMENT_SEEDS)
    comparison = summary({strategy: raw[a.name] for strategy, a in ARMS.items()})
    world = raw[ARMS["lowest_reward"].name][0]["sandbox"]
    facts = {"preset": preset, "ratio": RATIO, "loss": "wdpo", "seeds": list(DEVELOPMENT_SEEDS), "sandbox": world}
    return {**facts, "command": f"make develop-strategies PRESET={preset}", **comparison}


def summary(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Per strategy and measure, values at iterations 1 to the last, seed by seed, and their means; and the best one."""
    strategies: dict[str, Any] = {}
    for strategy, of_seeds in results.items():
        by_seed: dict[str, list[list[float]]] = {}
        means: dict[str, list[float]] = {}
        for measure in MEASURES:
            rows = []
            for result in of_seeds:
                rows.append([point[measure] for point in result["iterations"][1:]])
            by_seed[measure] = rows
            means[measure] = [round(fmean(values), 4) for values in zip(*rows, strict=True)]
        strategies[strategy] = {"mean": means, "by_seed": by_seed}
    best = max((s for s in strategies if s in FURTHER), key=lambda s: strategies[s]["mean"]["gold_mean"][-1])
    return {"strategies": strategies, "best": best}


def lines(comparison: dict[str, Any]) -> list[str]:
    """One strategy per line, then the best."""
    rows = []
    for strategy, values in comparison["strategies"].items():
        gold, score = (values["mean"][m] for m in MEASURES)
        told = ", ".join(f"{g:.3f} ({s:.1f})" for g, s in zip(gold, score, strict=True))
        rows.append(f"  {strategy:16s} gold (win score) at iterations 1, 2, ...: {told}")
    return [*rows, f"  Best mean gold at the last iteration of the further strategies: {comparison['best']}"]


def _write(preset: str) -> None:
    comparison = compared(preset)
    write_json(RESULTS / preset / "development_strategies.json", comparison)
    print("\n".join(lines(comparison)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    preset = parser.parse_args(arguments).preset
    return exit_status(lambda: _write(preset))


if __name__ == "__main__":
    sys.exit(main())
