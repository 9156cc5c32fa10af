"""Several objects on a table and an instruction that says which of them to move, and where to.

`TASKS` is read by the catalogue, so importing it costs numpy only.
"""

from robostack.sim.tabletop.layout import TASKS

__all__ = ["TASKS"]
