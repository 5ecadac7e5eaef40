"""Which responses train, and how they pair: Algorithm 1, lines 12-18 and 20.

A *view* says which responses are used. They are grouped by prompt and by the iteration that sampled them, and a
*pairing* makes at most one pair (chosen, rejected) of each group. Groups that make no pair are counted by reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optune.history import History, Sampled, read_rows, write_rows
from optune.types import PreferencePair, Response, UserError
from optune.utils.registry import resolve

Pairing = Callable[[Sequence[Response]], tuple[Response, Response]]

OF_A_SIDE = ("index", "iteration", "token_ids", "logprob")  # stored of both sides: chosen_index, ...
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
        ("chosen_index", pa.int32()),
        ("chosen_iteration", pa.int32()),
        ("chosen_token_ids", pa.list_(pa.int32())),
        ("chosen_logprob", pa.float64()),
        ("rejected_index", pa.int32()),
        ("rejected_iteration", pa.int32()),
        ("rejected_token_ids", pa.list_(pa.int32())),
        ("rejected_logprob", pa.float64()),
    ]
)


def best_vs_worst(responses: Sequence[Response]) -> tuple[Response, Response]:
    """Highest against lowest reward; with two responses, the paper's pair. Equal rewards: the lower index counts."""
    return max(responses, key=lambda r: r.reward), min(responses, key=lambda r: r.reward)


PAIRINGS: dict[str, Pairing] = {"best_vs_worst": best_vs_worst}


def training_rows(
    history: History, view: str, iteration: int, prompt_ids: Sequence[str] | pa.Array
) -> Iterator[pa.Table]:
    """The responses that iteration `iteration` trains on, of the prompts it trains on, in whole groups.

    `latest` (the paper): each prompt's newest, fresh and reused. `fresh`: this iteration's own. `all`: every
    iteration's, the growing data set of iterative DPO. A table holds about as many rows as a row group, with a column
    `place` beside: that of a row's prompt in `prompt_ids`.
    """
    if view == "latest":
        kept = history.latest(prompt_ids)
    elif view == "fresh":
        kept = ((rows, (rows.place >= 0) & (rows.iteration == iteration)) for rows in history.sampled(prompt_ids))
    else:
        kept = ((rows, rows.place >= 0) for rows in history.sampled(prompt_ids))
    for rows, keep in kept:
        if keep.any():
            yield from _whole_groups(rows, keep)


def small_gaps(rows: Iterable[pa.Table], keep: float, iteration: int, pairing: str, words_only: bool) -> np.ndarray:
    """Places of the prompts whose reused pairs do not train: all but the share `keep` of largest reward gap.

    wDPO's weight sigma(beta_2 gap) grows with the gap, so these are the pairs of smallest weight. `keep` of m pairs is
    ceil(keep m), exactly; of equal gaps those of the lower place are kept. `rows`: of `training_rows`, view `latest`.
    """
    places, gaps = [np.empty(0, dtype=int)], [np.empty(0)]
    for table in rows:
        reused = table.filter(pc.less(table["iteration"], iteration))
        if not len(reused):
            continue
        paired, reward = pair_rows(reused, pairing, words_only), reused["reward"].to_numpy()
        places.append(reused["place"].to_numpy()[paired.chosen])
        gaps.append(reward[paired.chosen] - reward[paired.rejected])
    place, gap = np.concatenate(places), np.concatenate(gaps)
    order = np.lexsort((place, -gap))
    return place[order][math.ceil(Fraction(str(keep)) * len(place)) :]


def without_places(rows: Iterable[pa.Table], places: np.ndarray) -> Iterator[pa.Table]:
    """`rows` without those of the prompts at `places`."""
    for table in rows:
        yield table.filter(pa.array(~np.isin(table["place"].to_numpy(), places)))


def _whole_groups(rows: Sampled, keep: np.ndarray) -> Iterator[pa.Table]:
    """The rows of a file that are to be kept, never with a group in two tables."""
    place, iteration = rows.place[keep], rows.iteration[keep]
    starts = np.flatnonzero((np.diff(place) != 0) | (np.diff(iteration) != 0)) + 1
    ends = np.r_[0, starts, len(place)]  # where a table may end
    scattered = len(ends) - 1 > len(np.unique(place.astype(np.int64) << 32 | iteration))
    waiting, read, given = pa.table({}), 0, 0
    for batch in read_rows(rows.path):
        here = keep[read : read + len(batch)]
        read += len(batch)
        table = pa.Table.from_batches([batch]).filter(pa.array(here))
        waiting = pa.concat_tables([waiting, table]) if len(waiting) else table
        if read < len(keep):
            end = 0 if scattered else ends[np.searchsorted(ends, given + len(waiting), "right") - 1]
        else:
            end = len(place)
        if end > given:
            ready = waiting.slice(0, end - given)
            yield ready.append_column("place", pa.array(place[given:end]))
            waiting, given = waiting.slice(end - given), end


def make_pairs(
    responses: Iterable[Response], pairing: str = "best_vs_worst", words_only: bool = False
) -> tuple[list[PreferencePair], dict[str, int]]:
    """Pairs in the order of their groups' first rows, and how many groups made none, by reason.

    Groups in = pairs + groups left out. `words_only` pairs no response without words. Raises UserError for an unknown
    pairing.
    """
    rows, numbers, texts = list(responses), {}, {}
    paired = _pair(
        group=np.array([numbers.setdefault((r.prompt_id, r.iteration), len(numbers)) for r in rows], dtype=int),
        sampled=np.array([len(r.token_ids) > 0 for r in rows], dtype=bool),
        worded=np.array([has_words(r.text) for r in rows], dtype=bool) if words_only else None,
        text=np.array([texts.setdefault(r.text, len(texts)) for r in rows], dtype=int),
        reward=np.array([r.reward for r in rows], dtype=float),
        pairing=pairing,
        responses=lambda: rows,
    )
    pairs = []
    for c, r in zip(paired.chosen, paired.rejected, strict=True):
        pairs.append(PreferencePair(rows[c].prompt_id, rows[c], rows[r]))
    return pairs, paired.left_out


def has_words(text: str) -> bool:
    """Whether a text has anything to read: it is not empty, and not white space and control characters alone."""
    return any(character.isprintable() and not character.isspace() for character in text)


@dataclass(frozen=True)
class Paired:
    """chosen, rejected: (pairs,) rows of each pair. left_out: how many groups make none, by reason.

    wordless: responses passed over because they have no words.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    left_out: dict[str, int]
    wordless: int


def pair_rows(rows: pa.Table, pairing: str = "best_vs_worst", words_only: bool = False) -> Paired:
    """`make_pairs` for a table of `training_rows`."""
    key = rows["place"].to_numpy().astype(np.int64) << 32 | rows["iteration"].to_numpy()
    texts = pc.dictionary_encode(rows["text"].combine_chunks())
    text = texts.indices.to_numpy()
    return _pair(
        group=_numbered(key),
        sampled=pc.greater(pc.list_value_length(rows["token_ids"]), 0).to_numpy(),
        worded=np.array([has_words(t) for t in texts.dictionary.to_pylist()], dtype=bool)[text] if words_only else None,
        text=text,
        reward=rows["reward"].to_numpy(),
        pairing=pairing,
        responses=lambda: list(_responses(rows)),
    )


def _numbered(key: np.ndarray) -> np.ndarray:
    """(rows,) the number of each row's group: 0 for the one that comes first, and so on."""
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def _responses(rows: pa.Table) -> Iterator[Response]:
    for row in rows.drop_columns("place").to_pylist():
        yield Response(**{**row, "token_ids": tuple(row["token_ids"])})


def _pair(
    group: np.ndarray,
    sampled: np.ndarray,
    worded: np.ndarray | None,
    text: np.ndarray,
    reward: np.ndarray,
    pairing: str,
    responses: Callable[[], list[Response]],
) -> Paired:
    """Pairs of rows, given of each row (rows,) its group, whether it has tokens, its text (as a number) and its reward.

    `worded` says which rows have words, where the others are to be passed over; `responses` are the rows as objects,
    for pairings that have to see those.
    """
    pair = resolve(PAIRINGS, pairing, "pairing")
    groups = int(group.max(initial=-1)) + 1
    usable = sampled if worded is None else sampled & worded
    places = np.flatnonzero(usable)
    few = np.bincount(group[places], minlength=groups) < 2
    few_sampled = np.bincount(group[sampled], minlength=groups) < 2
    places = places[~few[group[places]]]
    if np.isnan(reward[places]).any():
        raise UserError("A response has no reward: score all responses before they are paired.")
    if pair is best_vs_worst:
        chosen, rejected = _first_highest(group, places, reward, groups), _first_highest(group, places, -reward, groups)
    else:
        chosen, rejected = _by_function(pair, responses(), group, places, groups)
    other = np.zeros(groups, dtype=bool)  # whether a group has a text unlike that of its chosen response
    other[group[places[text[places] != text[chosen[group[places]]]]]] = True
    reasons = np.select(
        [few_sampled, few, ~other, reward[chosen] == reward[rejected], text[chosen] == text[rejected]],
        ["fewer_than_two_responses", "without_words", "identical_responses", "equal_rewards", "identical_responses"],
        default="",
    )
    left_out = Counter(reasons[reasons != ""].tolist())  # in the order in which reasons first occur
    return Paired(chosen[reasons == ""], rejected[reasons == ""], dict(left_out), int((sampled & ~usable).sum()))


def _first_highest(group: np.ndarray, places: np.ndarray, score: np.ndarray, groups: int) -> np.ndarray:
    """(groups,) the first of the rows `places` of each group whose score is the group's highest; 0 without rows."""
    highest, first = np.full(groups, -np.inf), np.zeros(groups, dtype=int)
    np.maximum.at(highest, group[places], score[places])
    best = places[score[places] == highest[group[places]]][::-1]
    first[group[best]] = best  # of several the last one assigned stays, which is the first row
    return first


def _by_function(
    pair: Pairing, responses: Sequence[Response], group: np.ndarray, places: np.ndarray, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """(groups,) chosen and rejected rows as a pairing on responses chooses them."""
    members: dict[int, list[int]] = {}
    for place in places.tolist():
        members.setdefault(int(group[place]), []).append(place)
    chosen, rejected = np.zeros(groups, dtype=int), np.zeros(groups, dtype=int)
    for number, rows in members.items():
        row_of = {id(responses[row]): row for row in rows}
        preferred, other = pair([responses[row] for row in rows])
        chosen[number], rejected[number] = row_of[id(preferred)], row_of[id(other)]
    return chosen, rejected


def pair_gaps(rows: pa.Table, pairing: str, words_only: bool = False) -> list[float]:
    """The reward gaps of a table's pairs: r(x, y_w) - r(x, y_l) of Eq. 6."""
    paired, reward = pair_rows(rows, pairing, words_only), rows["reward"].to_numpy()
    return (reward[paired.chosen] - reward[paired.rejected]).tolist()


@dataclass
class Written:
    """What went into a file of pairs: reward gaps and the iterations of chosen responses; groups left out by reason.

    wordless: responses passed over because they have no words.
    """

    gaps: list[float]
    iterations: list[int]
    left_out: Counter[str]
    wordless: int = 0


def write_pairs(
    path: Path,
    tables: Iterable[pa.Table],
    pairing: str,
    prompt_texts: pa.Array,
    words_only: bool = False,
    more: Iterable[pa.Table] = (),
) -> Written:
    """The pairs of `training_rows` as Parquet with the columns the field uses, and both rewards but no weight.

    One file serves every loss. `prompt_texts` are those of the prompts that the rows' places count. `more`: further
    pairs, as tables of SCHEMA, which are written and not counted.
    """
    written = Written([], [], Counter())

    def pair_tables() -> Iterator[pa.Table]:
        for rows in tables:
            paired = pair_rows(rows, pairing, words_only)
            written.left_out.update(paired.left_out)
            written.wordless += paired.wordless
            table = _pair_table(rows, paired, prompt_texts)
            written.gaps += pc.subtract(table["score_chosen"], table["score_rejected"]).to_pylist()
            written.iterations += table["chosen_iteration"].to_pylist()
            yield table
        yield from more

    write_rows(path, SCHEMA, pair_tables())
    return written


def _pair_table(rows: pa.Table, paired: Paired, prompt_texts: pa.Array) -> pa.Table:
    sides = {"chosen": rows.take(paired.chosen), "rejected": rows.take(paired.rejected)}
    columns = {"prompt_id": sides["chosen"]["prompt_id"], "prompt": prompt_texts.take(sides["chosen"]["place"])}
    columns |= {side: side_rows["text"] for side, side_rows in sides.items()}
    columns |= {f"score_{side}": side_rows["reward"] for side, side_rows in sides.items()}
    for side, side_rows in sides.items():
        columns |= {f"{side}_{name}": side_rows[name] for name in OF_A_SIDE}
    return pa.table(columns, schema=SCHEMA)
