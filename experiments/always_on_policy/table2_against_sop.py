"""The Always-On-Policy paper's Table 2: always- against starts-on-policy prompts, by a judge that says A, B or C.

Iterations are counted as there, from 1; in the first, both are one policy. Differences: DPO instead of PPO, both orders
of every pair, and the sandbox's world, writer and judge. Three seeds, each of another build: ten would take an hour of
computing. Descriptive: no claim rests on it; the recipes' claims are those of `make compare-recipes`.
"""

from __future__ import annotations

from functools import partial

from experiments.always_on_policy.contests import collect, lines
from experiments.always_on_policy.probes import CONTESTS
from experiments.figures.figure import Figure

FIGURE = Figure(
    "Always-On-Policy, Table 2: against Starts-On-Policy",
    (CONTESTS,),
    partial(collect, "sop", "table2"),
    None,
    lines,
)
