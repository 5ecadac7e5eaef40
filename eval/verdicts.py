"""From judge replies to a win score (Eq. 7), as pure functions.

Two orders per prompt: "AB" shows the test model's answer first, "BA" the baseline's. Each readable reply is a win, a
tie or a loss of the test model. A prompt is a win with two wins or a win and a tie, a loss in the mirror case, and a
tie with two ties or a win and a loss. A prompt whose replies are not both readable is `unparsed`: it is reported and
left out of n, and is never a loss or a tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from eval import stats
from eval.judges.parser import off_scale, parse_scores

ORDERS = ("AB", "BA")
Parse = Callable[[str | None], tuple[float, float] | None]
Outcome = Literal["win", "tie", "lose", "unparsed"]
POINTS: dict[str, int] = {"win": 1, "tie": 0, "lose": -1}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said about one prompt. Scores are (test model, baseline) in each order, None where unreadable."""

    prompt_id: str
    outcome: Outcome
    scores_ab: tuple[float, float] | None
    scores_ba: tuple[float, float] | None

    @property
    def points(self) -> int:
        """1, 0 or -1 for a win, a tie or a loss; undefined for an unparsed prompt."""
        return POINTS[self.outcome]

    def as_row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Verdict:
        scores = (tuple(row[name]) if row[name] else None for name in ("scores_ab", "scores_ba"))
        return cls(row["prompt_id"], row["outcome"], *scores)


def verdict_of(prompt_id: str, reply_ab: str | None, reply_ba: str | None, parse: Parse = parse_scores) -> Verdict:
    """The verdict from the two replies (None for a missing one). parse: the parser of the judge's form."""
    return verdict_of_shown(prompt_id, parse(reply_ab), parse(reply_ba))


def verdict_of_shown(
    prompt_id: str, shown_ab: tuple[float, float] | None, shown_ba: tuple[float, float] | None
) -> Verdict:
    """The verdict from scores in the order in which the answers were shown."""
    return from_scores(prompt_id, shown_ab, shown_ba[::-1] if shown_ba else None)


def from_scores(
    prompt_id: str, scores_ab: tuple[float, float] | None, scores_ba: tuple[float, float] | None
) -> Verdict:
    """The verdict from scores as (test model, baseline), whatever order they were shown in."""
    if scores_ab is None or scores_ba is None:
        return Verdict(prompt_id, "unparsed", scores_ab, scores_ba)
    net = _sign(scores_ab) + _sign(scores_ba)
    return Verdict(prompt_id, "win" if net > 0 else "lose" if net < 0 else "tie", scores_ab, scores_ba)


def win_score(win: int, lose: int, n: int) -> float | None:
    """Eq. 7: 50 + 100 (win - lose) / n, from -50 to 150; None without a scored prompt."""
    return 50 + 100 * (win - lose) / n if n else None


def win_rates(outcomes: Iterable[str]) -> dict[str, float | int]:
    """Percent of prompts won, lost and tied: Eq. 2 of "Always-On-Policy Prompts for Efficient RLHF".

    outcomes: one per prompt, from both orders as everywhere here (the paper uses one order). Unparsed prompts are
    counted and left out, as in the paper.
    """
    outcomes = list(outcomes)
    n = sum(o != "unparsed" for o in outcomes)
    shares = {name: 100 * outcomes.count(name) / n if n else None for name in ("win", "lose", "tie")}
    return {**shares, "n": n, "unparsed": len(outcomes) - n}


def summarize(verdicts: Iterable[Verdict], *, seed: int = 0, interval: bool = True) -> dict[str, Any]:
    """Counts, the win score with its bootstrap interval over prompts, and how the order swayed the judge.

    `n` counts scored prompts: win + tie + lose. `off_scale` counts replies with a score outside 1-10. Shares of scored
    prompts: `flip_share` has opposite verdicts in the two orders, `unequal_share` different ones. Shares of their
    replies: `reply_tie_share` are ties; of those that are none, the answer shown first won `first_position_share` (0.5:
    no preference for a position).
    """
    verdicts = list(verdicts)
    scored = [v for v in verdicts if v.outcome != "unparsed"]
    outcomes = Counter(v.outcome for v in verdicts)
    counts = {name: outcomes[name] for name in ("win", "tie", "lose", "unparsed")}
    replies = [scores for v in verdicts for scores in (v.scores_ab, v.scores_ba)]
    n = len(scored)
    signs = [(_sign(v.scores_ab), _sign(v.scores_ba)) for v in scored]
    first_won = sum((ab > 0) + (ba < 0) for ab, ba in signs)
    decided = sum((ab != 0) + (ba != 0) for ab, ba in signs)
    return {
        **counts,
        "off_scale": sum(off_scale(scores) for scores in replies if scores),
        "n": n,
        "win_score": win_score(counts["win"], counts["lose"], n),
        "interval": _interval([v.points for v in scored], 50, seed) if interval else None,
        "sign_test_p": stats.exact_binomial(counts["win"], counts["lose"]) if n else None,
        "flip_share": _share(sum(ab * ba < 0 for ab, ba in signs), n),
        "unequal_share": _share(sum(ab != ba for ab, ba in signs), n),
        "reply_tie_share": _share(2 * n - decided, 2 * n),
        "first_position_share": _share(first_won, decided),
        "seed": seed,
    }


def compare(a: Mapping[str, Verdict], b: Mapping[str, Verdict], *, seed: int = 0) -> dict[str, Any]:
    """Two test models against one baseline, paired on the prompts scored for both.

    `difference` is win score A - win score B on those prompts. The sign test compares the two models' outcomes prompt
    by prompt; McNemar's test compares only whether each prompt was won.
    """
    common = [i for i in a if i in b and "unparsed" not in (a[i].outcome, b[i].outcome)]
    points_a, points_b = [a[i].points for i in common], [b[i].points for i in common]
    differences = [x - y for x, y in zip(points_a, points_b, strict=True)]
    wins_a, wins_b = [p > 0 for p in points_a], [p > 0 for p in points_b]
    n = len(common)
    return {
        "n": n,
        "left_out": {
            "only_a": sum(i not in b for i in a),
            "only_b": sum(i not in a for i in b),
            "unparsed": sum(i in b for i in a) - n,
        },
        "win_score_a": 50 + 100 * sum(points_a) / n if n else None,
        "win_score_b": 50 + 100 * sum(points_b) / n if n else None,
        "difference": 100 * sum(differences) / n if n else None,
        "interval": _interval(differences, 0, seed),
        "better_a": sum(d > 0 for d in differences),
        "better_b": sum(d < 0 for d in differences),
        "sign_test_p": stats.sign_test(differences) if n else None,
        "mcnemar_p": stats.mcnemar(wins_a, wins_b) if n else None,
        "seed": seed,
    }


def _sign(scores: tuple[float, float]) -> int:
    """1, 0 or -1: the test model's score above, at or below the baseline's."""
    return (scores[0] > scores[1]) - (scores[0] < scores[1])


def _interval(points: list[int], offset: float, seed: int) -> dict[str, float] | None:
    """95% limits on the win score's scale; None with fewer than two prompts."""
    if len(points) < 2:
        return None
    limits = stats.bootstrap_mean(points, seed=seed)
    return {"low": offset + 100 * limits.low, "high": offset + 100 * limits.high, "level": limits.level}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
