"""The benchmarks of Tables 3 and 5 as lm-eval tasks, and the sandbox's four of the same kinds."""
