"""Table 4: which answers human raters prefer, OPTune at ratio 0.7 against ratio 1 and against random 0.7.

The paper: 8 raters, 50 LIMA prompts, 400 ratings; 23.44% wins against 25.00% losses with ratio 1, and 24.07% against
14.81% with random selection (percentages that 200 ratings a row cannot give; see `make check-paper`). Differences:
exactly balanced ratings, and intervals that resample prompts. Ratings of people count where `human_study/` in the
preset's results is the study's folder as `python -m eval.human_study import` left it (key.json and ratings.jsonl).
Without it the same pages are rated by simulated raters, who do not read the answers: a dry run of the machinery, and
never a verdict.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from eval.human_study.analysis import analyse
from eval.human_study.export import export
from eval.human_study.ratings import RATINGS_FILE, import_ratings
from eval.human_study.simulate import simulate
from eval.human_study.study import PAPER_COMPARISONS, Comparison, Study, read_key
from experiments.compute.evaluate import STUDY_ARMS
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure
from optune.types import UserError
from optune.utils.files import read_json, write_json

ARMS = tuple(member.probed("study_answers") for member in STUDY_ARMS.values())
DRY_RUN = "dry run, simulated raters"
PAPER_ROWS = {PAPER_COMPARISONS[0][0]: "wdpo-all-1.0", PAPER_COMPARISONS[1][0]: "wdpo-random-0.7"}
OUTCOMES = {"win": "win", "lose": "loss", "tie": "tie"}  # ours: the paper's name


def collect(evidence: Evidence) -> Data:
    """The study's analysis, from people's ratings where there are any; of the first seed's policies."""
    with tempfile.TemporaryDirectory() as temporary:
        study = write_study(evidence.raw, Path(temporary))
        rated = evidence.folder / "human_study"
        if (rated / RATINGS_FILE).exists():
            _check_same(rated, study)
        else:
            rated = Path(temporary)
            import_ratings(rated, simulate(study, rated / "simulated"))
        results = analyse(rated, read_key(rated))
    return {
        "ratings_of": DRY_RUN if results["simulated"] else "people",
        "study": {"prompts": len({pair.prompt_id for pair in study.pairs.values()}), "raters": len(study.raters)},
        "analysis": results,
        "paper": read_json(ROOT / "results" / "published" / "table4.json")["comparisons"],
    }


def write_study(raw: dict[str, list[dict[str, Any]]], folder: Path) -> Study:
    """The study of the first seed's answers, exported to `folder`, as `make human-study` makes it."""
    files = {}
    for name, member in zip(STUDY_ARMS, ARMS, strict=True):
        rows = raw[member.name][0]["answers"]
        files[f"{name}.json"] = write_json(folder / f"{name}.json", [{**row, "generator": name} for row in rows])
    return export([Comparison(name, files[a], files[b]) for name, a, b in PAPER_COMPARISONS], folder)


def _check_same(rated: Path, study: Study) -> None:
    if read_key(rated).study_id != study.study_id:
        raise UserError(
            f"{rated}: its ratings belong to study {read_key(rated).study_id}, and these policies' answers make study "
            f"{study.study_id}; move the folder away, or have these answers rated."
        )


def lines(data: Data) -> list[str]:
    """One row per comparison, ours and the paper's, and how far the raters agree."""
    analysis = data["analysis"]
    told = f"  {analysis['ratings']} of {analysis['ratings_expected']} ratings by {analysis['raters']} raters, percent"
    if data["ratings_of"] == DRY_RUN:
        told = f"  {DRY_RUN.upper()}: says nothing about people or policies.\n{told} ({DRY_RUN})"
    rows = [told, f"  {'':26s}" + "".join(f"{name:22s}" for name in OUTCOMES) + "paper: win, loss, tie"]
    for name, row in analysis["comparisons"].items():
        paper = data["paper"][PAPER_ROWS[name]]
        cells = "".join(f"{_percent(row[outcome]):22s}" for outcome in OUTCOMES)
        rows.append(f"  {name:26s}{cells}" + ", ".join(f"{paper[name]:.2f}" for name in OUTCOMES.values()))
    alpha = analysis["all"]["krippendorff_alpha"]
    return [*rows, f"  Krippendorff's alpha: {_cell(alpha, 1)}"]


def _percent(interval: Data) -> str:
    return _cell(interval, 100)


def _cell(interval: Data, scale: int) -> str:
    if interval["estimate"] is None:
        return "undefined"
    estimate, low, high = (interval[name] for name in ("estimate", "low", "high"))
    limits = "" if low is None else f" [{scale * low:.2f}, {scale * high:.2f}]"
    return f"{scale * estimate:.2f}{limits}"


FIGURE = Figure("Human study of OPTune at ratio 0.7", ARMS, collect, None, lines, one_seed=True)
