"""RLHF Workflow's Table 4: what a length penalty and a more length-biased reward model do to the final policy.

The paper: with a penalty of 0.001 a character answers are shorter (382 against 656) and win more often at controlled
length (38.1 against 31.3), with UltraRM-13B longer (745) and less often (20.7); one run each, no errors. Here: the
recipe at the comparison's sizes for four rounds, three seeds of three builds, the policy that validation chooses. The
penalty comes to the same sum on an answer of the SFT policy's length. UltraRM's place is taken by a reward model that
learned from the same preferences, three in ten of them decided by length. Lengths are in tokens, of the chosen policy's
greedy answers to the validation prompts: AlpacaEval's own mean length is a whole number, too coarse for answers of five
tokens. The recipe's AdamW at this learning rate hardly moves the policy (see its KL), so that the rows can differ by
little. Beside the rows the SFT policy and the offline baseline: with them the table is also what our suite covers of
the paper's Tables 2 and 3 (AlpacaEval's length-controlled rate, benchmarks of its own in the sandbox). Not covered here
are MT-Bench, Chat-Arena-Hard, HumanEval, MBPP and ARC: a word world has nothing of their kind, and `eval` runs them on
real models. Descriptive: three seeds carry no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure, interval, shown
from experiments.rlhf_workflow.probes import ABLATION, PENALTY
from optune.utils.files import read_json

COLUMNS = {"lc": "LC AlpacaEval", "length": "tokens", "kl": "KL to SFT", "win_score": "win score", "gold": "gold"}
DIGITS = {"length": 2, "kl": 3, "gold": 2}


def collect(evidence: Evidence) -> Data:
    """Per row each column with its 95% t interval over seeds, and paired differences from the first row."""
    raw = evidence.raw
    rows = {label: list(map(_columns, raw[member.name])) for label, member in ABLATION.items()}
    first = next(iter(raw.values()))
    return {
        "penalty": PENALTY,
        "rows": {
            "SFT policy": _over([_reference(result, "sft") for result in first]),
            "offline baseline": _over([_reference(result, "baseline") for result in first]),
            **{label: _over(seeds) for label, seeds in rows.items()},
        },
        "minus_ours": {
            label: _over(_differences(seeds, rows["ours"])) for label, seeds in rows.items() if label != "ours"
        },
        "chosen": {label: _chosen(raw[member.name]) for label, member in ABLATION.items()},
        "paper": read_json(ROOT / "results" / "published" / "rlhf_workflow.json")["table4"],
    }


def _columns(result: dict[str, Any]) -> dict[str, float]:
    own = {
        "lc": result["alpaca"]["length_controlled_winrate"],
        "length": _validation_tokens(result),
        "kl": result["kl_to_sft"][result["chosen"]],
        "win_score": result["measured"]["win_score"],
        "gold": result["measured"]["gold_mean"],
    }
    return own | _benchmarks(result["benchmarks"]["models"]["final"])


def _reference(result: dict[str, Any], name: str) -> dict[str, float]:
    """The SFT policy's and the baseline's benchmarks, and the former's AlpacaEval rate against the latter."""
    rates = result["alpaca_sft"] if name == "sft" else {"length_controlled_winrate": 50.0}
    return {"lc": rates["length_controlled_winrate"]} | _benchmarks(result["benchmarks"]["models"][name])


def _validation_tokens(result: dict[str, Any]) -> float:
    """Mean tokens of the chosen policy's answers to the validation prompts.

    `response_length` has two numbers an iteration: of the responses it samples, then of its policy's on validation.
    """
    return result["response_length"][1::2][result["chosen"]]


def _benchmarks(measured: dict[str, Any]) -> dict[str, float]:
    return {name: 100 * score["value"] for name, score in measured["columns"].items()}


def _chosen(results: Sequence[dict[str, Any]]) -> list[int]:
    """The round whose policy validation chose, by seed."""
    return [result["chosen"] for result in results]


def _differences(seeds: Sequence[dict[str, float]], ours: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Each seed's columns minus those of the same seed's first row."""
    differences = []
    for columns, own in zip(seeds, ours, strict=True):
        differences.append({name: columns[name] - own[name] for name in columns})
    return differences


def _over(seeds: Sequence[dict[str, float]]) -> Data:
    """Each column's mean over seeds with its interval."""
    intervals = {}
    for name in seeds[0]:
        intervals[name] = interval([round(columns[name], 6) for columns in seeds])
    return intervals


def lines(data: Data) -> list[str]:
    """Ours with intervals, differences from the first row, then the paper's."""
    columns = list(data["rows"]["ours"])
    rows = [f"  {'':34s}" + "".join(f"{COLUMNS.get(name, name):22s}" for name in columns)]
    for part, prefix in (("rows", ""), ("minus_ours", "minus ours: ")):
        for label, intervals in data[part].items():
            cells = (shown(intervals.get(name), DIGITS.get(name, 1)) for name in columns)
            rows.append(f"  {prefix + label:34s}" + "".join(f"{cell:22s}" for cell in cells))
    rows.append(f"  {'the paper':34s}" + "".join(f"{name:18s}" for name in data["paper"]["columns"]))
    for label, values in data["paper"]["models"].items():
        rows.append(f"  {label:34s}" + "".join(f"{value:<18g}" for value in values))
    return [line.rstrip() for line in rows]


FIGURE = Figure(
    "RLHF Workflow, Table 4: length penalty and reward model", tuple(ABLATION.values()), collect, None, lines
)
