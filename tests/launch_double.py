"""As much of ROS 2's `launch` and `launch_ros` as our launch files use, where there is none.

Everything is kept as it was given. Keywords are those of the packages (Jazzy); any other is a
TypeError here, as there.
"""

import sys
from types import ModuleType, SimpleNamespace


class LaunchDescription:
    def __init__(self, entities):
        self.entities = list(entities)


class DeclareLaunchArgument:
    def __init__(self, name, *, default_value=None, description=None, choices=None):
        assert isinstance(default_value, str) and description, name
        self.name, self.default_value, self.description = name, default_value, description


class LaunchConfiguration:
    def __init__(self, variable_name, *, default=None):
        self.variable_name = variable_name

    def perform(self, context):
        return context.launch_configurations[self.variable_name]


class OpaqueFunction:
    def __init__(self, *, function, args=None, kwargs=None):
        self.function = function


class SetEnvironmentVariable:
    def __init__(self, name, value):
        self.name, self.value = name, value


class EmitEvent:
    def __init__(self, *, event):
        self.event = event


class Shutdown:
    def __init__(self, *, reason=""):
        self.reason = reason


class RegisterEventHandler:
    def __init__(self, event_handler):
        self.event_handler = event_handler


class OnProcessExit:
    def __init__(self, *, target_action=None, on_exit=None):
        self.target_action, self.on_exit = target_action, on_exit


class OnStateTransition:
    def __init__(self, *, entities, target_lifecycle_node=None, start_state=None, goal_state=None):
        self.entities, self.target = entities, target_lifecycle_node
        self.start_state, self.goal_state = start_state, goal_state


class ChangeState:
    def __init__(self, *, lifecycle_node_matcher, transition_id):
        self.matcher, self.transition_id = lifecycle_node_matcher, transition_id


class ParameterValue:
    def __init__(self, value, *, value_type=None):
        assert type(value) is value_type
        self.value = value


class Node:
    def __init__(
        self,
        *,
        executable,
        package=None,
        name=None,
        namespace=None,
        exec_name=None,
        parameters=None,
        remappings=None,
        ros_arguments=None,
        arguments=None,
        output=None,
    ):
        self.executable, self.package, self.name = executable, package, name
        self.namespace, self.arguments, self.ros_arguments = namespace, arguments, ros_arguments
        first, *self.files = parameters
        self.parameters = {key: value.value for key, value in first.items()}


class LifecycleNode(Node):
    pass


MODULES = {
    "launch": {"LaunchDescription": LaunchDescription, "LaunchContext": SimpleNamespace},
    "launch.actions": {
        kind.__name__: kind
        for kind in (
            DeclareLaunchArgument,
            EmitEvent,
            OpaqueFunction,
            RegisterEventHandler,
            SetEnvironmentVariable,
            Shutdown,
        )
    },
    "launch.event_handlers": {"OnProcessExit": OnProcessExit},
    "launch.events": {"matches_action": lambda action: lambda other: other is action},
    "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
    "launch_ros": {},
    "launch_ros.actions": {"Node": Node, "LifecycleNode": LifecycleNode},
    "launch_ros.event_handlers": {"OnStateTransition": OnStateTransition},
    "launch_ros.events": {},
    "launch_ros.events.lifecycle": {"ChangeState": ChangeState},
    "launch_ros.parameter_descriptions": {"ParameterValue": ParameterValue},
}


def install(monkeypatch) -> None:
    """Puts it in the place of the packages until the test ends."""
    for name, content in MODULES.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "robostack.real.launching", raising=False)


def perform(description, **given):
    """What a launch description does with arguments: its actions, OpaqueFunctions performed."""
    defaults = {
        e.name: e.default_value
        for e in description.entities
        if isinstance(e, DeclareLaunchArgument)
    }
    assert set(given) <= set(defaults), "an argument that is not declared"
    context = SimpleNamespace(launch_configurations=defaults | given)
    actions = []
    for entity in description.entities:
        actions += entity.function(context) if isinstance(entity, OpaqueFunction) else [entity]
    return actions
