"""Check the paper's numbers against each other: `python -m experiments.paper_checks`; how: `check.py`."""

from __future__ import annotations

import argparse
import sys

from experiments.paper_checks.check import check
from optune.utils.command import exit_status


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args(arguments)
    return exit_status(check)


if __name__ == "__main__":
    sys.exit(main())
