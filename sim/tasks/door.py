"""Door: turn the handle and pull the door open."""

from robostack.sim.tasks.task import Task

TASK = Task(
    name="Door",
    instruction="turn the handle and open the door",
    keypoints={"object": "site:Door_handle", "target": "Door_frame"},
    horizon=250,
)
