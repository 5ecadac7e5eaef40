"""How often a judge agrees with verdicts that others recorded, before it is trusted with answers of one's own.

    python -m eval.judge_agreement ANNOTATIONS.json --judge my_judge.py:rate --run-dir DIR
    python -m eval.judge_agreement ANNOTATIONS.json --judge local --model FOLDER --limit 100 --run-dir DIR

ANNOTATIONS has AlpacaEval's form: `instruction`, `output_1`, `output_2`, and `preference`, below 1.5 for the first and
above for the second (1.5: a tie, which says nothing here). The judge is asked in both orders, through the client, log
and parser of `eval.win_score`, and whichever answer wins over both is its verdict. Beside its agreement stand two
controls that read nothing: the longer answer wins, and output_1 always wins. In annotations of two models the latter is
"the model that usually wins", which a judge must beat before its agreement means anything.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.judges import FORMS, Judge
from eval.judging import add_judge_options, asking, judge_named, tell_failures
from eval.stats import wilson
from eval.win_score import read_verdicts, win_score
from optune.prompts.files import check_characters
from optune.types import UserError
from optune.utils.command import exit_status
from optune.utils.files import read_json, read_jsonl, write_json

TEXTS = ("instruction", "output_1", "output_2")
TIE = 1.5
SIDES = ("output_1", "output_2")
OF_THE_JUDGE = ("flip_share", "unequal_share", "reply_tie_share", "first_position_share")  # see `verdicts.summarize`


@dataclass(frozen=True, slots=True)
class Annotated:
    """Two answers to an instruction, and which of them the annotator preferred: 0, 1, or None for a tie."""

    row: str
    instruction: str
    outputs: tuple[str, str]
    preferred: int | None

    def side(self, place: int) -> dict[str, str]:
        """One answer, as `win_score` takes it."""
        return {"prompt_id": self.row, "instruction": self.instruction, "output": self.outputs[place]}


def read_annotations(path: str | Path, limit: int | None = None) -> list[Annotated]:
    """The rows of a JSON list or JSONL; with `limit` a fixed random sample. Raises UserError naming row and field."""
    path = Path(path)
    content = list(read_jsonl(path)) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: expected a list of annotations with {', '.join(TEXTS)} and preference, at least one.")
    numbered = content if path.suffix == ".jsonl" else list(enumerate(content, start=1))
    if limit is not None and limit < len(numbered):
        drawn = np.sort(np.random.default_rng(0).permutation(len(numbered))[:limit])  # a larger limit draws these, too
        numbered = [numbered[place] for place in drawn]
    return [_annotated(row, number, f"{path}, row {number}") for number, row in numbered]


def _annotated(row: Any, number: int, where: str) -> Annotated:
    for name in TEXTS:
        if not isinstance(row, dict) or not isinstance(row.get(name), str):
            raise UserError(f"{where}: needs a text `{name}`.")
        check_characters(row[name], f"{where}: `{name}`")
    preference = row.get("preference")
    if isinstance(preference, bool) or not isinstance(preference, int | float) or not 1 <= preference <= 2:
        raise UserError(
            f"{where}: `preference` must be a number from 1 (output_1) to 2 (output_2), not {preference!r}."
        )
    preferred = None if preference == TIE else int(preference > TIE)
    return Annotated(str(number), row["instruction"], (row["output_1"], row["output_2"]), preferred)


def judge_agreement(rows: Sequence[Annotated], judge: Judge, run_dir: str | Path, **options: Any) -> dict[str, Any]:
    """Ask the judge about every row in both orders and compare. options: those of `eval.win_score.win_score`.

    Returns what `agreement` does, the usage, and how the order swayed the judge; `run_dir/agreement.json` has it, too.
    """
    found = win_score([row.side(0) for row in rows], [row.side(1) for row in rows], judge, run_dir, **options)
    verdicts = {name: verdict.outcome for name, verdict in read_verdicts(run_dir).items()}
    told = {
        "judge": found["model"],
        **agreement(rows, [verdicts[row.row] for row in rows]),
        "order": {name: found[name] for name in OF_THE_JUDGE},
        "usage": found["usage"],
    }
    write_json(Path(run_dir) / "agreement.json", told)
    return told


def agreement(rows: Sequence[Annotated], outcomes: Sequence[str]) -> dict[str, Any]:
    """Agreement with the recorded preferences, of the judge and of both controls on the same rows.

    outcomes: win, tie, lose or unparsed of output_1. Left out and counted: rows whose record is a tie, and unparsed
    ones. A tie of the judge does not agree; `agreed_where_decided` leaves ties out.
    """
    recorded = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if row.preferred is not None]
    read = [(row, outcome) for row, outcome in recorded if outcome != "unparsed"]
    kept = [row for row, _ in read]
    chosen = [{"win": 0, "lose": 1}.get(outcome) for _, outcome in read]
    decided = [place for place, choice in enumerate(chosen) if choice is not None]
    return {
        "rows": len(rows),
        "recorded_ties": len(rows) - len(recorded),
        "unparsed": len(recorded) - len(read),
        "ties": len(kept) - len(decided),
        "agreed": _share(kept, chosen),
        "agreed_where_decided": _share([kept[i] for i in decided], [chosen[i] for i in decided]),
        "controls_on_the_same_rows": {
            "longer answer": _share(kept, [_longer(row) for row in kept]),
            "always output_1": _share(kept, [0] * len(kept)),
        },
    }


def _share(rows: Sequence[Annotated], chosen: Sequence[int | None]) -> dict[str, Any] | None:
    """Agreements of all rows, with the share's 95% Wilson interval, and of the rows of either preferred side."""
    if not rows:
        return None
    agrees = [row.preferred == choice for row, choice in zip(rows, chosen, strict=True)]
    found: dict[str, Any] = {"agreed": sum(agrees), "n": len(rows), "share": wilson(sum(agrees), len(rows)).as_dict()}
    for place, side in enumerate(SIDES):
        of_side = [agree for row, agree in zip(rows, agrees, strict=True) if row.preferred == place]
        found[f"{side}_preferred"] = {"agreed": sum(of_side), "n": len(of_side)}
    return found


def _longer(row: Annotated) -> int | None:
    """The longer output, in characters; None where both are as long."""
    first, second = map(len, row.outputs)
    return None if first == second else int(second > first)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.judge_agreement", description=__doc__.split("\n")[0])
    parser.add_argument("annotations", help="JSON or JSONL in AlpacaEval's form")
    parser.add_argument("--run-dir", required=True, help="of the replies; the same command continues")
    parser.add_argument("--limit", type=int, help="a fixed random sample of so many rows")
    parser.add_argument("--form", choices=sorted(FORMS), default="rating", help="two scores, or A, B or C")
    parser.add_argument("--allow-empty", action="store_true", help="have empty answers judged as they are")
    add_judge_options(parser)
    options = parser.parse_args(arguments)
    return exit_status(lambda: _tell(options))


def _tell(options: argparse.Namespace) -> None:
    judge = replace(judge_named(options), form=FORMS[options.form])
    rows = read_annotations(options.annotations, options.limit)
    given = {"allow_empty": options.allow_empty, **asking(options, judge), "seed": options.seed}
    found = judge_agreement(rows, judge, options.run_dir, **given)
    tell_failures(found["usage"])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    sys.exit(main())
