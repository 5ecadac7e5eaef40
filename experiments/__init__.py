"""From arms to verdicts: what reproduces the paper, and what goes beyond it.

Start with `paper/` (a script per figure and table of the paper) or `claims/` (what is claimed, and by which rules it is
judged). `compute/` runs arms and keeps raw results, `figures/` is the command over all pictures, `report/` writes the
report; `bench/` measures speed, `robustness/` runs the long checks.
"""
