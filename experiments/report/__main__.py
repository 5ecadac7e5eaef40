"""Write the replication report: `python -m experiments.report`; what stands in it: `report.py`."""

from __future__ import annotations

import argparse
import sys

from experiments.report.report import report
from optune.utils.command import exit_status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="tiny")
    options = parser.parse_args(arguments)
    return exit_status(lambda: report(options.preset))


if __name__ == "__main__":
    sys.exit(main())
