"""How far free judges agree with GPT-4's preferences: the table in docs/evaluation.md.

    python -m eval.judge_agreement ANNOTATIONS.json --judge ... --run-dir DIR
    python -m experiments.development.judge_agreement --record DIR --name NAME

Of DIR only counts are recorded. The annotations, AlpacaEval's of zephyr-7b-sft-full, are not ours to give away, and no
part of the repository.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments.compute.results import ROOT
from experiments.documents import update
from optune.utils.command import exit_status
from optune.utils.files import read_json, write_json

FOLDER = ROOT / "results" / "judge_agreement"
PLACE = "judge agreement"
CONTROLS = ("longer answer", "always output_1")


def table() -> str:
    """The recorded judges, a line each; shares with their 95% intervals, on the rows that the judge's replies told."""
    lines = [
        "| judge | rows, in both orders | ties, unparsed | answer shown first wins | agrees "
        "| where output_2 is preferred | the longer answer | always output_1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(FOLDER.glob("*.json")):
        one = read_json(path)
        controls = [_share(one["controls_on_the_same_rows"][name]) for name in CONTROLS]
        first = one["order"]["first_position_share"]
        told = [f"{one['ties']}, {one['unparsed']}", "-" if first is None else f"{first:.0%}"]
        cells = [one["name"], str(one["rows"]), *told, _share(one["agreed"]), _second(one["agreed"]), *controls]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    share = found["share"]
    return f"{share['estimate']:.1%} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _second(found: dict[str, Any] | None) -> str:
    return f"{found['output_2_preferred']['agreed']} of {found['output_2_preferred']['n']}" if found else "-"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--record", type=Path, metavar="DIR", required=True, help="--run-dir of eval.judge_agreement")
    parser.add_argument("--name", required=True, help="of the judge, for the table")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _record(options))


def _record(options: argparse.Namespace) -> None:
    counted = read_json(options.record / "agreement.json")
    file = f"{options.name.lower().replace(' ', '-').replace(',', '')}.json"
    write_json(FOLDER / file, {"name": options.name, **counted})
    update({PLACE: table()})
    print(table())


if __name__ == "__main__":
    sys.exit(main())
