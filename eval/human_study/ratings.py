"""Imports ratings: each row that a rater returned is checked, and valid ones are kept.

Three kinds of file come back: the page's ratings file, a Label Studio export, and a filled-in CSV. Each is read into
the same `Submission`. Refused rows are listed by file and row. Imported ratings are never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from eval.human_study.label_studio import read_label_studio
from eval.human_study.page import RATINGS_FORMAT
from eval.human_study.spreadsheet import read_csv
from eval.human_study.study import CHOICES, Choice, Item, Study, read_key
from eval.human_study.submission import Row, Submission
from optune.prompts.conversation import present
from optune.store import run_lock
from optune.types import UserError
from optune.utils.files import jsonl_rows, read_json, write_text
from optune.utils.hashing import sha256_of

RATINGS_FILE = "ratings.jsonl"


@dataclass(frozen=True, slots=True)
class Rating:
    """One accepted rating and its source. It is still blinded: only the key tells which model was chosen."""

    study: str
    rater: str
    item: str
    choice: Choice
    rated_at: str
    simulated: bool
    file: str
    file_sha256: str
    row: int


@dataclass
class Report:
    """What an import did: rows with a rating = accepted + known + refused; `refusals` say where and why.

    `known` ratings were imported before with the same choice, as a file has them that goes on where another one ended.
    """

    accepted: int = 0
    known: int = 0
    refused: int = 0
    files_refused: int = 0
    refusals: list[str] = field(default_factory=list)
    missing: dict[str, list[int]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        yield from (f"refused  {text}" for text in self.refusals)
        known = f", {self.known} there already" if self.known else ""
        rows = f"{self.accepted} ratings accepted{known}, {self.refused} refused"
        yield f"{rows}; files refused as a whole: {self.files_refused}."
        for rater, numbers in self.missing.items():
            yield f"missing  {rater}: {len(numbers)} ratings, questions {spans(numbers)}"
        yield "Complete." if not self.missing else f"{sum(map(len, self.missing.values()))} ratings are still missing."


def import_ratings(folder: str | Path, files: Sequence[str | Path]) -> Report:
    """Check files against the study in `folder` and add what is sound to its `ratings.jsonl`.

    A file that is foreign, damaged or from an altered page is refused as a whole, a row that is unknown, altered,
    repeated or not a choice by itself; the other rows count. The report lists all of it, and what is still missing.
    """
    folder = Path(folder)
    study = read_key(folder)
    report = Report()
    with run_lock(folder):
        kept = {rating.item: rating for rating in read_ratings(folder, study)}
        for path in map(Path, files):
            try:
                submission = read_submission(path, study)
                _check_whole(submission, study, kept)
            except UserError as error:
                report.refusals.append(str(error))
                report.files_refused += 1
                continue
            _take_rows(submission, study, kept, report)
        lines = [json.dumps(asdict(rating)) for rating in kept.values()]
        write_text(folder / RATINGS_FILE, "".join(line + "\n" for line in lines))
    report.missing = missing(study, kept)
    return report


def read_ratings(folder: str | Path, study: Study) -> list[Rating]:
    """Every rating imported so far; raises UserError naming the line where the file is damaged or of another study."""
    path = Path(folder) / RATINGS_FILE
    if not path.exists():
        return []
    ratings, known = [], {item.item_id for item in study.items}
    for number, row in jsonl_rows(path):
        try:
            rating = Rating(**row)
        except TypeError:
            raise UserError(f"{path}, line {number}: not a rating; restore the file as import wrote it.") from None
        if rating.study != study.study_id or rating.item not in known:
            raise UserError(f"{path}, line {number}: belongs to another study than the key beside it.")
        ratings.append(rating)
    return ratings


def missing(study: Study, kept: dict[str, Rating]) -> dict[str, list[int]]:
    """Per rater, the numbers of the questions on their page that have no rating yet."""
    open_items = {
        rater: [n for n, item in enumerate(study.items_of(rater), start=1) if item.item_id not in kept]
        for rater in study.raters
    }
    return {rater: numbers for rater, numbers in open_items.items() if numbers}


def spans(numbers: Sequence[int]) -> str:
    """`1-3, 7` for 1, 2, 3, 7."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


# --- reading one file ------------------------------------------------------------------------------------------------


def read_submission(path: Path, study: Study) -> Submission:
    """One returned file of any of the three kinds; raises UserError where it is none of them."""
    if path.suffix.lower() == ".csv":
        return read_csv(path)
    content = read_json(path)
    if isinstance(content, list):
        return read_label_studio(path, content)
    if not isinstance(content, dict) or content.get("format") != RATINGS_FORMAT:
        raise UserError(f"{path}: not a ratings file of this study's pages; import the file that the page downloads.")
    rows = content.get("ratings")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: the list of ratings is damaged; ask for the file again.")
    return Submission(
        path=path,
        study=str(content.get("study")),
        rater=str(content.get("rater")),
        page_digest=str(content.get("page_digest")),
        simulated=content.get("simulated") is True,
        rows=tuple(
            Row(n, str(r.get("item")), str(r.get("item_digest")), str(r["choice"]), str(r.get("rated_at", "")))
            for n, r in enumerate(rows, start=1)
            if present(r.get("choice"))  # else not yet rated
        ),
    )


# --- checking --------------------------------------------------------------------------------------------------------


def _check_whole(submission: Submission, study: Study, kept: dict[str, Rating]) -> None:
    path, rater = submission.path, submission.rater
    if submission.study != study.study_id:
        raise UserError(f"{path}: belongs to study {submission.study!r}, and this is {study.study_id!r}.")
    if rater not in study.page_digests:
        raise UserError(f"{path}: rater {rater!r} is not in this study.")
    if submission.page_digest not in (None, study.page_digests[rater]):
        raise UserError(f"{path}: was made with an altered page; give {rater} a fresh copy of the page.")
    if any(rating.simulated != submission.simulated for rating in kept.values()):
        kinds = ("simulated", "people's") if submission.simulated else ("people's", "simulated")
        raise UserError(
            f"{path}: holds {kinds[0]} ratings, and this study already holds {kinds[1]}; never mix the two."
        )


def _take_rows(submission: Submission, study: Study, kept: dict[str, Rating], report: Report) -> None:
    items = {item.item_id: item for item in study.items}
    file_sha256 = sha256_of(submission.path)
    problems: list[tuple[int, str]] = []
    for row in submission.rows:
        if _is_known(row, submission, study, kept):
            report.known += 1
            continue
        problem = _problem(row, items.get(row.item), submission, study, kept)
        if problem:
            problems.append((row.number, problem))
            continue
        kept[row.item] = Rating(
            study.study_id,
            submission.rater,
            row.item,
            row.choice,
            row.rated_at,
            submission.simulated,
            submission.path.name,
            file_sha256,
            row.number,
        )
        report.accepted += 1
    report.refused += len(problems)
    for problem in dict.fromkeys(text for _, text in problems):
        numbers = [number for number, text in problems if text == problem]
        report.refusals.append(f"{submission.path}, row{'s' * (len(numbers) > 1)} {spans(numbers)}: {problem}")


def _problem(row: Row, item: Item | None, submission: Submission, study: Study, kept: dict[str, Rating]) -> str | None:
    """Why this row cannot be taken, or None."""
    if item is None:
        return f"unknown item id {row.item!r}."
    if item.rater != submission.rater:
        return f"item {row.item!r} belongs to {item.rater}, not to {submission.rater}."
    if row.digest != study.item_digest(item):
        return "the texts are not those of the study (altered or damaged)."
    if row.choice not in CHOICES:
        return f"the rating must be one of {', '.join(CHOICES)}, and is {row.choice!r}."
    if earlier := kept.get(row.item):
        return f"duplicate: already imported from {earlier.file} as {earlier.choice!r}, which stays."
    return None


def _is_known(row: Row, submission: Submission, study: Study, kept: dict[str, Rating]) -> bool:
    """Whether the very rating was imported before."""
    earlier = kept.get(row.item)
    if earlier is None or (earlier.rater, earlier.choice) != (submission.rater, row.choice):
        return False
    return any(row.digest == study.item_digest(item) for item in study.items if item.item_id == row.item)
