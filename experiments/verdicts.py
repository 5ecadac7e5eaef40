"""From raw results to a verdict per claim, by the rules in `claims.py` and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.stats import equivalence, holm, smallest_detectable, t_interval, t_test
from experiments.arms import BUILD_OF_SEED, REPORT_SEEDS
from experiments.claims import FAMILY_ERROR, MARGIN_SHARE, Claim, Raw

CLASSES = (
    "replicated",
    "contradicted",
    "no difference beyond the margin",
    "inconclusive",
    "not testable here",
    "preview: no verdict",
)


def judge_claims(claims: Sequence[Claim], raw: Raw, gain: dict[str, float]) -> list[dict[str, Any]]:
    """One row per claim: verdict, and per outcome the contrast's interval, p-values and verdict.

    raw: every name that any claim needs. gain: ratio 1's gain from iteration 0 to 3 on development seeds, by outcome;
    the margin is MARGIN_SHARE of it.
    """
    details = {claim.key: {name: _test(claim, raw, name, gain) for name in claim.outcomes} for claim in claims}
    for family in {claim.family for claim in claims}:
        for place in (0, 1):  # Holm separately for first and second outcomes
            tests = [list(details[c.key].values())[place:][:1] for c in claims if c.family == family]
            tests = [test for found in tests for test in found]
            for test, p_holm in zip(tests, holm([test["p"] for test in tests]), strict=True):
                test["p_holm"] = p_holm
    rows = []
    for claim in claims:
        outcomes = {
            name: {**test, "verdict": _verdict_of(claim, raw, name, test)} for name, test in details[claim.key].items()
        }
        verdicts = {test["verdict"] for test in outcomes.values()}
        overall = verdicts.pop() if len(verdicts) == 1 else "inconclusive"
        if is_preview({name: raw[name] for name in claim.needs}):
            overall = "preview: no verdict"
        facts = {"claim": claim.key, "figure": claim.figure, "family": claim.family, "kind": claim.kind}
        rows.append({**facts, "statement": claim.statement, "verdict": overall, "outcomes": outcomes})
    return rows


def is_preview(raw: Raw) -> bool:
    """Whether seeds or builds are too few for a verdict."""
    return any(few(len(results), {result["build"] for result in results} - {None}) for results in raw.values())


def few(seeds: int, builds: set[int]) -> bool:
    """The same from counts; real models have no builds."""
    return seeds < len(REPORT_SEEDS) or 0 < len(builds) < len(set(BUILD_OF_SEED.values()))


def _test(claim: Claim, raw: Raw, measure: str, gain: dict[str, float]) -> dict[str, Any]:
    """The contrast on one outcome, and its uncorrected primary test."""
    contrast = claim.contrast(raw, measure)
    margin = MARGIN_SHARE * gain[measure] if claim.margin is None else claim.margin
    interval = t_interval(contrast)
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "per_seed": [round(float(value), 6) for value in contrast],
        "p": equivalence(contrast, margin) if claim.kind == "parity" else t_test(contrast),
        "margin": margin,
        "smallest_detectable": smallest_detectable(contrast),
    }


def _verdict_of(claim: Claim, raw: Raw, measure: str, test: dict[str, Any]) -> str:
    """The class on one outcome; a claim whose gate is shut is not testable."""
    if claim.gate is not None:
        gate = claim.gate(raw, measure)
        if gate.mean() <= 0 or t_test(gate) >= FAMILY_ERROR:
            return "not testable here"
    return verdict(claim.kind, claim.contrast(raw, measure), test["p_holm"], test["margin"])


def verdict(kind: str, contrast: np.ndarray, p_holm: float, margin: float) -> str:
    """The class of one claim on one outcome, from its corrected primary test and, where that fails, the other one."""
    if kind == "superiority":
        if p_holm < FAMILY_ERROR:
            return "replicated" if contrast.mean() > 0 else "contradicted"
        within = equivalence(contrast, margin) < FAMILY_ERROR
        return "no difference beyond the margin" if within else "inconclusive"
    if p_holm < FAMILY_ERROR:
        return "replicated"
    worse = t_test(contrast) < FAMILY_ERROR and contrast.mean() < -margin
    return "contradicted" if worse else "inconclusive"
