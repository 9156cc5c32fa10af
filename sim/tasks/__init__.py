"""One file a task. `TASKS` is the list that errors and `--help` show."""

from robostack.sim.tasks import lift, stack
from robostack.sim.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (lift.TASK, stack.TASK)}
