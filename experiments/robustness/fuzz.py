"""Hostile inputs, and well-formed but strange ones, by the million to every reader and parser.

    make fuzz [CASES=50000]

The cases and what must hold of them are those of `tests/test_fuzz.py` (a result that holds, or one sentence) and of
`tests/test_fuzz_strange.py` (the right value); what came of them is recorded.
"""

from __future__ import annotations

import argparse
import os
import sys

import pytest

from experiments.compute.results import ROOT
from experiments.robustness.records import Start, record
from optune.types import UserError
from optune.utils.command import exit_status

WHOLE = 1_000_000
FILES = ("test_fuzz.py", "test_fuzz_strange.py")


class Outcome:
    """A pytest plugin: how many cases each test says that it tried, and which tests fail."""

    def __init__(self) -> None:
        self.cases: dict[str, int] = {}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.when == "teardown":
            self.cases[name] = dict(report.user_properties).get("cases", 0)
        if report.failed and name not in self.failed:
            self.failed.append(name)

    def __str__(self) -> str:
        failed = f"{len(self.failed)} tests fail: {', '.join(self.failed)}" if self.failed else "none fails"
        return f"{sum(self.cases.values()):,} cases of {len(self.cases)} tests; {failed}"


def fuzz(cases: int) -> int:
    """Try about so many cases; returns 1 where a test fails. Raises UserError where pytest cannot run them."""
    os.environ["OPTUNE_FUZZ_CASES"] = str(cases)
    outcome, start = Outcome(), Start()
    status = pytest.main(["-q", *(str(ROOT / "tests" / name) for name in FILES)], plugins=[outcome])
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise UserError(f"pytest cannot run {' and '.join(FILES)} of tests/; see above.")
    print(outcome)
    if cases >= WHOLE:
        counts = {"cases": outcome.cases, "failed": outcome.failed}
        record("make fuzz" if cases == WHOLE else f"make fuzz CASES={cases}", str(outcome), counts, start)
    return 1 if outcome.failed else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=WHOLE, help="about so many; fewer than the default: not recorded")
    options = parser.parse_args(arguments)
    return exit_status(lambda: fuzz(options.cases))


if __name__ == "__main__":
    sys.exit(main())
