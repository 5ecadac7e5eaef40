"""What Tables 2 and 3 of the Always-On-Policy paper share: win rates by iteration, and what the arms spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.verdicts import win_rates
from experiments.always_on_policy.probes import CONTESTS
from experiments.compute.results import ROOT
from experiments.figures.figure import Data, Evidence, interval, shown
from optune.utils.files import read_json

OUTCOMES = {"win": "AOP wins", "lose": "rival wins", "tie": "ties"}
NAMES = {"W": "win", "T": "tie", "L": "lose", "?": "unparsed"}
TITLES = {"aop": "always-on-policy", "sop": "starts-on-policy", "vsp": "vanilla synthetic"}


def collect(rival: str, table: str, evidence: Evidence) -> Data:
    """Percent of prompts won, lost and tied by iteration, over seeds; gold, updates and tokens of both arms."""
    results = evidence.raw[CONTESTS.name]
    by_seed = [result["rivals"][rival] for result in results]
    rows = [_row(t, contests) for t, contests in enumerate(zip(*by_seed, strict=True))]
    arms = {}
    for arm in ("aop", rival):
        arms[arm] = _arm([result["arms"][arm]["iterations"] for result in results])
    paper = read_json(ROOT / "results" / "published" / "always_on_policy.json")[table]["iterations"]
    data: Data = {"rival": rival, "iterations": [row for row in rows if row], "arms": arms}
    return {**data, "paper": paper}


def _row(t: int, contests: Sequence[Data]) -> Data | None:
    """One iteration's win rates over seeds; None where both arms are one policy."""
    if contests[0]["verdicts"] is None:
        return None
    rates = []
    for contest in contests:
        rates.append(win_rates(NAMES[letter] for letter in contest["verdicts"]))
    shares = {}
    for outcome in OUTCOMES:
        shares[outcome] = interval([rate[outcome] for rate in rates])
    return {"iteration": t + 1, **shares, "lead": interval([rate["win"] - rate["lose"] for rate in rates])} | {
        "n": [rate["n"] for rate in rates],
        "unparsed": [rate["unparsed"] for rate in rates],
    }


def _arm(by_seed: Sequence[Sequence[Data]]) -> list[Data]:
    """By iteration, over seeds: mean gold, and the means of updates and tokens by name."""
    points = []
    for rows in zip(*by_seed, strict=True):
        spent = {name: sum(row.get(name, 0) for row in rows) / len(rows) for name in rows[0] if name != "gold_mean"}
        points.append({"gold_mean": interval([row["gold_mean"] for row in rows]), **spent})
    return points


def lines(data: Data) -> list[str]:
    """A row per iteration, ours and the paper's, then what the arms reached and spent."""
    rows = [f"  percent of prompts, mean [95% limits] over seeds {data['seeds']}; against {TITLES[data['rival']]}"]
    rows.append(f"  {'iteration':11s}" + "".join(f"{name:22s}" for name in OUTCOMES.values()) + "paper: win, lose, tie")
    for row in data["iterations"]:
        paper = data["paper"].get(str(row["iteration"]), {})
        cells = "".join(f"{shown(row[outcome]):22s}" for outcome in OUTCOMES)
        published = ", ".join(f"{paper[o]:.2f}" for o in OUTCOMES) if paper else "-"
        rows.append(f"  {row['iteration']:<11d}{cells}{published}")
    rows += headline(data)
    for arm, points in data["arms"].items():
        spent: dict[str, Any] = {}
        for point in points:
            for name in (n for n in point if n.startswith("tokens")):
                spent[name] = spent.get(name, 0) + point[name]
        gold = shown(points[-1]["gold_mean"], 2)
        updates = sum(point["updates"] for point in points)
        tokens = ", ".join(f"{name} {count:,.0f}" for name, count in spent.items())
        rows.append(f"  {TITLES[arm]}: gold at the end {gold}; {updates:.0f} updates; {tokens}")
    return rows


def headline(data: Data) -> list[str]:
    """Whether always-on-policy prompts win clearly in any iteration, and how many prompts are ties."""
    won = [row["iteration"] for row in data["iterations"] if row["lead"]["low"] is not None and row["lead"]["low"] > 0]
    ties = [row["tie"]["mean"] for row in data["iterations"]]
    theirs = [row["tie"] for row in data["paper"].values()]
    seen = f"appeared in iterations {', '.join(map(str, won))}" if won else "did not appear in any iteration"
    return [
        f"  The headline (always-on-policy prompts win more than they lose, whole interval above 0) {seen}.",
        f"  Ties: {min(ties):.0f} to {max(ties):.0f}% of prompts; paper: {min(theirs):.0f} to {max(theirs):.0f}%.",
    ]
