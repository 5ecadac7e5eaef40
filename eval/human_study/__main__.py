"""Command line: `python -m eval.human_study export | import | analyse | simulate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from eval.human_study.analysis import analyse, format_results
from eval.human_study.export import export
from eval.human_study.ratings import import_ratings
from eval.human_study.simulate import simulate
from eval.human_study.study import PAPER_COMPARISONS, Comparison, read_key
from optune.utils.command import exit_status
from optune.utils.files import write_json

DEFAULT_FOLDER = "runs/human_study"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when all is well, 1 when import refused something, 2 on bad input."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: options.run(options))


def _export(options: argparse.Namespace) -> int:
    given = options.comparison
    if options.outputs:
        given = [(name, options.outputs / a, options.outputs / b) for name, a, b in PAPER_COMPARISONS]
    comparisons = [Comparison(name, Path(a), Path(b)) for name, a, b in given]
    study = export(
        comparisons,
        options.out,
        prompts=options.prompts,
        raters=options.raters,
        ratings_per_pair=options.ratings_per_pair,
        seed=options.seed,
    )
    same = sum(pair.answer_a == pair.answer_b for pair in study.pairs.values())
    print(f"Study {study.study_id}: {len(study.pairs)} pairs, {len(study.raters)} raters, {len(study.items)} ratings.")
    print("".join(f"  prompts {reason}: {count}\n" for reason, count in study.prompts_left_out.items()), end="")
    print(f"  pairs with two identical answers (kept): {same}")
    print(f"Give each rater one file of {options.out / 'pages'} (or of csv/ or label_studio/), and never key.json.")
    return 0


def _import(options: argparse.Namespace) -> int:
    report = import_ratings(options.study, options.files)
    print("\n".join(report.lines()))
    return 1 if report.refusals else 0


def _analyse(options: argparse.Namespace) -> int:
    verdicts = {name: path for name, path in options.verdicts}
    results = analyse(options.study, read_key(options.study), verdicts, seed=options.seed)
    print(format_results(results))
    write_json(options.study / "analysis.json", results)
    return 0


def _simulate(options: argparse.Namespace) -> int:
    paths = simulate(read_key(options.study), options.out or options.study / "simulated", seed=options.seed)
    print(f"Wrote ratings of {len(paths)} SIMULATED raters to {paths[0].parent}: for dry runs only.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m eval.human_study", description="The human study of Table 4.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("export", help="draw a study and write pages, Label Studio tasks, CSV and the key")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--comparison",
        nargs=3,
        action="append",
        metavar=("NAME", "A.json", "B.json"),
        help="two AlpacaEval output files under a name; a win is a win of A; may be repeated",
    )
    files = ", ".join(dict.fromkeys(file for _, *pair in PAPER_COMPARISONS for file in pair))
    source.add_argument("--outputs", type=Path, metavar="DIR", help=f"the paper's comparisons, from {files} in DIR")
    command.add_argument("--prompts", type=int, default=50)
    command.add_argument("--raters", type=int, default=8)
    command.add_argument("--ratings-per-pair", type=int, default=4)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, default=Path(DEFAULT_FOLDER), metavar="DIR")
    command.set_defaults(run=_export)

    command = commands.add_parser("import", help="check returned files and keep what is sound")
    command.add_argument("files", nargs="+", type=Path, help="ratings files, Label Studio exports or filled-in CSV")
    _study_option(command)
    command.set_defaults(run=_import)

    command = commands.add_parser("analyse", help="print Table 4 and the agreement; write analysis.json")
    command.add_argument(
        "--verdicts",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="a judge's verdicts on one comparison: verdicts.jsonl of a win score of A against B",
    )
    command.add_argument("--seed", type=int, default=0)
    _study_option(command)
    command.set_defaults(run=_analyse)

    command = commands.add_parser("simulate", help="write ratings of simulated raters, for a dry run")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, metavar="DIR", help="default: simulated/ in the study's folder")
    _study_option(command)
    command.set_defaults(run=_simulate)
    return parser


def _study_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--study", type=Path, default=Path(DEFAULT_FOLDER), metavar="DIR", help="the folder that export wrote"
    )


if __name__ == "__main__":
    sys.exit(main())
