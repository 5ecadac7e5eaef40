"""A line of progress for each part of a build that takes minutes, with the time that is left of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(part: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """What the part calls as it goes: how many of its units are done, and of how many."""
    with tqdm(desc=part, unit=unit, file=sys.stderr) as bar:

        def tell(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield tell
