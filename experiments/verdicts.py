"""From raw results to a verdict per claim, by the rules in `claims.py` and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.stats import equivalence, holm, smallest_detectable, t_interval, t_test
from experiments.arms import BUILD_OF_SEED, REPORT_SEEDS
from experiments.claims import FAMILY_ERROR, MARGIN_SHARE, OUTCOMES, Claim, Raw, full_over_static

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

    gain: ratio 1's gain from iteration 0 to 3 on development seeds, by outcome; the margin is MARGIN_SHARE of it.
    """
    per_outcome = {measure: _tests(claims, raw, measure, MARGIN_SHARE * gain[measure]) for measure in OUTCOMES}
    rows = []
    for number, claim in enumerate(claims):
        details = {measure: per_outcome[measure][number] for measure in OUTCOMES}
        verdicts = {detail["verdict"] for detail in details.values()}
        verdict = verdicts.pop() if len(verdicts) == 1 else "inconclusive"
        if is_preview(raw):
            verdict = "preview: no verdict"
        rows.append({"claim": claim.key, "statement": claim.statement, "verdict": verdict, "outcomes": details})
    return rows


def is_preview(raw: Raw) -> bool:
    """Whether seeds or builds are too few for a verdict."""
    results = next(iter(raw.values()))
    return few(len(results), {result["build"] for result in results} - {None})


def few(seeds: int, builds: set[int]) -> bool:
    """The same from counts; real models have no builds."""
    return seeds < len(REPORT_SEEDS) or 0 < len(builds) < len(set(BUILD_OF_SEED.values()))


def _tests(claims: Sequence[Claim], raw: Raw, measure: str, margin: float) -> list[dict[str, Any]]:
    contrasts = [claim.contrast(raw, measure) for claim in claims]
    primary = [
        equivalence(c, margin) if claim.kind == "parity" else t_test(c)
        for claim, c in zip(claims, contrasts, strict=True)
    ]
    adjusted = holm(primary)
    gate = full_over_static(raw, measure)
    open_gate = bool(gate.mean() > 0 and t_test(gate) < FAMILY_ERROR)
    return [
        _row(claim, contrast, p, p_holm, margin, open_gate or not claim.gated)
        for claim, contrast, p, p_holm in zip(claims, contrasts, primary, adjusted, strict=True)
    ]


def _row(claim: Claim, contrast: np.ndarray, p: float, p_holm: float, margin: float, testable: bool) -> dict[str, Any]:
    interval = t_interval(contrast)
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "p": p,
        "p_holm": p_holm,
        "margin": margin,
        "smallest_detectable": smallest_detectable(contrast),
        "verdict": verdict(claim.kind, contrast, p_holm, margin) if testable else "not testable here",
    }


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
