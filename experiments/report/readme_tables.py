"""The tables of results in README.md and docs/results.md, as `make report` writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from experiments.claims.contrasts import SPEEDUPS
from experiments.claims.rules import OUTCOMES, Claim
from experiments.compute.arms import INSTRUCTIONS_BUILD_OF_SEED
from experiments.development import gate_figure
from experiments.figures.figure import Data, interval, shown, signed
from experiments.report.afterwards import beside_baseline, shown_verdict

UNITS = {
    "win_score": "win score",
    "gold_mean": "gold",
    "length_controlled_winrate": "LC win rate",
    "seconds": "measured minus claimed",
    "share": "share minus 0.5",
}
REAL_SEEDS = len(INSTRUCTIONS_BUILD_OF_SEED)


def summary(verdicts: Sequence[dict[str, Any]]) -> str:
    """README's six rows: what each claim of SUMMARY says, what we measured, and the verdict."""
    rows = {row["claim"]: row for row in verdicts}
    lines = ["| the paper's claim | here [95% interval] | verdict |", "|---|---|---|"]
    for key, measured in SUMMARY.items():
        if key in rows:
            row = rows[key]
            lines.append(f"| {row['statement']} | {measured(row)} | **{shown_verdict(row)}**{_caution(row)} |")
    return "\n".join(lines)


def real_model(development: Data) -> str:
    """The start policy and both arms after the last iteration, means over development seeds, and ratio 1's lead."""
    by_iteration = development["by_iteration"]
    rows = {"start policy": gate_figure.START | development["start"]}
    for name, arm in {"ratio 1": "full", "never regenerating (`none`)": "none"}.items():
        rows[name] = {measure: fmean(run[measure][-1] for run in by_iteration[arm]) for measure in by_iteration[arm][0]}
    lines = ["| | win score | gold | constraints met | KL, nats |", "|---|---|---|---|---|"]
    for name, values in rows.items():
        cells = f"{values['win_score']:.1f} | {values['gold_mean']:.2f} | {values['met_mean']:.0%}"
        lines.append(f"| {name} | {cells} | {values['kl_to_sft']:.1f} |")
    leads = {name: {"estimate": development[name]["gain"], **development[name]} for name in OUTCOMES}
    told = [_estimate(name, lead) for name, lead in leads.items()]
    met, kl = (_leads(by_iteration, name) for name in ("met_mean", "kl_to_sft"))
    told += [f"{signed(interval([100 * lead for lead in met]), 0)} points", signed(interval(kl), 1)]
    return "\n".join([*lines, f"| ratio 1 minus `none` [95% interval] | {' | '.join(told)} |"])


def _leads(by_iteration: Data, measure: str) -> list[float]:
    """Ratio 1 minus `none` after the last iteration, of every seed."""
    pairs = zip(by_iteration["full"], by_iteration["none"], strict=True)
    return [full[measure][-1] - none[measure][-1] for full, none in pairs]


def real_findings(verdicts: Sequence[dict[str, Any]], claims: Sequence[Claim]) -> str:
    """README's six rows on the real model, from report seeds; of too few seeds without a verdict."""
    rows = {row["claim"]: row for row in verdicts}
    lines = ["| claim | here [95% interval] | verdict |", "|---|---|---|"]
    for claim in claims:
        if claim.key in REAL_SUMMARY:
            told = _contrasts(rows[claim.key]) if claim.key in rows else ""
            lines.append(f"| {claim.statement} | {told} | {_standing(rows.get(claim.key))} |")
    return "\n".join(lines)


def _standing(row: dict[str, Any] | None) -> str:
    """The verdict of a real model's claim, or how many seeds are there for it."""
    if row is None:
        return f"not run yet: two of {REAL_SEEDS} seeds at least"
    if row["verdict"].startswith("preview"):
        return f"none yet: {len(row['seeds'])} of {REAL_SEEDS} seeds"
    return f"**{row['verdict']}**"


def results(verdicts: Sequence[dict[str, Any]]) -> str:
    """One row per claim of the paper: what it claims, our contrast with its interval, and the verdict."""
    lines = ["| the paper's claim | here: contrast [95% interval] | verdict |", "|---|---|---|"]
    for row in verdicts:
        if row["family"] == "paper":
            lines.append(f"| {row['statement']} | {_contrasts(row)} | **{shown_verdict(row)}**{_caution(row)} |")
    return "\n".join(lines)


def _contrasts(row: dict[str, Any]) -> str:
    return "; ".join(_told(name, test) for name, test in row["outcomes"].items())


def _share(row: dict[str, Any]) -> str:
    """The contrast is the share of time minus 0.5."""
    share, low, high = (0.5 + row["outcomes"]["share"][limit] for limit in ("estimate", "low", "high"))
    return f"{share:.0%} of the time [{low:.1%}, {high:.1%}]"


def _speedup(ratio: float) -> Callable[[dict[str, Any]], str]:
    """The contrast is the measured speedup minus the claimed one."""

    def measured(row: dict[str, Any]) -> str:
        test = row["outcomes"]["seconds"]
        times, low, high = (SPEEDUPS[ratio] + test[limit] for limit in ("estimate", "low", "high"))
        return f"{times:.2f} times as fast [{low:.2f}, {high:.2f}]"

    return measured


def _parity(row: dict[str, Any]) -> str:
    """OPTune minus ratio 1, and beside it what ratio 1 gains over never regenerating."""
    gates = {name: test["gate"] for name, test in row["outcomes"].items()}
    gained = "; ".join(_told(name, gate) for name, gate in gates.items())
    return f"OPTune minus ratio 1: {_contrasts(row)}. Ratio 1 minus never regenerating (`none`): {gained}"


SUMMARY: dict[str, Callable[[dict[str, Any]], str]] = {
    "table1-generation-dominates": _share,
    "fig3-lowest-over-random": _contrasts,
    "fig3-parity-with-full": _parity,
    "fig6-wdpo-over-dpo": _contrasts,
    "fig3-online-over-offline": _contrasts,
    "fig5-speedup-0.5": _speedup(0.5),
}

REAL_SUMMARY = (
    "real-full-over-none",
    "real-over-none-0.5",
    "real-parity-0.5",
    "real-lowest-over-random",
    "real-online-over-offline",
    "real-wdpo-over-dpo",
)


def _caution(row: dict[str, Any]) -> str:
    """What weakens a parity verdict, and the rule's class if another one is shown.

    The tables are those of the tiny world.
    """
    if shown_verdict(row) != row["verdict"]:
        return f" (by the rule {row['verdict']}; another machine's clock)"
    if beside := beside_baseline(row, "tiny"):
        return f" ({beside})"
    gates = [test["gate"]["within_margin"] for test in row["outcomes"].values() if "gate" in test]
    weak = row["verdict"] == "replicated" and gates and all(gates)
    return " (by the same rule, so is never regenerating)" if weak else ""


def _told(name: str, test: dict[str, Any]) -> str:
    return f"{UNITS.get(name, name.replace('_', ' '))} {_estimate(name, test)}"


def _estimate(name: str, test: dict[str, Any]) -> str:
    """A contrast with its interval."""
    digits = 1 if name == "win_score" else 2
    limits = f"[{test['low']:+.{digits}f}, {test['high']:+.{digits}f}]"
    return f"{test['estimate']:+.{digits}f} {limits}"


def recipes(data: Data) -> str:
    """One row per member of `compare-recipes.json`: its outcomes where vanilla's tokens, or seconds, are spent."""
    lines = ["| recipe | at equal tokens: win score; gold | at equal seconds: win score; gold |", "|---|---|---|"]
    for member in data["members"].values():
        cells = [f"{shown(at_budget['win_score'])}; {shown(at_budget['gold_mean'], 2)}" for at_budget in _at(member)]
        lines.append(f"| {member['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _at(member: Data) -> list[Data]:
    return [member["at"][unit] for unit in ("tokens", "seconds")]
