"""How the fuzzing tests get their cases, and what they say of them.

`make test` tries about 10,000 cases, `make fuzz` a million (`OPTUNE_FUZZ_CASES`), and records them. The cases are the
same each time. Texts of the first 10,000 come from hypothesis, which makes a failing one short; everything else comes
from plain seeded generators, which cost a tenth.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from eval.human_study.export import export
from eval.human_study.study import Comparison, Study

CASES = int(os.environ.get("OPTUNE_FUZZ_CASES", "10000"))
BY_HYPOTHESIS = 10_000
TRIED = Counter()  # by test


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, record_property: Callable) -> Iterator[None]:
    """Each test's report says how many cases it has tried."""
    yield
    record_property("cases", TRIED[request.node.originalname])


def once_more(test: Callable) -> Callable:
    """The test of a single case, counted."""

    @functools.wraps(test)
    def case(*arguments: Any, **named: Any) -> None:
        TRIED[test.__name__] += 1
        test(*arguments, **named)

    return case


def cases(share: float) -> Callable:
    """So many of the first 10,000 cases, always the same ones; a failing case is shrunk as usual."""
    some = settings(
        max_examples=max(1, round(share * min(CASES, BY_HYPOTHESIS))),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    return lambda test: some(once_more(test))


def seeded(share: float, first: int = 0) -> Callable:
    """The test once for each generator of its share of the cases from `first` on; a failure names the seed."""

    def decorate(test: Callable) -> Callable:
        case = once_more(test)

        def all_seeds(**fixtures: Any) -> None:
            if first >= CASES:
                pytest.skip(f"fewer than {first} cases")
            for seed in range(max(1, round(share * (CASES - first)))):
                try:
                    case(**fixtures, rng=random.Random(seed))
                except Exception as error:
                    error.add_note(f"{test.__name__}: seed {seed}")
                    raise

        all_seeds.__name__, all_seeds.__doc__ = test.__name__, test.__doc__
        parameters = list(inspect.signature(test).parameters.values())
        all_seeds.__signature__ = inspect.Signature(parameters[:-1])  # what pytest has to hand in
        return all_seeds

    return decorate


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory where that is possible: a disk takes longer than a case."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


def small_study(folder: Path, answer: Callable[[str, int], str]) -> tuple[Path, Study]:
    """A study of 4 prompts and 2 raters, exported below `folder`; answer(model, prompt) is what "a" and "b" say."""
    files = []
    for name in "ab":
        rows = [{"instruction": f"Question {i}?", "output": answer(name, i)} for i in range(4)]
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(rows))
    return folder, export([Comparison("c", *files)], folder / "study", prompts=4, raters=2, ratings_per_pair=2)
