"""Computes Table 4 from the ratings, and how much the raters agree with each other and with a judge.

Every number here is a function of sums over prompts, so one bootstrap over prompts gives all intervals. Prompts are
resampled because ratings of one prompt (several raters, two comparisons that share an answer) are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.human_study.ratings import read_ratings
from eval.human_study.study import Study, plain_lines
from eval.stats import RESAMPLES, Interval
from optune.prompts.conversation import present
from optune.types import UserError
from optune.utils.files import jsonl_rows

OUTCOMES = ("win", "lose", "tie")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Ratings per pair and outcome. counts: shape (pairs, 3), columns as OUTCOMES; prompts: shape (pairs,).

    `first` counts per pair the ratings that chose the answer on the left, and `judge` holds the judge's outcome as an
    index into OUTCOMES, or -1 where there is none.
    """

    counts: Array
    prompts: NDArray[np.str_]
    first: Array
    judge: NDArray[np.int64]


def analyse(
    folder: str | Path, study: Study, verdicts: Mapping[str, str | Path] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """All results of a study as plain data; `verdicts` is a judge's file per comparison (see `read_verdicts`).

    Raises UserError where there are no ratings.
    """
    ratings = read_ratings(folder, study)
    if not ratings:
        raise UserError(f"{folder}: no ratings yet; import some first.")
    names = [c["name"] for c in study.comparisons]
    if unknown := set(verdicts or {}) - set(names):
        raise UserError(f"verdicts: {sorted(unknown)[0]!r} is not a comparison of this study; it has {names}.")
    judged = {name: read_verdicts(path) for name, path in (verdicts or {}).items()}
    items = {item.item_id: item for item in study.items}
    index = {pair_id: i for i, pair_id in enumerate(study.pairs)}
    counts, first = np.zeros((len(index), 3)), np.zeros(len(index))
    for rating in ratings:
        item = items[rating.item]
        counts[index[item.pair_id], OUTCOMES.index(study.outcome(item, rating.choice))] += 1
        first[index[item.pair_id]] += rating.choice == "1"
    pairs = list(study.pairs.values())
    judge = np.array([_verdict_of(pair, judged.get(pair.comparison, {})) for pair in pairs])
    prompts = np.array([pair.prompt_id for pair in pairs])

    def table(keep: Iterable[bool]) -> Table:
        rows = np.array(list(keep)) & (counts.sum(axis=1) > 0)
        return Table(counts[rows], prompts[rows], first[rows], judge[rows])

    tables = {name: table(pair.comparison == name for pair in pairs) for name in names}
    return {
        "study": study.study_id,
        "simulated": any(rating.simulated for rating in ratings),
        "ratings": len(ratings),
        "ratings_expected": len(study.items),
        "raters": len({rating.rater for rating in ratings}),
        "comparisons": {name: _comparison(t, seed) for name, t in tables.items() if len(t.counts)},
        "all": _agreement(table(True for _ in pairs), seed),
        "judge": {name: _judge(tables[name], seed) for name in judged},
    }


def _comparison(table: Table, seed: int) -> dict[str, Any]:
    counts, total = table.counts, table.counts.sum(axis=1)
    shares = {outcome: share(table.prompts, counts[:, i], total, seed).as_dict() for i, outcome in enumerate(OUTCOMES)}
    net = share(table.prompts, counts[:, 0] - counts[:, 1], total, seed).as_dict()
    return {
        "ratings": int(total.sum()),
        "pairs": len(counts),
        **shares,
        "win_minus_lose": net,
        **_agreement(table, seed),
    }


def _agreement(table: Table, seed: int) -> dict[str, Any]:
    decided = table.counts[:, :2].sum(axis=1)
    return {
        "krippendorff_alpha": cluster_bootstrap(
            table.prompts, alpha_terms(table.counts), alpha_of, seed=seed
        ).as_dict(),
        "raw_agreement": share(table.prompts, *agreeing_pairs(table.counts), seed).as_dict(),
        "first_answer_chosen": share(table.prompts, table.first, decided, seed).as_dict(),
    }


def _judge(table: Table, seed: int) -> dict[str, Any]:
    """Agreement with a judge: per rating, per rating where both decide, and of the raters' most frequent outcome."""
    has = table.judge >= 0
    counts, prompts, judge = table.counts[has], table.prompts[has], table.judge[has]
    same = np.take_along_axis(counts, judge[:, None], axis=1)[:, 0]
    decided = judge < 2
    ranked = np.sort(counts, axis=1)
    clear = ranked[:, -1] > ranked[:, -2]
    return {
        "pairs": len(counts),
        "pairs_without_verdict": int((~has).sum()),
        "ratings": share(prompts, same, counts.sum(axis=1), seed).as_dict(),
        "decided_ratings": share(prompts, same * decided, counts[:, :2].sum(axis=1) * decided, seed).as_dict(),
        "majority": share(prompts, clear & (counts.argmax(axis=1) == judge), clear, seed).as_dict(),
        "majority_pairs": int(clear.sum()),
    }


# --- agreement -------------------------------------------------------------------------------------------------------


def agreeing_pairs(counts: Array) -> tuple[Array, Array]:
    """Per unit, ordered pairs of raters that agree, and all ordered pairs. counts: shape (units, categories)."""
    total = counts.sum(axis=1)
    return (counts * (counts - 1)).sum(axis=1), total * (total - 1)


def alpha_terms(counts: Array) -> Array:
    """The terms of each unit in Krippendorff's alpha: shape (units, 1 + categories).

    Column 0 is the unit's disagreeing pairs of raters over (ratings - 1), the others its ratings per category. A unit
    with a single rating cannot agree or disagree and counts nothing.
    """
    total = counts.sum(axis=1, keepdims=True)
    pairable = total > 1
    agreeing, all_pairs = agreeing_pairs(counts)
    disagreement = (all_pairs - agreeing)[:, None] / np.maximum(total - 1, 1)
    return np.where(pairable, np.hstack([disagreement, counts]), 0.0)


def alpha_of(sums: Array) -> Array:
    """Krippendorff's alpha for nominal data from sums of `alpha_terms`; shape (..., 1 + categories) -> (...).

    1 - observed / expected disagreement (Krippendorff, Content Analysis, ch. 11); NaN where all ratings are equal.
    """
    disagreement, categories = sums[..., 0], sums[..., 1:]
    total = categories.sum(axis=-1)
    expected = total**2 - (categories**2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * disagreement / expected, np.nan)


# --- intervals -------------------------------------------------------------------------------------------------------


def share(clusters: NDArray[np.str_], part: Array, whole: Array, seed: int) -> Interval:
    """Sum of `part` over sum of `whole`, with its cluster bootstrap interval. All of shape (units,)."""

    def ratio(sums: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)

    return cluster_bootstrap(clusters, np.stack([part, whole], axis=1).astype(float), ratio, seed=seed)


def cluster_bootstrap(
    clusters: NDArray[np.str_],
    terms: Array,
    statistic: Callable[[Array], Array],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile interval of `statistic(sum of terms)` when whole clusters are resampled.

    terms: shape (units, k); clusters: shape (units,); `statistic` maps (..., k) to (...). Limits are NaN for fewer
    than two clusters; resamples in which the statistic is undefined are left out.
    """
    names, which = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(names), terms.shape[1]))
    np.add.at(sums, which, terms)
    estimate = float(statistic(sums.sum(axis=0)))
    if len(names) < 2 or np.isnan(estimate):
        return Interval(estimate, float("nan"), float("nan"), level)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    values = statistic(weights @ sums)
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


# --- a judge's verdicts ----------------------------------------------------------------------------------------------


def read_verdicts(path: str | Path) -> dict[str, str]:
    """A judge's outcome per prompt from JSONL rows with `prompt_id` or `instruction`, and `outcome` or `verdict`.

    That is what a win score's run directory holds as `verdicts.jsonl`. The outcome is win, lose or tie for the
    comparison's first model; another one (`unparsed`) counts as no verdict. Raises UserError naming the line.
    """
    verdicts: dict[str, str] = {}
    for number, row in jsonl_rows(path):
        where = f"{path}, line {number}"
        given = row if isinstance(row, dict) else {}
        keys = {plain_lines(str(given[name])) for name in ("prompt_id", "instruction") if present(given.get(name))}
        verdict = next((given[name] for name in ("outcome", "verdict") if present(given.get(name))), None)
        if not keys or not isinstance(verdict, str):
            raise UserError(f"{where}: expected 'outcome', and 'prompt_id' or 'instruction'.")
        if keys & verdicts.keys():
            raise UserError(f"{where}: a second verdict on the same prompt; keep one.")
        verdicts.update(dict.fromkeys(keys, verdict))
    return verdicts


def _verdict_of(pair: Any, verdicts: Mapping[str, str]) -> int:
    verdict = verdicts.get(pair.prompt_id, verdicts.get(pair.question))
    return OUTCOMES.index(verdict) if verdict in OUTCOMES else -1


# --- the table -------------------------------------------------------------------------------------------------------


def format_results(results: Mapping[str, Any]) -> str:
    """The results as text: Table 4 first."""
    lines = []
    if results["simulated"]:
        lines.append("SIMULATED RATERS: a dry run of the machinery. It says nothing about people or models.")
    lines.append(
        f"Human study {results['study']}: {results['ratings']} of {results['ratings_expected']} ratings "
        f"from {results['raters']} raters. 95% intervals resample prompts."
    )
    lines += _table("Table 4", results["comparisons"], ("win", "lose", "tie", "win_minus_lose"))
    agreement = {**results["comparisons"], "all": results["all"]}
    lines += _table("Agreement", agreement, ("raw_agreement", "krippendorff_alpha", "first_answer_chosen"))
    if results["judge"]:
        lines += _table("Agreement with the judge", results["judge"], ("ratings", "decided_ratings", "majority"))
        for name, result in results["judge"].items():
            if result["pairs_without_verdict"]:
                lines.append(f"{name}: {result['pairs_without_verdict']} rated pairs have no verdict.")
    return "\n".join(lines)


def _table(title: str, rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> list[str]:
    width = max(len(title), *map(len, rows))
    heads = [column.replace("_", " ") + ("" if column == "krippendorff_alpha" else " %") for column in columns]
    lines = ["", f"{title:{width}}" + "".join(f"  {head:>22}" for head in heads)]
    for name, row in rows.items():
        cells = [_cell(row[column], 1 if column == "krippendorff_alpha" else 100) for column in columns]
        lines.append(f"{name:{width}}" + "".join(f"  {cell:>22}" for cell in cells))
    return lines


def _cell(interval: Mapping[str, float], scale: int) -> str:
    estimate, low, high = (interval[k] * scale for k in ("estimate", "low", "high"))
    if np.isnan(estimate):
        return "undefined"
    return f"{estimate:.2f} [{low:.2f}, {high:.2f}]"
