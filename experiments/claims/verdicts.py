"""From raw results to a verdict per claim, by the rules in `claims.py` and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eval.stats import below, crossed_bootstrap, holm, smallest_detectable, t_interval, t_test
from experiments.claims.contrasts import INTERPOLATED
from experiments.claims.registry import ALL
from experiments.claims.rules import FAMILY_ERROR, Claim, p_within
from experiments.compute.arms import few
from experiments.compute.raw_result import Iteration, Raw

PREVIEW = "preview: no verdict"  # too few seeds or builds
CLASSES = (
    "replicated",
    "contradicted",
    "no difference beyond the margin",
    "inconclusive",
    "not testable here",
    PREVIEW,
)


def judge_claims(claims: Sequence[Claim], evidence: dict[str, Raw], gain: dict[str, float]) -> list[dict[str, Any]]:
    """One row per claim: verdict, and per outcome the contrast's interval, p-values, bootstrap check and verdict.

    evidence: by claim key, the raw results that it needs, of the same seeds. gain: ratio 1's gain from iteration 0 to 3
    on development seeds, by outcome (the real model: its lead over `none`); the margin is a claim's share of it.
    """
    details: dict[str, dict[str, Any]] = {}
    for claim in claims:
        details[claim.key] = {name: _test(claim, evidence[claim.key], name, gain) for name in claim.outcomes}
    for family in {claim.family for claim in claims}:
        for place in (0, 1):  # Holm separately for first and second outcomes
            of_claims = [list(details[claim.key].values()) for claim in claims if claim.family == family]
            tests = [of_claim[place] for of_claim in of_claims if len(of_claim) > place]
            missing = _size_of(family, place) - len(tests)  # claims without results yet count as p = 1
            for test, p_holm in zip(tests, holm([test["p"] for test in tests] + [1.0] * missing), strict=False):
                test["p_holm"] = p_holm
    return [_row(claim, evidence[claim.key], details[claim.key]) for claim in claims]


def _size_of(family: str, place: int) -> int:
    """The number of tests of a family's first (or second) outcomes, including claims that have no results yet."""
    return sum(claim.family == family and len(claim.outcomes) > place for claim in ALL)


def _row(claim: Claim, raw: Raw, details: dict[str, dict[str, Any]]) -> dict[str, Any]:
    outcomes = {name: {**test, "verdict": _verdict_of(claim, raw, name, test)} for name, test in details.items()}
    verdicts = {test["verdict"] for test in outcomes.values()}
    overall = verdicts.pop() if len(verdicts) == 1 else "inconclusive"
    results = next(iter(raw.values()))
    return {
        **{"claim": claim.key, "figure": claim.figure, "family": claim.family, "kind": claim.kind},
        **{"statement": claim.statement, "note": claim.note},
        "verdict": PREVIEW if is_preview({name: raw[name] for name in claim.needs}) else overall,
        "seeds": [result["seed"] for result in results],
        "outcomes": outcomes,
    }


def is_preview(raw: Raw) -> bool:
    """Whether seeds or builds are too few for a verdict."""
    return any(
        few(len(results), {result["build"] for result in results} - {None}, results[0]["preset"])
        for results in raw.values()
    )


def _test(claim: Claim, raw: Raw, measure: str, gain: dict[str, float]) -> dict[str, Any]:
    """The contrast on one outcome, and its uncorrected primary test."""
    contrast = claim.contrast(raw, measure)
    margin = claim.margin_share * gain[measure] if claim.margin is None else claim.margin
    interval = t_interval(contrast)
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "bootstrap": bootstrap_check(claim, raw, measure),
        "builds": _over_builds(claim, raw, contrast),
        "per_seed": [round(float(value), 6) for value in contrast],
        "p": p_within(contrast, margin) if claim.kind == "parity" else t_test(contrast),
        "margin": margin,
        "smallest_detectable": smallest_detectable(contrast),
        **({"gate": _gate(claim.gate(raw, measure), margin)} if claim.gate else {}),
    }


def _over_builds(claim: Claim, raw: Raw, contrast: np.ndarray) -> list[float] | None:
    """95% t limits with builds as the units: seeds of one build share policy, reward model and baseline."""
    of_build = np.array([result["build"] for result in raw[claim.needs[0]]])
    builds = sorted(set(of_build.tolist()) - {None})
    if len(builds) < 2:
        return None
    interval = t_interval([contrast[of_build == build].mean() for build in builds])
    return [interval.low, interval.high]


def _gate(contrast: np.ndarray, margin: float) -> dict[str, Any]:
    """Ratio 1 minus `none`; `within_margin`: by the same parity test, never regenerating is on a par, too."""
    interval = t_interval(contrast)
    return {
        **{"estimate": interval.estimate, "low": interval.low, "high": interval.high},
        "open": bool(contrast.mean() > 0 and t_test(contrast) < FAMILY_ERROR),
        "within_margin": bool(p_within(contrast, margin) < FAMILY_ERROR),
    }


def bootstrap_check(claim: Claim, raw: Raw, measure: str) -> list[float] | None:
    """95% limits of the contrast when seeds and prompts are both resampled; None where the outcome has no prompts.

    Contrasts are averages and differences of means over prompts, so they can be taken prompt by prompt.
    """
    if measure not in PER_PROMPT or claim.contrast in INTERPOLATED:
        return None
    matrix = claim.contrast(_per_prompt(raw, measure), measure)
    interval = crossed_bootstrap(matrix, resamples=2000)
    return [interval.low, interval.high]


def _win_scores(point: Iteration) -> np.ndarray:
    """(prompts,): what each prompt adds to the win score (Eq. 7); an unreadable verdict adds the mean."""
    values = np.array([{"W": 150.0, "T": 50.0, "L": -50.0}.get(letter, np.nan) for letter in point["verdicts"]])
    return np.where(np.isnan(values), np.nanmean(values), values)


PER_PROMPT: dict[str, Callable[[Iteration], np.ndarray]] = {
    "win_score": _win_scores,
    "gold_mean": lambda point: np.array(point["gold"], dtype=float),
}


def _per_prompt(raw: Raw, measure: str) -> Raw:
    """Raw results with (prompts,) vectors in the place of one outcome."""

    def spread(point: dict[str, Any]) -> dict[str, Any]:
        return {measure: PER_PROMPT[measure](point)} if measure in point else {}

    def copy(result: dict[str, Any]) -> dict[str, Any]:
        if "iterations" not in result:  # for the clock
            return result
        baseline = spread(result["baseline"]) if measure == "gold_mean" else {}
        points = [{"stages": point.get("stages", {}), **spread(point)} for point in result["iterations"]]
        return {"iterations": points, "baseline": baseline, "timing": result["timing"]}

    return {name: [copy(result) for result in results] for name, results in raw.items()}


def _verdict_of(claim: Claim, raw: Raw, measure: str, test: dict[str, Any]) -> str:
    """The verdict on one outcome. A claim whose gate does not open is not testable."""
    if claim.gate is not None and not test["gate"]["open"]:
        return "not testable here"
    return verdict(claim.kind, claim.contrast(raw, measure), test["p_holm"], test["margin"])


def verdict(kind: str, contrast: np.ndarray, p_holm: float, margin: float) -> str:
    """The verdict on one outcome, by the corrected primary test and, if that is not significant, by the other one.

    Parity without a margin (`p_within`) is not testable.
    """
    if kind == "superiority":
        if p_holm < FAMILY_ERROR:
            return "replicated" if contrast.mean() > 0 else "contradicted"
        within = p_within(contrast, margin) < FAMILY_ERROR
        return "no difference beyond the margin" if within else "inconclusive"
    if margin <= 0:
        return "not testable here"
    if p_holm < FAMILY_ERROR:
        return "replicated"
    return "contradicted" if below(contrast, -margin) < FAMILY_ERROR else "inconclusive"
