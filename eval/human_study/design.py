"""Draws from a seed who rates which pair, and which answer is on the left, in exact balance.

The paper draws 50 of the 100 pairs at random for each rater, so pairs get four ratings *on average*. Here every pair
gets the same number of ratings and every rater the same number of pairs in each comparison. With enough raters, none
meets a prompt in both comparisons. The balance makes the intervals as narrow as 400 ratings allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.human_study.study import Comparison, Item, Pair, Study, describe, shared_prompts
from optune.types import UserError
from optune.utils.hashing import stable_hash, stable_seed


def draw_study(
    comparisons: Sequence[Comparison],
    *,
    prompts: int = 50,
    raters: int = 8,
    ratings_per_pair: int = 4,
    seed: int = 0,
    version: str = "",
) -> Study:
    """A study without its page digests: `prompts` prompts that all files share, one pair per prompt and comparison.

    `version` is whatever else identifies the study (the page it is shown on); what is drawn does not depend on it, so
    that an edit of the page draws nothing anew. The same arguments and files give the same study, item ids included.
    Raises UserError where the numbers do not allow an exact balance.
    """
    names = [c.name for c in comparisons]
    if len(set(names)) < len(names) or not names:
        raise UserError(f"comparisons: every one needs a name of its own, and these are {names}.")
    check_balance(prompts, raters, ratings_per_pair)
    files, shared = shared_prompts(comparisons)
    if len(shared) < prompts:
        raise UserError(f"prompts: {prompts} asked for, but the files share {len(shared)}; ask for fewer.")
    described = tuple(describe(c) for c in comparisons)
    content = [described, prompts, raters, ratings_per_pair, seed]
    rng = np.random.default_rng(stable_seed("human study", *content))

    chosen = [shared[i] for i in rng.permutation(len(shared))[:prompts]]
    pairs: dict[str, Pair] = {}
    items: list[Item] = []
    labels = [f"rater-{r + 1:0{len(str(raters))}d}" for r in range(raters)]
    assignment = assign_raters(prompts, len(comparisons), raters, ratings_per_pair, rng)
    for comparison, rows in zip(comparisons, assignment, strict=True):
        a_first = balanced_sides(rows, rng)
        for prompt_id, pair_raters, sides in zip(chosen, rows, a_first, strict=True):
            a, b = files[comparison.file_a][prompt_id], files[comparison.file_b][prompt_id]
            pair_id = stable_hash(comparison.name, prompt_id)[:12]
            pairs[pair_id] = Pair(pair_id, comparison.name, prompt_id, a.category, a.instruction, a.output, b.output)
            for rater, side in zip(pair_raters, sides, strict=True):
                items.append(Item(rng.bytes(6).hex(), labels[rater], pair_id, bool(side)))

    order = rng.permutation(len(items))
    shuffled = sorted((items[i] for i in order), key=lambda item: item.rater)
    left_out = {str(path): len(rows) - len(shared) for path, rows in files.items()}
    return Study(
        stable_hash([*content, version])[:12],
        seed,
        described,
        pairs,
        tuple(shuffled),
        dict.fromkeys(labels, ""),
        {**{f"not in every file: {name}": n for name, n in left_out.items()}, "not drawn": len(shared) - prompts},
    )


def check_balance(prompts: int, raters: int, per_pair: int) -> None:
    """Raise UserError unless `prompts * per_pair` ratings spread evenly over `raters` different raters per pair."""
    if min(prompts, raters, per_pair) < 1:
        raise UserError("prompts, raters and ratings per pair must each be at least 1.")
    if per_pair > raters:
        raise UserError(f"ratings per pair: {per_pair} asked for, but there are only {raters} raters.")
    step = raters // math.gcd(raters, per_pair)
    if prompts % step:
        near = sorted({max(step, prompts // step * step), (prompts // step + 1) * step})
        raise UserError(
            f"prompts: {prompts} x {per_pair} ratings do not spread evenly over {raters} raters; "
            f"take {' or '.join(map(str, near))} prompts."
        )


def assign_raters(prompts: int, comparisons: int, raters: int, per_pair: int, rng: np.random.Generator) -> np.ndarray:
    """Rater indices of shape (comparisons, prompts, per_pair); a row holds different raters, every rater equally often.

    In each block of prompts that uses every rater equally, the raters stand in a fresh random order and are dealt from
    it in turn. The next comparison starts dealing where the previous one stopped for the same prompt, so its raters
    are others.
    """
    block = raters // math.gcd(raters, per_pair)
    deal = np.arange(per_pair)
    result = np.empty((comparisons, prompts, per_pair), dtype=int)
    for prompt in range(prompts):
        if prompt % block == 0:
            order = rng.permutation(raters)
        for comparison in range(comparisons):
            result[comparison, prompt] = order[((prompt % block + comparison) * per_pair + deal) % raters]
    return result


def balanced_sides(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether the first model's answer is on the left, shape and meaning as `rows` (pairs, ratings per pair).

    Every pair and every rater gets half of each side, or within one of half where the number is odd. The ratings are
    the edges of a graph between pairs and raters; walking it edge by edge until stuck (an Euler trail) leaves every
    node as often as it is entered, so the walking direction of an edge is a side.
    """
    edges: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for pair, slot in rng.permutation(np.argwhere(rows >= 0)):
        edges.setdefault(("pair", int(pair)), []).append((pair, slot))
        edges.setdefault(("rater", int(rows[pair, slot])), []).append((pair, slot))
    result, used = np.zeros(rows.shape, dtype=bool), np.zeros(rows.shape, dtype=bool)
    # A node with an odd number of edges must be the end of a trail, so trails start at those first. What such a node
    # has left then is even, and where no later trail passes, a second round takes it.
    for node in sorted(edges, key=lambda n: len(edges[n]) % 2 == 0) * 2:
        while edge := _next(edges[node], used):
            pair, slot = edge
            used[edge] = True
            result[edge] = node[0] == "pair"
            node = ("rater", int(rows[edge])) if node[0] == "pair" else ("pair", int(pair))
    return result ^ bool(rng.integers(2))


def _next(edges: list[tuple[int, int]], used: np.ndarray) -> tuple[int, int] | None:
    while edges:
        edge = edges.pop()
        if not used[edge]:
            return edge
    return None
