"""Cuts an update's pairs into micro-batches of similar lengths, so that little is computed on padding.

Which pairs an update has is decided elsewhere; this decides in which portions its gradient is summed up.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_PADDING = 0.15  # of the positions in a micro-batch


def micro_batches(
    widths: Sequence[int], sizes: Sequence[int], max_pairs: int, max_tokens: int | None = None, processes: int = 1
) -> list[list[int]]:
    """Indices of the pairs of each micro-batch. The largest comes first, so that a lack of memory shows at once.

    Pair i takes `widths[i]` positions and fills `sizes[i]` of them; a micro-batch is padded to its widest pair.
    A micro-batch has at most `max_pairs` pairs, `max_tokens` positions and a share of MAX_PADDING padding (a single
    pair may exceed the last two). Process k takes the micro-batches k, k + processes, ...: their number is a multiple
    of `processes`, and some are empty where there are fewer pairs than processes.
    """
    order = sorted(range(len(widths)), key=lambda i: (-widths[i], -sizes[i], i))
    batches: list[list[int]] = []
    for i in order:
        if not batches or not _fits([*batches[-1], i], widths, sizes, max_pairs, max_tokens):
            batches.append([])
        batches[-1].append(i)
    while len(batches) % processes:  # halve the largest that can be halved
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
