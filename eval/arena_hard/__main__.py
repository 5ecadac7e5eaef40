import sys

from eval.arena_hard.evaluate import main

sys.exit(main())
