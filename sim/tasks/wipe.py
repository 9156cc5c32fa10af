"""Wipe: clean a trail of marks off the table."""

from robostack.sim.tasks.task import Task

TASK = Task(
    name="Wipe",
    instruction="wipe the marks off the table",
    keypoints={"object": "contact0_main", "target": "contact99_main"},
    horizon=500,
    remembers=("wiped_markers", "collisions", "f_excess"),
)
