"""Recompute what can be recomputed from the paper's own numbers, and say what adds up and what does not.

The numbers are data (`results/published/<table or figure>.json`); what cannot be read from the paper is null there. The
checks are functions in `experiments/paper_checks`, listed in CHECKS. Writes `results/published/check.json`.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.compute.results import ROOT
from experiments.paper_checks import Paper, benchmarks, costs, human_study, method, protocol
from optune.utils.files import read_json, write_json

NAME = "check"
PUBLISHED = ROOT / "results" / "published"
CHECKS = (*costs.CHECKS, *benchmarks.CHECKS, *human_study.CHECKS, *protocol.CHECKS, *method.CHECKS)
MARKS = {"consistent": "ok", "unsupported": "?", "inconsistent": "NO"}


def published(folder: Path = PUBLISHED) -> Paper:
    """The paper's numbers: file name without suffix -> contents."""
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json")) if path.stem != NAME}


def collect(paper: Paper) -> dict[str, Any]:
    """Every check's finding, in the registry's order, and how many there are of each kind."""
    rows = []
    for check in CHECKS:
        title = check.__doc__.strip().splitlines()[0]
        rows.append({"check": check.__name__.replace("_", "-"), "recomputes": title, **asdict(check(paper))})
    counts = Counter(row["verdict"] for row in rows)
    return {"command": "make check-paper", "counts": {verdict: counts[verdict] for verdict in MARKS}, "checks": rows}


def show(data: dict[str, Any]) -> None:
    """One paragraph per check."""
    for row in data["checks"]:
        print(f"[{MARKS[row['verdict']]:>2}] {row['recomputes']} ({row['source']})")
        print(f"     published: {row['published']}; recomputed: {row['recomputed']}")
        print(textwrap.fill(row["meaning"], 115, initial_indent="     ", subsequent_indent="     "))
    print(", ".join(f"{n} {verdict}" for verdict, n in data["counts"].items()))


def check() -> None:
    """Print the findings and write them."""
    data = collect(published())
    show(data)
    path = write_json(PUBLISHED / f"{NAME}.json", data)
    print(f"Wrote {path.relative_to(ROOT)}")
