"""Which responses train, and how they pair: Algorithm 1, lines 12-18 and 20.

A *view* says which responses are looked at; they are grouped by prompt and by the iteration that sampled them, and a
*pairing* makes at most one (chosen, rejected) of each group. Every group that makes no pair is counted by its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from optune.history import History, read_responses
from optune.registry import resolve
from optune.types import PreferencePair, Prompt, Response

Pairing = Callable[[Sequence[Response]], tuple[Response, Response]]

_SIDE = [
    ("index", pa.int32()),
    ("iteration", pa.int32()),
    ("token_ids", pa.list_(pa.int32())),
    ("logprob", pa.float64()),
]
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("prompt_id", "prompt", "chosen", "rejected")],
        *[(name, pa.float64()) for name in ("score_chosen", "score_rejected")],
        *[(f"{side}_{name}", kind) for side in ("chosen", "rejected") for name, kind in _SIDE],
    ]
)


def best_vs_worst(responses: Sequence[Response]) -> tuple[Response, Response]:
    """Highest against lowest reward; with two responses, the paper's pair. Equal rewards: the lower index counts."""
    return max(responses, key=lambda r: r.reward), min(responses, key=lambda r: r.reward)


PAIRINGS: dict[str, Pairing] = {"best_vs_worst": best_vs_worst}


def training_view(history: History, view: str, iteration: int, prompt_ids: Collection[str]) -> list[Response]:
    """The responses that iteration `iteration` trains on, of the prompts it trains on.

    `latest` (the paper): each prompt's newest, fresh and reused. `fresh`: this iteration's own. `all`: every
    iteration's, the growing data set of iterative DPO.
    """
    wanted = set(prompt_ids)
    latest = history.latest()
    newest = dict(zip(latest["prompt_id"], latest["iteration"], strict=True))
    keeps: dict[str, Callable[[Response], bool]] = {
        "latest": lambda response: response.iteration == newest[response.prompt_id],
        "fresh": lambda response: response.iteration == iteration,
        "all": lambda response: True,
    }
    rows = (row for path in history.files for row in read_responses(path))
    return [row for row in rows if row.prompt_id in wanted and keeps[view](row)]


def make_pairs(
    responses: Iterable[Response], pairing: str = "best_vs_worst"
) -> tuple[list[PreferencePair], dict[str, int]]:
    """Pairs in the order of their groups' first rows, and how many groups made none, by reason.

    Groups in = pairs + groups left out. Raises UserError for an unknown pairing.
    """
    pair = resolve(PAIRINGS, pairing, "pairing")
    groups: dict[tuple[str, int], list[Response]] = {}
    for response in responses:
        groups.setdefault((response.prompt_id, response.iteration), []).append(response)
    pairs, left_out = [], Counter()
    for (prompt_id, _), group in groups.items():
        usable = [r for r in group if r.token_ids]
        if len(usable) < 2:
            left_out["fewer_than_two_responses"] += 1
            continue
        chosen, rejected = pair(usable)
        if len({r.text for r in usable}) == 1:
            left_out["identical_responses"] += 1
        elif chosen.reward == rejected.reward:
            left_out["equal_rewards"] += 1
        elif chosen.text == rejected.text:
            left_out["identical_responses"] += 1
        else:
            pairs.append(PreferencePair(prompt_id, chosen, rejected))
    return pairs, dict(left_out)


def write_pairs(path: Path, pairs: Sequence[PreferencePair], prompts: Sequence[Prompt]) -> None:
    """Parquet with the columns the field uses, and both rewards but no weight: one file serves every loss."""
    text = {prompt.prompt_id: prompt.text for prompt in prompts}
    columns: dict[str, list] = {
        "prompt_id": [p.prompt_id for p in pairs],
        "prompt": [text[p.prompt_id] for p in pairs],
        "chosen": [p.chosen.text for p in pairs],
        "rejected": [p.rejected.text for p in pairs],
        "score_chosen": [p.chosen.reward for p in pairs],
        "score_rejected": [p.rejected.reward for p in pairs],
    }
    for side in ("chosen", "rejected"):
        for name, _ in _SIDE:
            columns[f"{side}_{name}"] = [getattr(getattr(p, side), name) for p in pairs]
    pq.write_table(pa.table(columns, schema=SCHEMA), path)
