"""`python -m eval.alpaca_eval`: see `evaluate.py`."""

import sys

from eval.alpaca_eval.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
