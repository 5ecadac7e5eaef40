"""How well the real model's reward models agree with gold: `make reward-models PRESET=smollm2 SEEDS="1 2 4"`.

Measured on the start policy's own answers to validation prompts, about topics that no reward model saw. Each build is
made if it is not there; `results/<preset>/reward_models.json` keeps a row for every one that has been measured. Two
machines make two reward models of one build, so a row names its machine and the model's hash.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eval.stats import wilson
from experiments.compute.arms import ONE_OF_EACH_BUILD, build_of
from experiments.compute.machine import machine, machine_text
from experiments.compute.results import RESULTS
from experiments.compute.setting import RUNS, Setting
from optune import instructions
from optune.packaged_models.names import resolve_packaged
from optune.store import STAGE_FILE, StageStore, content_hash
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json
from optune.utils.threads import cpu_threads

FILE = "reward_models.json"
PROMPTS = 150
OWN_ALONE = {"off_topic": 0, "edited": 0}  # no answers but the policy's own
THREADS = 2


def held_out(start: Path, root: Path) -> Path:
    """The start policy's answers to validation prompts with their gold, as a Parquet file; sampled once."""
    from optune.instructions.parts.reward_model import ANSWERS, RewardBuild, graded

    settings = RewardBuild(**OWN_ALONE)

    def sample(folder: Path) -> dict[str, Any]:
        with cpu_threads(THREADS):
            table = graded(
                start, instructions.prompts("validation", PROMPTS), settings, seed=0, part="held-out answers"
            )
        table.to_parquet(folder / ANSWERS)
        return {"rows": {"answers": len(table)}}

    sizes = ("samples", "max_new_tokens", "dtype")
    fields = {"prompts": PROMPTS, **{name: getattr(settings, name) for name in sizes}}
    inputs = {"policy": content_hash(start), "instructions": instructions.content_hash()}
    return StageStore(root).run("instructions_held_out", sample, fields=fields, inputs=inputs) / ANSWERS


def measure(preset: str, builds: Sequence[int]) -> list[dict[str, Any]]:
    """Add a row for every build whose reward model has none; write and return all rows."""
    import pandas as pd

    from optune.instructions.parts.reward_model import build, report

    config = Setting(preset).config
    if not config.instructions:
        raise UserError(f"Preset {preset!r} trains no reward models on instructions; use smollm2.")
    start, root = Path(resolve_packaged(config).policy.model), RUNS / "instructions"
    path = RESULTS / preset / FILE
    rows = read_json(path)["reward_models"] if path.exists() else []
    seeds = " ".join(map(str, ONE_OF_EACH_BUILD))
    for number in builds:
        model = build(start, number, root)
        known = {"build": number, "model": content_hash(model)}
        if any(known.items() <= row.items() for row in rows):
            continue
        with cpu_threads(THREADS):
            quality = report(model, pd.read_parquet(held_out(start, root)))
        training_s = read_json(model / STAGE_FILE)["timing"]["wall_s"]
        rows.append({**known, **quality, "training_s": training_s, "machine": machine()})
        write_json(path, {"command": f'make reward-models PRESET={preset} SEEDS="{seeds}"', "reward_models": rows})
    return rows


def lines(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """The rows as a table."""
    agreement = "a point apart | of these, only the text differs | only the constraints differ | all pairs"
    yield f"| build | agreement, {agreement} | rank correlation across prompts | training alone took | machine |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        shares = " | ".join(_share(row, name) for name in ("gap_1", "text", "constraints", "all"))
        across = f"{row['rank_correlation_across_prompts']:.2f}"
        made = f"{row['training_s'] / 60:.0f} min | {machine_text(row['machine'])}"
        yield f"| {row['build']} | {shares} | {across} | {made} |"


def _share(row: dict[str, Any], name: str) -> str:
    """An agreement with Wilson's 95% interval, as if pairs of one prompt told nothing of each other."""
    share, n = row.get(f"agreement_{name}"), row["pairs"].get(name)
    if share is None:
        return "-"
    limits = wilson(round(share * n), n)
    return f"{share:.2f} [{limits.low:.2f}, {limits.high:.2f}] of {n}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="smollm2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[*ONE_OF_EACH_BUILD], help="whose builds: one of each")
    options = parser.parse_args(arguments)
    builds = sorted({build_of(seed, "instructions") for seed in options.seeds})
    return exit_status(lambda: print("\n".join(lines(measure(options.preset, builds)))))


if __name__ == "__main__":
    sys.exit(main())
