"""Table 4 and Appendix D: can the percentages come from the ratings described, and what do they show?"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor

from eval.stats import exact_binomial
from experiments.paper_checks import Finding, Paper, finding

ROUNDING = 0.005  # percentages are given to two decimals
SIGNIFICANT = 0.05
NAMES = {"wdpo-all-1.0": "ratio 1", "wdpo-random-0.7": "random"}


def table4_row_sums(paper: Paper) -> Finding:
    """The sum of each row of Table 4."""
    sums = {NAMES[name]: sum(row.values()) for name, row in _rows(paper).items()}
    return finding(
        "Table 4",
        "100%",
        ", ".join(f"{name} {total:.2f}%" for name, total in sums.items()),
        all(abs(total - 100) < 3 * ROUNDING for total in sums.values()),
        holds="Wins, losses and ties make up each row, within rounding.",
        fails="A row does not add up to the whole.",
    )


def table4_quoted_alike(paper: Paper) -> Finding:
    """Section 4.4's percentages beside Table 4's."""
    quoted = paper["table4"]["quoted_in_section_4_4"]
    pairs = [(v, _rows(paper)[row][k]) for row, values in quoted.items() for k, v in values.items() if v is not None]
    return finding(
        "Section 4.4, Table 4",
        f"{len(pairs)} percentages",
        f"{sum(a == b for a, b in pairs)} equal",
        all(a == b for a, b in pairs),
        holds="Text and table give the same percentages.",
        fails="Text and table differ.",
    )


def ratings_per_pair(paper: Paper) -> Finding:
    """Raters times pairs each, over the number of pairs."""
    study = paper["table4"]
    ratings = study["raters"] * study["pairs_per_rater"]
    each = ratings / study["pairs"]
    agrees = (ratings, each) == (study["ratings"], study["ratings_per_pair"])
    return finding(
        "Section 4.4, Appendix D, Table 4",
        f"{study['ratings']} ratings, {study['ratings_per_pair']} per pair",
        f"{ratings} ratings, {each:g} per pair",
        agrees,
        holds="The design as described gives the numbers described; pairs drawn at random per rater get 4 on average.",
        fails="The design described does not give the number of ratings described.",
    )


def table4_sample_sizes(paper: Paper) -> Finding:
    """Which numbers of ratings give a row's three percentages when rounded to two decimals."""
    study = paper["table4"]
    sizes = {name: possible_sizes(row, study["ratings"]) for name, row in _rows(paper).items()}
    said = study["ratings_per_comparison"]
    return finding(
        "Table 4, Appendix D",
        f"{said} ratings in each row",
        "; ".join(f"{NAMES[name]}: {_few(possible)}" for name, possible in sizes.items()),
        all(said in possible for possible in sizes.values()),
        holds="The percentages can come from the number of ratings stated.",
        fails=f"No count out of {said} gives these percentages, so ratings are missing, or something else was counted "
        "than the text says.",
    )


def table4_sizes_together(paper: Paper) -> Finding:
    """Whether any two possible row sizes add up to the ratings collected."""
    study = paper["table4"]
    first, second = (set(possible_sizes(row, study["ratings"])) for row in _rows(paper).values())
    together = sorted(n for n in first if study["ratings"] - n in second)
    return finding(
        "Table 4, Appendix D",
        f"{study['ratings']} ratings in both rows together",
        f"{len(together)} ways" if together else "impossible",
        bool(together),
        holds="Some split of the ratings gives both rows.",
        fails="Not even an uneven split of the ratings between the two comparisons gives both rows.",
    )


def table4_preference(paper: Paper) -> Finding:
    """Exact sign test of wins against losses over random selection, ties left out."""
    name = paper["claims"]["human_preference"]["preferred_over"]
    row, said = _rows(paper)[name], paper["table4"]["ratings_per_comparison"]
    tests = [(*_sign_test(row, n), n) for n in _extreme_sizes(row, said)]
    return finding(
        "Table 4, Section 4.4",
        f"preferred, {row['win']}% against {row['loss']}%",
        "; ".join(f"{win} against {loss} of {n}: p = {p:.2f}" for win, loss, p, n in tests),
        row["win"] > row["loss"] and max(p for _, _, p, _ in tests) < SIGNIFICANT,
        holds="The preference is unlikely to be chance, if ratings are independent.",
        fails=f"With the fewest as with the most ratings that fit the row within the {said} stated, p stays above "
        "0.05, even before ratings of one pair or by one rater are taken as less than independent; more ratings than "
        "stated could bring it below.",
        otherwise="unsupported",
    )


def table4_similarity(paper: Paper) -> Finding:
    """95% limits of OPTune's share of decided ratings against ratio 1 (exact)."""
    row = _rows(paper)[paper["claims"]["human_preference"]["similar_to"]]
    said = paper["table4"]["ratings_per_comparison"]
    tests = []
    for n in _extreme_sizes(row, said):
        win, loss, _ = _sign_test(row, n)
        tests.append((win, win + loss, n, *_exact_interval(win, win + loss)))
    (low, high), (lowest, highest) = tests[-1][-2:], tests[0][-2:]
    return finding(
        "Table 4, Section 4.4",
        f"similar, {row['win']}% against {row['loss']}%",
        "; ".join(
            f"{win} of {decided} decided of {n}: 95% limits {a:.0%} to {b:.0%}" for win, decided, n, a, b in tests
        ),
        all(a >= 0.4 and b <= 0.6 for *_, a, b in tests),
        holds="The ratings confine the preference to within ten points of even.",
        fails=f"At the smallest size that fits the row the limits are {lowest:.0%} to {highest:.0%}; at the largest "
        f"within the {said} stated they are {low:.0%} to {high:.0%}, still not within ten points of even, so the "
        "ratings do not show similarity.",
        otherwise="unsupported",
    )


def possible_sizes(row: Mapping[str, float], most: int) -> list[int]:
    """Sample sizes up to `most` whose counts, adding up to the size, give a row's percentages at two decimals."""
    sizes = []
    for n in range(1, most + 1):
        ranges = [_counts(percent, n) for percent in row.values()]
        if all(ranges) and sum(r[0] for r in ranges) <= n <= sum(r[-1] for r in ranges):
            sizes.append(n)
    return sizes


def _extreme_sizes(row: Mapping[str, float], said: int) -> list[int]:
    """The smallest and the largest possible size up to the one stated; the one stated where none fits."""
    sizes = possible_sizes(row, said) or [said]
    return sorted({sizes[0], sizes[-1]})


def _counts(percent: float, n: int) -> range:
    """Counts out of n that round to this percentage; a rounded half may go either way."""
    low = ceil((percent - ROUNDING) * n / 100 - 1e-9)
    high = floor((percent + ROUNDING) * n / 100 + 1e-9)
    return range(low, high + 1)


def _sign_test(row: Mapping[str, float], n: int) -> tuple[int, int, float]:
    win, loss = round(row["win"] * n / 100), round(row["loss"] * n / 100)
    return win, loss, exact_binomial(win, loss)


def _exact_interval(successes: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def _rows(paper: Paper) -> Mapping[str, Mapping[str, float]]:
    return paper["table4"]["comparisons"]


def _few(sizes: list[int]) -> str:
    if not sizes:
        return "none"
    return ", ".join(map(str, sizes[:3])) + (", ..." if len(sizes) > 3 else "")


CHECKS = (
    table4_row_sums,
    table4_quoted_alike,
    ratings_per_pair,
    table4_sample_sizes,
    table4_sizes_together,
    table4_preference,
    table4_similarity,
)
