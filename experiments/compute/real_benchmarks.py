"""The paper's four benchmarks on a policy of the real model (Table 3), on as many items as take minutes on two cores.

Data come from the Hugging Face hub, or from the folder that `make table3 PRESET=smollm2 DATA_DIR=dir` names. Every
item's score is kept, so that policies can be compared item by item (`claims/no_regression.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eval.benchmarks.compare import item_scores
from eval.benchmarks.results import ModelScores
from eval.benchmarks.run import measure_checkpoint
from eval.benchmarks.suites import SUITES
from optune.store import content_hash
from optune.utils.hashing import stable_hash

SUITE = "paper"
DATA_DIR = "OPTUNE_BENCHMARK_DATA"  # the variable that names the folder
# First items of each lm-eval task, so of each of MMLU's 57 subjects; HellaSwag has all that there are, 1,000 at most.
LIMITS = {"hellaswag": 1000, "mmlu": 5, "truthfulqa_mc2": 200, "gsm8k": 50}
PRECISION = "bfloat16"


def settings() -> dict[str, Any]:
    """What a result depends on beside the model: the data, by their content, among it."""
    folder = os.environ.get(DATA_DIR)
    return {"limits": LIMITS, "dtype": PRECISION, "data": content_hash(folder) if folder else "hub"}


def measure(model: str, out: Path) -> dict[str, Any]:
    """Fractions with standard errors, numbers of items and the items' scores, by column, and the average."""
    scores, items = {}, {}
    for benchmark in SUITES[SUITE]:
        options = ["--tasks", benchmark.task, "--limit", str(LIMITS[benchmark.task]), "--batch-size", "16"]
        options += ["--model-args", f"dtype={PRECISION}"]
        if os.environ.get(DATA_DIR):
            options += ["--data-dir", os.environ[DATA_DIR]]
        scores |= measure_checkpoint(model, SUITE, out / benchmark.task, options).scores
        items |= item_scores(out / benchmark.task, SUITE)
    columns = {}
    for name, score in scores.items():
        kept = {"items": [round(value, 6) for value in items[name].values()], "asked": stable_hash(*items[name])}
        columns[name] = {"value": score.value, "stderr": score.stderr, "n": score.n, **kept}
    value, stderr = ModelScores(model, scores).average(SUITES[SUITE])
    return {"columns": columns, "average": {"value": value, "stderr": stderr}}
