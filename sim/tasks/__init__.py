"""robosuite's tasks, one file a kind. `TASKS` is the list that errors and `--help` show."""

from robostack.sim.tasks import (
    door,
    lift,
    nut_assembly,
    pick_place,
    stack,
    tool_hang,
    two_arm,
    wipe,
)
from robostack.sim.tasks.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        lift.TASK,
        stack.TASK,
        *pick_place.TASKS,
        *nut_assembly.TASKS,
        door.TASK,
        tool_hang.TASK,
        wipe.TASK,
        *two_arm.TASKS,
    )
}
