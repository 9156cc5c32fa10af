"""NutAssembly: thread a nut on the peg of its shape."""

from robostack.sim.tasks.task import Task


def _task(shape: str, peg: str) -> Task:
    return Task(
        name=f"NutAssembly{shape}",
        instruction=f"put the {shape.lower()} nut on the {shape.lower()} peg",
        keypoints={"object": f"site:{shape}Nut_handle_site", "target": peg},
        horizon=250,
    )


TASKS = [_task("Square", "peg1"), _task("Round", "peg2")]
