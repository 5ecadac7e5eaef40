"""The Always-On-Policy paper's Table 3: always-on-policy prompts against synthetic ones written without any answers.

As Table 2 (`aop_table2_against_sop.py`), against the other baseline, from the first iteration on.
"""

from __future__ import annotations

from functools import partial

from experiments.always_on_policy.contests import collect, lines
from experiments.always_on_policy.probes import CONTESTS
from experiments.figures.figure import Figure

FIGURE = Figure(
    "Always-On-Policy, Table 3: against vanilla synthetic prompts",
    (CONTESTS,),
    partial(collect, "vsp", "table3"),
    None,
    lines,
)
