"""From an arm to a committed raw result: define, run, measure, probe, publish.

Start with `arms.py` (what an arm is, and which there are) and `run_arms.py` (runs them). `measure.py` evaluates an
iteration's policy, `probes.py` has further measurements, `results.py` keeps raw results.
"""
