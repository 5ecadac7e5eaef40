import sys

from eval.mt_bench.evaluate import main

sys.exit(main())
