"""`python -m eval.benchmarks`: see `run.py`."""

import sys

from eval.benchmarks.run import main

if __name__ == "__main__":
    sys.exit(main())
