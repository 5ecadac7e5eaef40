"""Table 3's benchmarks through lm-eval: `python -m eval.benchmarks`.

Start with `run.py` (the command). `suites.py` says which tasks a suite has, `results.py` joins lm-eval's results files
by model, `results_file.py` reads one of them, `identity.py` says whom it measured, `compare.py` tests two models on the
same rows, `sandbox.py` makes the tiny world's tasks.
"""
