"""Whether a policy falls behind its start policy is told item by item, and by a rule that can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.claims.no_regression import MARGIN, against_start, verdict
from experiments.compute.arms import BENCHMARKED
from experiments.compute.results import raw_path
from experiments.compute.setting import Setting
from experiments.figures.registry import figure_of
from experiments.paper.table3_benchmarks import MEASURES_ALL
from optune.config import load_config
from optune.types import UserError
from optune.utils.files import write_json

COLUMNS = ("HellaSwag", "MMLU", "TruthfulQA", "GSM8K")
SEEDS = (1, 2, 4)


def scores(gain: float = 0.0, seed: int = 0, asked: str = "a", n: int = 400) -> dict:
    """A model that is right on about half of the items, the same ones for every model, and on a share `gain` more."""
    rng = np.random.default_rng(7)
    columns = {}
    for name in COLUMNS:
        right = rng.random(n) < 0.5
        changed = np.random.default_rng(seed).random(n) < abs(gain)
        items = np.where(changed, gain > 0, right).astype(float)
        columns[name] = {"value": items.mean(), "stderr": 0.01, "n": n, "items": items.tolist(), "asked": asked}
    mean = float(np.mean([column["value"] for column in columns.values()]))
    return {"columns": columns, "average": {"value": mean, "stderr": 0.01}}


def average(gain: float) -> dict:
    return against_start([scores(gain, seed) for seed in (1, 2, 3)], scores())["average"]


def test_a_policy_that_lost_much_contradicts_one_that_gained_does_not():
    worse, same, better = average(-0.2), average(0.0), average(0.2)
    assert same == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert worse["high"] < 0 < better["low"] and worse["mean"] == pytest.approx(-10, abs=2)
    assert verdict([same, better], 3) == "replicated"
    assert verdict([same, worse], 3) == "contradicted"
    assert verdict([better, {"mean": -1.0, "low": -MARGIN - 0.1, "high": 0.5}], 3) == "inconclusive"
    assert verdict([better], 2) == "preview: no verdict"


def test_items_of_other_data_are_never_compared():
    with pytest.raises(UserError, match="HellaSwag: the policies were not asked the same items"):
        against_start([scores(), scores(asked="b")], scores())


def test_table_3_of_the_real_model_shows_the_three_policies_beside_the_start_policy(tmp_path: Path):
    for seed in SEEDS:
        for member in BENCHMARKED:
            name, models = member.probed("benchmarks").name, {"final": scores(-0.2, seed + 1)}
            models |= {"sft": scores()} if name == MEASURES_ALL else {}
            made = {
                "preset": "smollm2",
                "config": load_config("smollm2").model_dump(),
                "sandbox": None,
                "arm": name,
                "seed": seed,
                "build": seed // 2,
            }
            write_json(raw_path(tmp_path, "smollm2", name, seed), {**made, "suite": "paper", "models": models})
    figure = figure_of("table3")
    data = figure.data(Setting("smollm2"), tmp_path)
    assert list(data["models"]) == ["sft", *(member.name for member in BENCHMARKED)]
    assert data["verdict"] == "contradicted" and data["items"] == dict.fromkeys(COLUMNS, 400)
    assert any("contradicted (margin: 2 points)" in line for line in figure.lines(data))
