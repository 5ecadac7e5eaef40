"""Tables 2, 3 and 5: averages, orders, sampling errors and settings."""

from __future__ import annotations

from math import sqrt

from experiments.compute.arms import arm
from experiments.paper_checks import Finding, Paper, finding

COLUMNS = ("HellaSwag", "MMLU", "TruthfulQA", "GSM8K")
ROUNDING = 0.005
TWO_SIDED = 1.96
FULL = arm("wdpo", "all").name
OPTUNE = {ratio: arm("wdpo", "lowest_reward", ratio).name for ratio in (0.5, 0.7)}
RANDOM = {ratio: arm("wdpo", "random", ratio).name for ratio in (0.5, 0.7)}


def table3_averages(paper: Paper) -> Finding:
    """The mean of each row's four benchmarks."""
    rows = paper["table3"]["arms"]
    gaps = {name: abs(_mean(row) - row["average"]) for name, row in rows.items()}
    wrong = [name for name, gap in gaps.items() if gap > ROUNDING + 1e-9]
    return finding(
        "Table 3",
        f"{len(rows)} averages",
        f"{len(rows) - len(wrong)} agree; largest difference {max(gaps.values()):.4f}",
        not wrong,
        holds="The averages are those of the columns, halves rounded up.",
        fails=f"Not the mean of its columns: {', '.join(wrong)}.",
    )


def table3_whole_answers(paper: Paper) -> Finding:
    """Whether each GSM8K score is a whole number of right answers out of the test set."""
    n = paper["facts"]["items"]["GSM8K"]
    scores = [row["GSM8K"] for row in paper["table3"]["arms"].values()]
    whole = sum(abs(100 * round(score * n / 100) / n - score) <= ROUNDING for score in scores)
    chance = min(1, 2 * ROUNDING * n / 100)
    return finding(
        "Table 3, GSM8K",
        f"{len(scores)} scores",
        f"{whole} are k / {n:,}; an arbitrary number would be with probability {chance:.2f}",
        whole == len(scores),
        holds="The scores are those of the whole test set, on the same questions in every row.",
        fails="A score is not a share of the test set's questions.",
    )


def table3_highest(paper: Paper, column: str) -> Finding:
    rows = paper["table3"]["arms"]
    said = paper["claims"]["highest"][column]
    best = max(rows, key=lambda name: rows[name][column])
    online = max((name for name in rows if "-" in name), key=lambda name: rows[name][column])
    return finding(
        "Table 3, Section 4.4",
        f"{said} {rows[said][column]:.2f}",
        f"{best} {rows[best][column]:.2f}; of the online policies {online}",
        best == said,
        holds="The column's highest score is the one named.",
        fails="The statement overlooks a row: another one has the highest score.",
    )


def table3_highest_truthfulqa(paper: Paper) -> Finding:
    """The row with the highest TruthfulQA score."""
    return table3_highest(paper, "TruthfulQA")


def table3_highest_gsm8k(paper: Paper) -> Finding:
    """The row with the highest GSM8K score."""
    return table3_highest(paper, "GSM8K")


def table3_order(paper: Paper) -> Finding:
    """The averages of the rows said to lie below OPTune at ratio 0.7."""
    return _order(paper, "table3", {name: row["average"] for name, row in paper["table3"]["arms"].items()})


def table3_leads(paper: Paper) -> Finding:
    """The best average's lead over each other trained row beside the sampling error of a difference."""
    rows = paper["table3"]["arms"]
    best = max(rows, key=lambda name: rows[name]["average"])
    error = standard_error_of_average(paper, best)
    leads = {name: rows[best]["average"] - row["average"] for name, row in rows.items() if name not in (best, "sft")}
    clear = [name for name, lead in leads.items() if lead > TWO_SIDED * sqrt(2) * error]
    return finding(
        "Table 3, Section 4.4",
        f"{best} superior, no errors given",
        f"leads {min(leads.values()):.2f} to {max(leads.values()):.2f}; standard error of an average {error:.2f}, "
        f"of a difference {sqrt(2) * error:.2f}",
        len(clear) == len(leads),
        holds="Every lead exceeds twice the sampling error of a difference.",
        fails="With the test sets' sizes the leads are within sampling error, treating rows as independent; the same "
        "questions were asked of all, so pairing may say more, but the scores per question are not published.",
        otherwise="unsupported",
    )


def table3_lead_by_column(paper: Paper) -> Finding:
    """OPTune's lead over the offline baseline in each column, and in the average without the largest one."""
    rows, high = paper["table3"]["arms"], OPTUNE[0.7]
    leads = {column: rows[high][column] - rows["baseline"][column] for column in COLUMNS}
    most = max(leads, key=leads.get)
    others = sum(lead for column, lead in leads.items() if column != most) / (len(COLUMNS) - 1)
    return finding(
        "Table 3, Section 4.4",
        f"average {rows[high]['average'] - rows['baseline']['average']:+.2f}",
        f"{', '.join(f'{column} {lead:+.2f}' for column, lead in leads.items())}; without {most} {others:+.2f}",
        others > 0,
        holds="The lead does not hang on one benchmark.",
        fails=f"The lead over the offline baseline is {most}'s alone; the other three favour the baseline.",
        otherwise="unsupported",
    )


def table3_equal_ratio(paper: Paper) -> Finding:
    """OPTune minus random selection at equal ratio: averages and single columns."""
    rows = paper["table3"]["arms"]
    gains = {r: rows[OPTUNE[r]]["average"] - rows[RANDOM[r]]["average"] for r in OPTUNE}
    better = sum(rows[OPTUNE[r]][c] > rows[RANDOM[r]][c] for r in OPTUNE for c in COLUMNS)
    mean = sum(gains.values()) / len(gains)
    return finding(
        "Table 3, Sections 1 and 4.1",
        "OPTune above random",
        f"{', '.join(f'{gain:+.2f} at {r}' for r, gain in gains.items())}, mean {mean:+.3f}; "
        f"{better} of {len(gains) * len(COLUMNS)} scores higher",
        min(gains.values()) > 0,
        holds="At both ratios OPTune has the higher average.",
        fails="On the benchmarks, random selection does as well as OPTune: ahead at one ratio, behind at the other, "
        "level in the mean.",
    )


def table2_order(paper: Paper) -> Finding:
    """The win rates of the rows said to lie below OPTune at ratios 0.5 and 0.7."""
    return _order(paper, "table2", paper["table2"]["arms"])


def table2_leads(paper: Paper) -> Finding:
    """OPTune's leads beside the sampling error of a win rate on the same number of prompts."""
    rates, n = paper["table2"]["arms"], paper["setup"]["test_prompts"]["AlpacaEval"]
    leads = {f"{r} over {name}": rates[OPTUNE[r]] - rates[other] for r, name, other in _table2_contrasts()}
    bound = 100 * sqrt(_share(rates[FULL]) * (1 - _share(rates[FULL])) / n)
    known = paper["facts"]["zephyr_beta"]["win_rate_standard_error"]
    return finding(
        "Table 2, Section 4.4",
        "OPTune better, no errors given",
        f"leads {', '.join(f'{lead:.2f} ({name})' for name, lead in leads.items())}; standard error of one win rate "
        f"{known:.2f} (baseline, leaderboard) to {bound:.2f} (binomial bound)",
        min(leads.values()) > TWO_SIDED * known,
        holds="The leads exceed twice the standard error of a win rate.",
        fails="Every lead is about one standard error of a single win rate or less; the leaderboard's error is that of "
        "the plain win rate, and the paper gives none for the length-controlled one.",
        otherwise="unsupported",
    )


def table2_baseline(paper: Paper) -> Finding:
    """The offline baseline's win rate on the public leaderboard."""
    said, known = paper["table2"]["arms"]["baseline"], paper["facts"]["zephyr_beta"]["lc_win_rate"]
    return finding(
        "Table 2",
        f"{said}%",
        f"{known:.2f}%",
        abs(said - known) < 0.05,
        holds="The baseline's number is the leaderboard's, so it may have been taken from there, with the "
        "leaderboard's own answers and judge replies.",
        fails="The baseline was measured otherwise than on the leaderboard.",
    )


def score_rises_with_ratio(paper: Paper) -> Finding:
    """OPTune's scores in order of the ratios 0.5, 0.7, 1.0 in Tables 2 and 3."""
    by_ratio = [*OPTUNE.values(), FULL]
    win_rates = [paper["table2"]["arms"][name] for name in by_ratio]
    averages = [paper["table3"]["arms"][name]["average"] for name in by_ratio]
    return finding(
        "Section 4.2; Tables 2 and 3",
        "the win score on LIMA rises with the ratio",
        f"Table 2: {_joined(win_rates)}; Table 3: {_joined(averages)}",
        sorted(win_rates) == win_rates and sorted(averages) == averages,
        holds="Both tables rise with the ratio.",
        fails="Section 4.2 states the trend for the win score on LIMA alone; the other two evaluations do not show it.",
        otherwise="unsupported",
    )


def random_half_degrades(paper: Paper) -> Finding:
    """What random selection of half the prompts loses against ratio 1 in Tables 2 and 3."""
    rates, rows = paper["table2"]["arms"], paper["table3"]["arms"]
    loss_rate = rates[FULL] - rates[RANDOM[0.5]]
    loss_average = rows[FULL]["average"] - rows[RANDOM[0.5]]["average"]
    share = loss_rate / (rates[FULL] - rates["baseline"])
    error = paper["facts"]["zephyr_beta"]["win_rate_standard_error"]
    return finding(
        "Section 1; Tables 2 and 3",
        "significant degradation",
        f"win rate {-loss_rate:+.2f} ({share:.0%} of the gain over the baseline), Table 3 {-loss_average:+.2f}",
        loss_rate > TWO_SIDED * error and loss_average > 0,
        holds="Random selection loses clearly in both tables.",
        fails="The observation that motivates the method rests on preliminary runs: in Tables 2 and 3 random selection "
        "loses next to nothing, or gains.",
        otherwise="unsupported",
    )


def truthfulqa_of_the_baseline(paper: Paper) -> Finding:
    """Zephyr-7B-beta's TruthfulQA score in its own report, with the same metric and shots."""
    said, known = paper["table3"]["arms"]["baseline"]["TruthfulQA"], paper["facts"]["zephyr_beta"]["TruthfulQA"]
    error = binomial_error(known, paper["facts"]["items"]["TruthfulQA"])
    return finding(
        "Tables 3 and 5",
        f"{said:.2f}",
        f"{known:.2f}, standard error at most {error:.2f}",
        abs(said - known) < TWO_SIDED * error,
        holds="The baseline scores as in its own report.",
        fails="Something in the measurement differs (such as the chat template), so Table 3 compares its own rows and "
        "not with scores published elsewhere.",
    )


def table5_shots(paper: Paper) -> Finding:
    """The harness's own number of demonstrations per benchmark."""
    said = {name: row["shots"] for name, row in paper["table5"]["benchmarks"].items()}
    harness, board = paper["facts"]["harness"]["shots"], paper["facts"]["leaderboard_shots"]
    other = [f"{name} {board[name]}" for name in said if board[name] != said[name]]
    return finding(
        "Table 5, Section 4.1",
        _shots(said),
        _shots({name: harness[name] for name in said}),
        said == {name: harness[name] for name in said},
        holds=f"These are the harness's defaults; published scores mostly use more ({', '.join(other)}), and "
        "TruthfulQA's prompt has 6 fixed demonstrations although it counts as 0.",
        fails="These are not the harness's defaults, which the text says they are.",
    )


def table5_metrics(paper: Paper) -> Finding:
    """Whether the pinned release of the harness has the metric named for each benchmark."""
    said = {name: row["metric"] for name, row in paper["table5"]["benchmarks"].items()}
    known = paper["facts"]["harness"]["metrics"]
    unknown = [name for name, metric in said.items() if name != "TruthfulQA" and metric not in known[name]]
    return finding(
        "Table 5",
        ", ".join(f"{name} {metric}" for name, metric in said.items()),
        "not in lm-eval 0.4.13: " + (", ".join(f"{name} {said[name]}" for name in unknown) or "none"),
        not unknown,
        holds="Each metric is one of the task's.",
        fails="Releases of lm-eval before 0.4 call GSM8K's metric acc; the pinned 0.4.13 has exact_match, under a "
        "strict and a flexible filter that can differ by points, so which of them Table 3 shows is open (TruthfulQA's "
        "mc2 is a task there, with the metric acc).",
        otherwise="unsupported",
    )


def standard_error_of_average(paper: Paper, name: str) -> float:
    """Sampling error, in percent, of the mean of four scores on independent test sets."""
    row, items = paper["table3"]["arms"][name], paper["facts"]["items"]
    return sqrt(sum(binomial_error(row[column], items[column]) ** 2 for column in COLUMNS)) / len(COLUMNS)


def binomial_error(percent: float, n: int) -> float:
    """Standard error of a share, in percent; an upper bound where items score between 0 and 1 (mc2)."""
    return 100 * sqrt(_share(percent) * (1 - _share(percent)) / n)


def _order(paper: Paper, table: str, scores: dict[str, float]) -> Finding:
    claims = paper["claims"]["orders"][table]
    pairs = [(claim["higher"], other) for claim in claims for other in claim["lower"]]
    wrong = [
        f"{low} {scores[low]:.2f} >= {high} {scores[high]:.2f}" for high, low in pairs if scores[low] >= scores[high]
    ]
    return finding(
        f"{paper[table]['source']}, Section 4.4",
        f"{len(pairs)} orders",
        "; ".join(wrong) or f"{len(pairs)} hold",
        not wrong,
        holds="The numbers are in the order that the text states; how surely is another check.",
        fails="The numbers are not in the order that the text states.",
    )


def _table2_contrasts() -> list[tuple[float, str, str]]:
    return [(r, name, other) for r in OPTUNE for name, other in (("random", RANDOM[r]), ("ratio 1", FULL))]


def _mean(row: dict[str, float]) -> float:
    return sum(row[column] for column in COLUMNS) / len(COLUMNS)


def _share(percent: float) -> float:
    return percent / 100


def _shots(shots: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in shots.items())


def _joined(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


CHECKS = (
    table2_order,
    table2_leads,
    table2_baseline,
    table3_averages,
    table3_whole_answers,
    table3_order,
    table3_highest_truthfulqa,
    table3_highest_gsm8k,
    table3_leads,
    table3_lead_by_column,
    table3_equal_ratio,
    score_rises_with_ratio,
    random_half_degrades,
    truthfulqa_of_the_baseline,
    table5_shots,
    table5_metrics,
)
