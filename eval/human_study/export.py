"""Write a study to a folder: what raters get, and the key they must not get.

OUT/pages/<rater>.html        one page per rater: the usual way
OUT/label_studio/             tasks per rater and the labelling interface
OUT/csv/<rater>.csv           a table per rater
OUT/key.json                  which model wrote which answer: keep it
OUT/ratings.jsonl             what import has accepted
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eval.human_study.design import draw_study
from eval.human_study.label_studio import CONFIG, write_label_studio
from eval.human_study.page import TEMPLATE, render_page
from eval.human_study.spreadsheet import write_csv
from eval.human_study.study import KEY_FILE, Comparison, Study, digest, read_key, write_key
from optune.types import UserError
from optune.utils.files import write_text


def export(comparisons: Sequence[Comparison], out: str | Path, **settings: int) -> Study:
    """Draw a study (`settings` as for `draw_study`) and write it; the same study again changes nothing.

    Raises UserError where the folder already holds another study. The key is written last: a folder with a key is
    whole.
    """
    out = Path(out)
    study = draw_study(comparisons, version=digest(TEMPLATE, CONFIG), **settings)
    if (out / KEY_FILE).exists():
        present = read_key(out)
        if present.study_id != study.study_id:
            raise UserError(
                f"{out}: holds study {present.study_id}, not this one ({study.study_id}); take another folder."
            )
        return present
    digests = {}
    for rater in study.raters:
        page, digests[rater] = render_page(study, rater)
        write_text(out / "pages" / f"{rater}.html", page)
    write_label_studio(out / "label_studio", study)
    write_csv(out / "csv", study)
    study = replace(study, page_digests=digests)
    write_key(out, study)
    return study
