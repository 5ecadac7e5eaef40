"""The prompts that a page shows with their texts: drawn by a hash of their ids, and the biggest gains and losses.

A page has a largest size. Prompts are taken in the order of a hash, which is as good as random and the same for every
run, until the next one would not fit; the extremes over *all* prompts come first and are marked where they were not
drawn, so that nobody takes them for typical.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from optune.view.run_files import RunFiles
from optune.view.statistics import Trajectories, pair_weights

EXTREMES = 20  # of each kind
LONGEST_TEXT = 20_000  # characters; the rest is in the run's files
BESIDE_TEXT = 25  # bytes that a response takes at least, beside its text


@dataclass(frozen=True)
class Shown:
    """Prompts as JSON texts in the order of the hash, and how many of them were drawn, of how many in all."""

    prompts: list[str]
    drawn: int
    total: int


def shown_prompts(runs: Sequence[RunFiles], ways: Sequence[Trajectories], budget: int) -> Shown:
    """As many prompts as `budget` bytes hold, of one run or of two beside each other."""
    rows = _matched(runs)
    sizes = _sizes(runs, rows)
    order = np.argsort(_hashes(runs, rows), kind="stable")
    extremes = _extremes(runs, ways, rows)
    fits = np.cumsum(sizes[order]) <= budget
    wanted = np.unique(np.concatenate([extremes, order[fits]]))
    texts = dict(zip(wanted.tolist(), _told(runs, ways, rows[wanted]), strict=True))
    return _within(texts, extremes.tolist(), order.tolist(), budget)


def _within(texts: dict[int, dict[str, Any]], extremes: list[int], order: list[int], budget: int) -> Shown:
    """The extremes, and then prompts in their order until the first that does not fit."""
    encoded = {row: as_json(texts[row]) for row in texts}
    size = {row: len(text.encode()) + 1 for row, text in encoded.items()}
    left = budget - sum(size[row] for row in extremes)
    kept, drawn = set(extremes), set()
    for row in order:
        cost = 0 if row in kept else size.get(row, left + 1)
        if cost > left:
            break
        left -= cost
        kept.add(row)
        drawn.add(row)
    listed = [row for row in order if row in kept]
    prompts = [encoded[row] if row in drawn else as_json({**texts[row], "extra": True}) for row in listed]
    return Shown(prompts, len(drawn), len(order))


def as_json(value: Any) -> str:
    """Compact JSON that may stand inside a script element: no character in it can be read as markup.

    U+2028 and U+2029 are escaped, too, as older scripts take them for ends of lines.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _matched(runs: Sequence[RunFiles]) -> np.ndarray:
    """(prompts, runs) of each different prompt its row in every run; the same prompt has the same id and text."""
    if len(runs) == 1:
        return np.arange(runs[0].prompts.num_rows)[:, None]
    frames = [
        run.prompts.select(["prompt_id", "prompt"])
        .to_pandas()
        .assign(**{f"place_{i}": np.arange(run.prompts.num_rows)})
        for i, run in enumerate(runs)
    ]
    both = frames[0].merge(frames[1], how="outer", on=["prompt_id", "prompt"])
    return both[["place_0", "place_1"]].fillna(-1).to_numpy(dtype=int)


def _per_prompt(runs: Sequence[RunFiles], rows: np.ndarray, column: str) -> np.ndarray:
    """(prompts,) a text column of `prompts`, from the first run that has the prompt."""
    values = np.empty(len(rows), dtype=object)
    for i in reversed(range(len(runs))):
        have = rows[:, i] >= 0
        values[have] = runs[i].prompts[column].to_numpy()[rows[have, i]]
    return values


def _hashes(runs: Sequence[RunFiles], rows: np.ndarray) -> np.ndarray:
    return pd.util.hash_array(_per_prompt(runs, rows, "prompt_id"), hash_key="view-a-run-00000", categorize=False)


def _sizes(runs: Sequence[RunFiles], rows: np.ndarray) -> np.ndarray:
    """(prompts,) about the bytes that each prompt takes, rather too few: of what is read, the exact size decides."""
    lengths = np.array([len(text) for text in _per_prompt(runs, rows, "prompt")], dtype=float)
    sizes = np.minimum(lengths, LONGEST_TEXT)
    for i, run in enumerate(runs):
        responses = run.responses[run.responses["place"] >= 0]
        size = np.minimum(responses["size"].to_numpy(), LONGEST_TEXT) + BESIDE_TEXT
        total = np.bincount(responses["place"].to_numpy(), size, run.prompts.num_rows)
        have = rows[:, i] >= 0
        sizes[have] += total[rows[have, i]]
    return sizes


def _extremes(runs: Sequence[RunFiles], ways: Sequence[Trajectories], rows: np.ndarray) -> np.ndarray:
    """The EXTREMES biggest gains and losses: of a prompt's reward in one run, or of the second run over the first."""
    if len(runs) == 1:
        change = ways[0].gain[rows[:, 0]]
    else:
        both = (rows >= 0).all(axis=1)
        last = [np.where(both, w.latest[-1][rows[:, i]], np.nan) for i, w in enumerate(ways)]
        change = last[1] - last[0]
    known = np.flatnonzero(~np.isnan(change))
    ranked = known[np.argsort(change[known], kind="stable")]
    lost = ranked[:EXTREMES][change[ranked[:EXTREMES]] < 0]
    won = ranked[::-1][:EXTREMES][change[ranked[::-1][:EXTREMES]] > 0]
    return np.unique(np.concatenate([lost, won])).astype(int)


def _told(runs: Sequence[RunFiles], ways: Sequence[Trajectories], rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """Of each prompt its texts and, for every run, what happened to it."""
    told = [_of_run(run, way, rows[:, i]) for i, (run, way) in enumerate(zip(runs, ways, strict=True))]
    columns = (_per_prompt(runs, rows, name) for name in ("prompt_id", "prompt", "messages", "category"))
    for i, (prompt_id, text, messages, category) in enumerate(zip(*columns, strict=True)):
        prompt = {"id": prompt_id, "text": _cut(text), "category": category or "", "runs": [of[i] for of in told]}
        if messages:
            prompt["turns"] = [[str(turn["role"]), _cut(str(turn["content"]))] for turn in json.loads(messages)]
        yield prompt


def _of_run(run: RunFiles, ways: Trajectories, places: np.ndarray) -> list[dict[str, Any] | None]:
    """What happened to prompts in a run; None for those it does not have."""
    shown = np.zeros(run.prompts.num_rows, dtype=bool)
    shown[places[places >= 0]] = True
    told = {place: _prompt(ways, place) for place in np.flatnonzero(shown).tolist()}
    for row in run.texts(shown):
        text, reward = _cut(row["text"]), round(row["reward"], 5)
        told[row["place"]]["responses"].append(
            [row["iteration"], row["index"], reward, row["tokens"], int(row["finish_reason"] == "length"), text]
        )
    for t in run.iterations:
        for place, pair in _trained(run, t, shown):
            told[place]["pairs"].append(pair)
    return [told.get(place) for place in places.tolist()]


def _prompt(ways: Trajectories, place: int) -> dict[str, Any]:
    """rank: of each iteration 0 where the prompt was not ranked, -1 where it was not asked for.

    gain: newest best reward less the first one. newest: the iteration of the latest responses. responses: iteration,
    index, reward, tokens, whether it was cut at the limit, text. pairs: iteration that trained on it, (iteration,
    index) of chosen and of rejected, reward gap, weight.
    """
    gain, rank = ways.gain[place], np.where(ways.asked[:, place], ways.rank[:, place], -1)
    return {
        "rank": rank.tolist(),
        "gain": None if np.isnan(gain) else round(float(gain), 5),
        "newest": int(ways.newest[-1, place]),
        "responses": [],
        "pairs": [],
    }


def _trained(run: RunFiles, t: int, shown: np.ndarray) -> Iterator[tuple[int, list[Any]]]:
    """(place, pair) of the pairs of iteration `t` that shown prompts have."""
    frame = run.pairs(t)
    if frame is None:
        return
    frame = frame[(frame["place"] >= 0) & shown[frame["place"]]]
    gaps = (frame["score_chosen"] - frame["score_rejected"]).to_numpy()
    weights = pair_weights(run, gaps, run.counts(t, "train").get("beta_2"))
    weights = [None] * len(gaps) if weights is None else weights.round(4).tolist()
    names = ["place", *(f"{side}_{name}" for side in ("chosen", "rejected") for name in ("iteration", "index"))]
    rows = frame[names].to_numpy().tolist()
    for (place, *origin), gap, weight in zip(rows, gaps.round(5).tolist(), weights, strict=True):
        yield place, [t, *origin, gap, weight]


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\n[... {len(text) - LONGEST_TEXT:,} more characters: see the run's files]"
