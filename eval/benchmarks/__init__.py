"""Table 3's benchmarks through lm-eval: `python -m eval.benchmarks`.

Start with `run.py` (the command). `suites.py` says which tasks a suite has, `results.py` reads lm-eval's files,
`compare.py` tests two models on the same rows, `sandbox.py` makes the tiny world's tasks.
"""
