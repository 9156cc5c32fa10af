"""robostack: post-train vision-language-action policies with learned rewards."""

import os

__version__ = "0.1.0"

# The threads of a torch operation wait for each other by spinning, each on a core of its own. Where
# something else runs on these cores, whoever is waited for has none, and learning takes twice as
# long as it need (tests/bench/shared_cores.py). libgomp reads this when torch is first imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
