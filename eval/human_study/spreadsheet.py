"""The study as one CSV per rater, safe to open in a spreadsheet; the rater fills the last column.

A cell that a spreadsheet could take for a formula, a number or a date gets an apostrophe in front, which is removed on
reading. Ids get a word in front.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from eval.human_study.study import Study, digest, plain_lines
from eval.human_study.submission import Row, Submission
from optune.types import UserError
from optune.utils.files import write_bytes

COLUMNS = ("study", "rater", "item", "question", "answer_1", "answer_2", "rating (1 or 2 or same)")
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # a spreadsheet may narrow the wide ones
LONGEST_CELL = 100_000_000
LONGEST_VALUE = 40  # characters of a number or a date, at most


def guard(text: str) -> str:
    """The text as a cell that no spreadsheet runs; `unguard` gives the text back exactly.

    White space and control characters in front do not hide a formula, and a leading apostrophe is doubled.
    """
    visible = text.lstrip("".join(map(chr, range(33))) + "\x7f\xa0\ufeff\u200b")
    formula = visible.startswith(FORMULA_STARTS) or text.startswith(("'", "\t", "\r", "\n"))
    return "'" + text if formula or _converted(text) else text


def _converted(text: str) -> bool:
    """Whether a spreadsheet may take the whole cell for a number, a date, a time or TRUE: short, and with a digit."""
    return len(text) <= LONGEST_VALUE and (any(map(str.isdigit, text)) or text.strip().upper() in ("TRUE", "FALSE"))


def unguard(cell: str) -> str:
    return cell[1:] if cell.startswith("'") else cell


def marked(kind: str, given: str) -> str:
    """An id behind a word, so that no spreadsheet takes it for a number, a date or a formula: `item-842699842475`."""
    return f"{kind}-{given}"


def unmarked(kind: str, cell: str) -> str:
    """The id again; also of a study that was exported before ids had a word in front."""
    return cell.strip().removeprefix(f"{kind}-")


def write_csv(folder: Path, study: Study) -> None:
    """Write `<rater>.csv` for every rater, as UTF-8 with the mark by which spreadsheets know it."""
    for rater in study.raters:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        writer.writerow(COLUMNS)
        for item in study.items_of(rater):
            ids = [marked("study", study.study_id), rater, marked("item", item.item_id)]
            writer.writerow([*ids, *map(guard, study.texts(item)), ""])
        write_bytes(folder / f"{rater}.csv", text.getvalue().encode("utf-8-sig"))


def read_csv(path: Path) -> Submission:
    """A filled-in CSV; rows without a rating are not yet rated. Texts are hashed again, so an edited one is noticed.

    Raises UserError where the columns are others, the encoding is, or the rows belong to several raters.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as 'CSV UTF-8'.") from None
    first_line = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in first_line), ",")  # spreadsheets save what their locale uses
    header, *lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) or [[]]
    if tuple(header) != COLUMNS:
        raise UserError(f"{path}: not a ratings table of this study; its columns must be {', '.join(COLUMNS)}.")
    rows, owners = [], set()
    for number, line in enumerate(lines, start=1):
        if not any(cell.strip() for cell in line):
            continue  # spreadsheets leave empty rows at the end
        if len(line) != len(COLUMNS):
            raise UserError(f"{path}, row {number}: has {len(line)} cells instead of {len(COLUMNS)}.")
        study, rater, item, *texts, rating = line
        owners.add((unmarked("study", study), rater.strip()))
        if rating.strip():
            shown = (plain_lines(unguard(cell)) for cell in texts)
            rows.append(Row(number, unmarked("item", item), digest(*shown), unguard(rating.strip()).lower()))
    if len(owners) != 1:
        raise UserError(f"{path}: must hold the rows of exactly one rater, and holds those of {len(owners)}.")
    study, rater = owners.pop()
    return Submission(path, study, rater, None, tuple(rows))
