"""RLHF Workflow's Table 1: a reward model, a pairwise preference model and a prompted one on held-out preferences.

The paper: 8B models on RewardBench's four categories; prompting is below both, the preference model above the
Bradley-Terry one in reasoning. Here: the sandbox's families in four kinds, about a thousand comparisons between other
writers' responses, decided by the sandbox's noisy annotator. Both models learn from the same preferences, in one pass
with the same settings (none was tuned for the preference model), from the SFT policy. `prompted` is that policy without
training, which cannot follow such a prompt; the sandbox's judge, which sees gold with noise, stands for a prompted
large model, gold itself for the most that anything can agree with this annotator, and length is a control. Descriptive:
no claim rests on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, interval, shown
from experiments.rlhf_workflow.probes import CATEGORIES, REWARD_MODELS
from optune.utils.files import read_json

LABELS = {
    "prompted": "SFT policy, prompted",
    "judge": "sandbox judge, prompted",
    "bradley_terry": "Bradley-Terry",
    "bradley_terry_long": "Bradley-Terry, length-biased",
    "preference": "preference model",
    "length": "the longer answer",
    "gold": "gold",
}


def collect(evidence: Evidence) -> Data:
    """Share of agreements in percent by kind of judge and category, with 95% t intervals over builds."""
    raw = evidence.raw
    results = [result["agreement"] for result in raw[REWARD_MODELS.name]]
    return {
        "categories": {name: list(families) for name, families in CATEGORIES.items()},
        "comparisons": {name: category["n"] for name, category in results[0]["gold"]["categories"].items()},
        "models": {name: _shares([result[name] for result in results]) for name in LABELS},
        "paper": read_json(ROOT / "results" / "published" / "rlhf_workflow.json")["table1"],
    }


def _shares(builds: Sequence[Data]) -> Data:
    shares = {}
    for name in CATEGORIES:
        shares[name] = _percent([build["categories"][name] for build in builds])
    return {**shares, "all": _percent(builds)}


def _percent(counts: Sequence[Data]) -> Data:
    return interval([100 * count["agreed"] / count["n"] for count in counts])


def lines(data: Data) -> list[str]:
    """A table of ours, then the paper's."""
    columns = [*data["categories"], "all"]
    rows = [f"  {'percent':32s}" + "".join(f"{name:20s}" for name in columns)]
    for name, shares in data["models"].items():
        rows.append(f"  {LABELS[name]:32s}" + "".join(f"{shown(shares[column]):20s}" for column in columns))
    rows.append(f"  {'comparisons':32s}" + "".join(f"{n:<20d}" for n in data["comparisons"].values()))
    rows.append(f"  {'the paper':32s}" + "".join(f"{name:20s}" for name in data["paper"]["columns"]))
    for name, values in data["paper"]["models"].items():
        rows.append(f"  {name:32s}" + "".join(f"{value:<20.1f}" for value in values))
    return [line.rstrip() for line in rows]


FIGURE = Figure("RLHF Workflow, Table 1: kinds of reward models", (REWARD_MODELS,), collect, None, lines)
