"""Simulated raters for dry runs and tests, through the page's own file format. They measure nothing about people.

Every pair has a latent quality difference and every rater sees it with noise; a small perceived difference is a tie.
The files say that they are simulated, import keeps that apart from people's ratings, and analyse says it on top.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.human_study.page import RATINGS_FORMAT
from eval.human_study.study import Study
from optune.utils.files import write_json
from optune.utils.hashing import stable_seed


def simulate(
    study: Study, folder: str | Path, *, seed: int = 0, noise: float = 0.8, tie_width: float = 0.7
) -> list[Path]:
    """Write one ratings file per rater; the same study and seed give the same ratings, whatever page they are made on.

    `noise` is a rater's standard deviation against 1 for the pairs' differences; a perceived difference below
    `tie_width` is a tie.
    """
    items = [item.item_id for item in study.items]  # drawn from the answers and the study's numbers
    rng = np.random.default_rng(stable_seed("simulated raters", items, seed))
    differences = dict(zip(study.pairs, rng.normal(size=len(study.pairs)), strict=True))
    paths = []
    for rater in study.raters:
        rows = []
        for item in study.items_of(rater):
            perceived = differences[item.pair_id] + noise * rng.normal()
            choice = "same" if abs(perceived) < tie_width else "1" if (perceived > 0) == item.a_first else "2"
            rows.append({"item": item.item_id, "item_digest": study.item_digest(item), "choice": choice})
        content = {
            "format": RATINGS_FORMAT,
            "simulated": True,
            "study": study.study_id,
            "rater": rater,
            "page_digest": study.page_digests[rater],
            "ratings": rows,
        }
        paths.append(write_json(Path(folder) / f"simulated-{study.study_id}-{rater}.json", content))
    return paths
