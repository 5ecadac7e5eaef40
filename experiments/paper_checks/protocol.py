"""The win score, the test prompts, what was swept and what the arms are compared with."""

from __future__ import annotations

from itertools import product
from math import sqrt

from experiments.compute.arms import RATIOS, arm
from experiments.paper_checks import Finding, Paper, finding

TWO_SIDED = 1.96


def win_rule(paper: Paper) -> Finding:
    """The nine outcomes of two orders under the rule as worded, for the test model and mirrored for the baseline."""
    rule = paper["equations"]["eq7"]
    outcomes = list(product(("win", "tie", "lose"), repeat=2))
    both = [o for o in outcomes if _wins(o, rule) and _wins(tuple(map(_mirror, o)), rule)]
    share = paper["facts"]["judge_opposite_verdicts"]["share"]
    return finding(
        "Section 4.1, before Eq. 7",
        f"at least {rule['at_least_wins']} win and at most {rule['at_most_ties']} tie",
        f"{len(both)} of {len(outcomes)} outcomes win for both sides; GPT-4 gives them on {share:.0%} of prompts",
        not both,
        holds="No outcome is a win for both sides.",
        fails="One win and one loss is a win for the test model and for the baseline; counted for the test model alone "
        f"it would add {100 * share:.0f} points, so we take it as a tie.",
    )


def win_score_scale(paper: Paper) -> Finding:
    """Eq. 7 where the test model wins all, as many as it loses, and none."""
    eq7 = paper["equations"]["eq7"]
    low, even, high = (eq7["offset"] + eq7["factor"] * net for net in (-1, 0, 1))
    return finding(
        "Eq. 7",
        "50 or more: at least as good as the baseline",
        f"{even} at equality, from {low} to {high}",
        even == 50,
        holds="50 is parity, as said; the score is not a percentage, since it runs below 0 and above 100.",
        fails="50 is not parity.",
    )


def win_score_leads(paper: Paper) -> Finding:
    """The sampling error of a difference of two win scores, 50% to 100% of prompts decided, beside Figure 3's leads."""
    n = paper["setup"]["test_prompts"]["LIMA"]
    errors = [100 * sqrt(2 * decided / n) for decided in (0.5, 1.0)]
    leads = _leads(paper)
    clear = leads is not None and min(leads) > TWO_SIDED * errors[0]
    return finding(
        "Figure 3, Section 4.2",
        "OPTune significantly above random, without errors or tests",
        f"standard error {errors[0]:.1f} to {errors[1]:.1f} points on {n} prompts, one run each",
        clear,
        holds="The leads at iteration 3 exceed twice the sampling error.",
        fails=f"Two arms must differ by {TWO_SIDED * errors[0]:.0f} points or more before {n} prompts tell them apart, "
        "treating them as independent; seeds add to it, and no bar has a number or an error.",
        otherwise="unsupported",
    )


def test_prompt_counts(paper: Paper) -> Finding:
    """LIMA's test set beside those it is said to exceed."""
    counts = paper["setup"]["test_prompts"]
    others = {name: counts[name] for name in ("MT-bench", "Koala", "WizardLM")}
    return finding(
        "Section 5",
        f"{counts['LIMA']} prompts, more than {', '.join(others)}",
        ", ".join(f"{name} {n}" for name, n in others.items()),
        counts["LIMA"] > max(others.values()),
        holds="It is the largest of the four, though AlpacaEval has 805.",
        fails="It is not the largest.",
    )


def sweep_in_tables(paper: Paper) -> Finding:
    """Which of the swept ratios Tables 2 and 3 report."""
    swept = [ratio for ratio in paper["setup"]["ratios"] if ratio < 1]
    missing = [
        f"{ratio} in {table.replace('table', 'Table ')}"
        for table in ("table2", "table3")
        for ratio in swept
        if arm("wdpo", "lowest_reward", ratio).name not in paper[table]["arms"]
    ]
    speedup = 1 / (1 - paper["table1"]["shares"]["generation"] / 100 * (1 - min(swept)))
    return finding(
        "Section 4.2; Tables 2 and 3",
        f"ratios {', '.join(map(str, swept))} and 1 swept",
        "missing: " + (", ".join(missing) or "none"),
        not missing,
        holds="Every ratio swept is reported.",
        fails=f"The ratio that would save most ({min(swept)}: {speedup:.2f}x by Table 1) is left out of the tables and "
        "of the speedups, so what is lost there cannot be seen.",
        otherwise="unsupported",
    )


def parity_of_dpo(paper: Paper) -> Finding:
    """The ratios at which caption and text say that DPO keeps the performance of ratio 1."""
    claims = paper["claims"]["parity_with_full"]
    caption, text = claims["fig4_caption"], claims["section_4_2_dpo"]
    generation = paper["table1"]["shares"]["generation"] / 100
    speedup = 1 / (1 - generation * (1 - min(caption)))
    return finding(
        "Figure 4's caption, Section 4.2",
        f"text: {', '.join(map(str, text))} (inferred from the speedups given there)",
        f"caption: {', '.join(map(str, caption))}",
        set(caption) == set(text),
        holds="Caption and text name the same ratios.",
        fails=f"The caption vouches for no less than ratio {min(caption)}, which by Table 1 is {speedup:.2f}x, without "
        f"denying {min(text)}; that parity extends to it is our reading of the text, which gives speedups up to "
        f"{paper['claims']['speedup']['section_4_2'][-1]}x for DPO as well.",
        otherwise="unsupported",
    )


def data_of_the_baseline(paper: Paper) -> Finding:
    """The offline baseline's preference pairs, and what the online arms sample and train on."""
    setup, known = paper["setup"], paper["facts"]["ultrafeedback_binarized"]["pairs"]
    passes = setup["iterations"] + setup["shared_iterations"]
    return finding(
        "Section 4.1",
        f"{setup['baseline_triplets']:,} triplets, much more than {setup['prompts']:,} prompts",
        f"{known:,} pairs; online {setup['prompts'] / known:.0%} as many prompts, and {passes * setup['prompts']:,} "
        "pairs trained on",
        abs(setup["baseline_triplets"] / known - 1) < 0.05,
        holds="The baseline's data set is as large as stated.",
        fails="The set that Zephyr-7B-beta was tuned on is a third of the size stated (200k is UltraChat's), so the "
        "online policies see nearly as many prompts and about three times as many pairs.",
    )


def _wins(outcome: tuple[str, ...], rule: dict[str, int]) -> bool:
    return outcome.count("win") >= rule["at_least_wins"] and outcome.count("tie") <= rule["at_most_ties"]


def _mirror(verdict: str) -> str:
    return {"win": "lose", "lose": "win"}.get(verdict, verdict)


def _leads(paper: Paper) -> list[float] | None:
    """OPTune minus random at iteration 3 of Figure 3 by ratio; None where bars are not known."""
    last = {name: points[-1]["win_score"] for name, points in paper["fig3"]["arms"].items()}
    if None in last.values():
        return None
    return [last[arm("wdpo", "lowest_reward", r).name] - last[arm("wdpo", "random", r).name] for r in RATIOS]


CHECKS = (
    win_rule,
    win_score_scale,
    win_score_leads,
    test_prompt_counts,
    sweep_in_tables,
    parity_of_dpo,
    data_of_the_baseline,
)
