"""`python -m robostack.sim.batch_eval ...` is `robostack evaluate ...`, for scripts."""

import sys

from robostack.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
