"""A use of robostack.real.graph as a ROS 2 launch description; the launch files are one line each.

Nodes are started as `python -m MODULE`, not by package and executable: that works for a wheel, an
editable install and colcon's, and with another interpreter than the system's (`python:=`), which
is where torch usually is.
"""

from __future__ import annotations

import os
import sys

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from robostack.real import dds, graph
from robostack.real.paths import find


def description(use: str) -> LaunchDescription:
    """What `generate_launch_description` of launch/<use>.launch.py returns."""
    options = graph.options(use)
    arguments = [
        DeclareLaunchArgument(name, default_value=_text(option.default), description=option.help)
        for name, option in options.items()
    ]
    python = DeclareLaunchArgument(
        "python", default_value=sys.executable, description="the interpreter that runs the nodes"
    )

    def start(context: LaunchContext) -> list:
        values = {name: LaunchConfiguration(name).perform(context) for name in options}
        interpreter = LaunchConfiguration("python").perform(context)
        return [
            action
            for process in graph.processes([use], values)
            for action in _actions(process, interpreter, values)
        ]

    theirs = any(name in os.environ for name in dds.VARIABLES)  # whoever set one knows why
    exports = {} if theirs else dds.exports()  # for drivers, too, that are started along with us
    profiles = [SetEnvironmentVariable(name, value) for name, value in exports.items()]
    return LaunchDescription([*arguments, python, *profiles, OpaqueFunction(function=start)])


def _text(default: str | float | int | bool) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _actions(process: graph.Process, python: str, values: dict[str, str]) -> list:
    """The node, and what has to happen for it to be active and when it ends."""
    part = process.part
    kind = LifecycleNode if part.lifecycle else Node
    typed = {k: ParameterValue(v, value_type=type(v)) for k, v in process.parameters.items()}
    file = [str(find(values["params_file"]))] if values["params_file"] else []
    node = kind(
        executable=python,
        arguments=["-m", part.module],
        ros_arguments=["--log-level", values["log_level"]],
        exec_name=part.name,
        name=part.name,
        namespace=values["namespace"],
        parameters=[typed, *file],  # later ones win
        output="screen",
    )
    actions = [node]
    if part.lifecycle:
        actions = [*_activated(node), node, _change(node, Transition.TRANSITION_CONFIGURE)]
    if part.essential:
        end = Shutdown(reason=f"{part.name} has ended")
        actions.append(RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[end])))
    return actions


def _change(node: LifecycleNode, transition: int) -> EmitEvent:
    event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
    return EmitEvent(event=event)


def _activated(node: LifecycleNode) -> list:
    """Activates a node once it is configured; Jazzy's launch_ros has no `autostart`."""
    return [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[_change(node, Transition.TRANSITION_ACTIVATE)],
            )
        )
    ]
