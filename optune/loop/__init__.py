"""Algorithm 1 and what carries it out.

Start with `algorithm.py`: it is the loop, top to bottom. `stages.py` has its lines as stages, skipped when their key
matches, `rollouts.py` samples and rewards, `parts.py` lists the pluggable parts, `manifest.py` the finished stages.
`measure.py` times a configuration's models on this machine, for a plan.
"""
