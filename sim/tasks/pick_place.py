"""PickPlace: carry one grocery from the left bin to its own quarter of the right bin."""

from robostack.sim.tasks.task import Task

def _task(thing: str) -> Task:
    return Task(
        name=f"PickPlace{thing}",
        instruction=f"put the {thing.lower()} into its place in the bin on the right",
        keypoints={"object": f"{thing}_main", "target": f"Visual{thing}_main"},
        horizon=200,
        support=lambda suite: suite.bin1_pos,
    )


TASKS = [_task(thing) for thing in ("Milk", "Bread", "Cereal", "Can")]
