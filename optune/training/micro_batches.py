"""How an update's pairs are cut into micro-batches, so that little is computed on padding. Pure, without tensors.

Which pairs an update has is not decided here: micro-batches only say how its gradient is summed up.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_PADDING = 0.15  # of the positions in a micro-batch


def micro_batches(
    widths: Sequence[int], sizes: Sequence[int], max_pairs: int, max_tokens: int | None = None, processes: int = 1
) -> list[list[int]]:
    """Indices of the pairs of each micro-batch, longest first, so that what does not fit in memory shows at once.

    A pair takes a place of `widths[i]` positions and fills `sizes[i]` of them; its micro-batch is as wide as its widest
    place. A micro-batch ends before `max_pairs`, `max_tokens` (positions) or MAX_PADDING would be exceeded; one pair
    alone may exceed the last two. The count is a multiple of `processes`, each of which takes every
    `processes`-th: with fewer pairs than that, some micro-batches are empty.
    """
    order = sorted(range(len(widths)), key=lambda i: (-widths[i], -sizes[i], i))
    batches: list[list[int]] = []
    for i in order:
        if not batches or not _fits([*batches[-1], i], widths, sizes, max_pairs, max_tokens):
            batches.append([])
        batches[-1].append(i)
    while len(batches) % processes:
        largest = max(range(len(batches)), key=lambda b: (len(batches[b]) > 1, positions(batches[b], widths)))
        half = (len(batches[largest]) + 1) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return sorted(batches, key=lambda batch: -positions(batch, widths))


def positions(batch: Sequence[int], widths: Sequence[int]) -> int:
    """Positions that a micro-batch computes, padding included."""
    return len(batch) * max((widths[i] for i in batch), default=0)


def _fits(
    batch: Sequence[int], widths: Sequence[int], sizes: Sequence[int], max_pairs: int, max_tokens: int | None
) -> bool:
    taken = positions(batch, widths)
    padded = taken - sum(sizes[i] for i in batch)
    return len(batch) <= max_pairs and taken <= (max_tokens or taken) and padded <= MAX_PADDING * taken
