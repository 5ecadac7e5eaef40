"""The Always-On-Policy paper's Table 4: people's votes, always- against starts-on-policy prompts after iteration 2.

The paper: 100 prompts, several raters (how many is not stated), models masked, the answers' order shuffled, votes
counted once the order is undone. All of it is what `eval.human_study` does; votes are counted by `votes.py`. Three
raters, an odd number, see every pair. Ratings of people count where `aop_human_study/` in the preset's results is the
study's folder as `python -m eval.human_study import` left it. Without it simulated raters, who do not read the answers,
rate the same pages: a dry run of the machinery, and never a finding.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from eval.human_study.export import export
from eval.human_study.ratings import RATINGS_FILE, import_ratings, read_ratings
from eval.human_study.simulate import simulate
from eval.human_study.study import Comparison, Study, read_key
from eval.human_study.votes import votes
from experiments.always_on_policy.probes import CONTESTS, VOTED
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, Figure
from optune.types import UserError
from optune.utils.files import read_json, write_json

DRY_RUN = "dry run, simulated raters"
RATERS = 3
COMPARISON = "always- against starts-on-policy, iteration 2"


def collect(evidence: Evidence) -> Data:
    """The votes, of people where there are any; on the first seed's policies."""
    raw = evidence.raw
    with tempfile.TemporaryDirectory() as temporary:
        study = write_study(raw[CONTESTS.name][0]["answers"], Path(temporary))
        rated = evidence.folder / "aop_human_study"
        if (rated / RATINGS_FILE).exists():
            if read_key(rated).study_id != study.study_id:
                raise UserError(f"{rated}: its ratings belong to a study of other answers; move the folder away.")
        else:
            rated = Path(temporary)
            import_ratings(rated, simulate(study, rated / "simulated"))
        key = read_key(rated)
        ratings = read_ratings(rated, key)
        counted = votes(rated, key)[COMPARISON]
    return {
        "ratings_of": DRY_RUN if any(rating.simulated for rating in ratings) else "people",
        "study": {"prompts": len(study.pairs), "raters": len(study.raters), "ratings": len(ratings)},
        "votes": counted,
        "paper": read_json(ROOT / "results" / "published" / "always_on_policy.json")["table4"]["iterations"]["2"],
    }


def write_study(answers: dict[str, list[Data]], folder: Path) -> Study:
    """The pages for people, from both recipes' answers."""
    files = {
        name: write_json(folder / f"{name}.json", [{**row, "generator": name} for row in rows])
        for name, rows in answers.items()
    }
    comparison = Comparison(COMPARISON, files["aop"], files["sop"])
    return export([comparison], folder, prompts=VOTED, raters=RATERS, ratings_per_pair=RATERS)


def lines(data: Data) -> list[str]:
    """The row of the table, ours and the paper's."""
    rows = [f"  {data['study']['prompts']} prompts, {data['study']['raters']} raters ({data['ratings_of']}), percent"]
    if data["ratings_of"] == DRY_RUN:
        rows.insert(0, f"  {DRY_RUN.upper()}: says nothing about people or policies.")
    cells = (data["votes"][outcome] for outcome in ("win", "lose", "tie"))
    told = ", ".join(f"{100 * c['estimate']:.0f} [{100 * c['low']:.0f}, {100 * c['high']:.0f}]" for c in cells)
    paper = ", ".join(f"{data['paper'][outcome]:.0f}" for outcome in ("win", "lose", "tie"))
    return [*rows, f"  AOP wins, SOP wins, ties: {told}; paper: {paper}"]


FIGURE = Figure("Always-On-Policy, Table 4: people's votes", (CONTESTS,), collect, None, lines, one_seed=True)
