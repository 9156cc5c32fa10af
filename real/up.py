"""`robostack up` and `robostack ros-env`: the robot's nodes where there is no `ros2` command."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

from robostack.real import dds, graph
from robostack.real.supervisor import Supervisor

UpConfig = dataclasses.make_dataclass(
    "UpConfig",
    [
        ("use", tuple[str, ...], ("sim",)),  # of robostack.real.graph; several at once
        ("python", str, sys.executable),  # the interpreter that runs the nodes
        *((name, type(o.default), o.default) for name, o in graph.OPTIONS.items()),
    ],
    frozen=True,
)


def supervisor(config: UpConfig, **changes) -> Supervisor:
    """What `up` runs. Raises GraphError for an option that none of the uses has."""
    given = {
        name: getattr(config, name)
        for name, option in graph.OPTIONS.items()
        if getattr(config, name) != option.default
    }
    processes = graph.processes(list(config.use), given)
    return Supervisor(
        processes, config.python, config.namespace, config.log_level, config.params_file, **changes
    )


def up(config: UpConfig) -> int:
    """Run the nodes until Ctrl-C, or until one ends without which the others are nothing."""
    dds.prepare()
    return supervisor(config).run()


@dataclasses.dataclass(frozen=True)
class CallConfig:
    """How long `robostack call` waits for somebody to offer the service."""

    patience: float = 10.0  # [s]


def call(config: CallConfig, words: list[str]) -> int:
    """Call the service `words[0]`, of a SetBool with `words[1]`; 1 where it refuses."""
    if len(words) not in (1, 2):
        raise ValueError("expected the name of a service, and of a switch true or false")
    from robostack.real.nodes.calling import call

    answer = call(words[0], words[1] if len(words) > 1 else None, config.patience)
    print(answer.message)
    return 0 if answer.success else 1


def exports() -> str:
    """Lines for `eval` in a POSIX shell."""
    lines = [f"export {name}={shlex.quote(path)}" for name, path in dds.exports().items()]
    index = Path(sys.prefix) / "share" / "ament_index" / "resource_index" / "packages" / "robostack"
    if index.is_file():  # a wheel: `ros2 launch robostack ...` finds share/robostack
        prefix = shlex.quote(sys.prefix)
        lines.append(
            f"export AMENT_PREFIX_PATH={prefix}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}"
        )
    return "\n".join(lines)
