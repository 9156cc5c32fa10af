"""`robostack call`: services of the nodes, where there is no `ros2` command."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from robostack.real.nodes.node import Spin, connect

SWITCHES = {"true": True, "false": False}
LOOK = 0.25  # [s] between looks at what there is


@dataclass(frozen=True)
class Answer:
    success: bool
    message: str


def call(service: str, value: str | None, patience: float, domain: int | None = None) -> Answer:
    """Call a std_srvs/Trigger, or with a `value` (true or false) a std_srvs/SetBool.

    Raises ValueError where the value is neither, and TimeoutError where nobody offers the service
    within `patience` [s], or nobody answers.
    """
    if value is not None and value.lower() not in SWITCHES:
        raise ValueError(f"{service} {value}: expected true or false")
    kind = Trigger if value is None else SetBool
    request = Trigger.Request() if value is None else SetBool.Request(data=SWITCHES[value.lower()])
    context = connect(domain_id=domain)
    node = Node("call", context=context)
    spin = Spin(node)
    try:
        client = node.create_client(kind, service)
        _wait(node, client, service, kind, patience)
        answer = client.call(request, timeout_sec=patience + 30)
        if answer is None:
            raise TimeoutError(f"{service} did not answer")
        return Answer(answer.success, answer.message)
    finally:
        spin.close()
        node.destroy_node()
        context.try_shutdown()


def _wait(node: Node, client: Client, service: str, kind: type, patience: float) -> None:
    """Until the service is there. Raises TimeoutError, at once where it is one of another kind."""
    wanted, end = f"std_srvs/srv/{kind.__name__}", time.monotonic() + patience
    while not client.wait_for_service(min(LOOK, patience)):
        there = dict(node.get_service_names_and_types()).get(node.resolve_service_name(service), [])
        others = [name for name in there if name != wanted]  # ours is listed, too
        if others:
            raise TimeoutError(f"{service} is a {others[0]}, not a {wanted}")
        if time.monotonic() > end:
            raise TimeoutError(_absent(node, service, patience))


def _absent(node: Node, service: str, patience: float) -> str:
    """That nobody offers a service, and which there are."""
    there = {n.lstrip("/"): kinds for n, kinds in node.get_service_names_and_types()}
    ours = {name for name, kinds in there.items() if kinds[0].startswith("std_srvs/")}
    others = ours - {service.lstrip("/")}  # our own client is listed, too
    known = f"there is {', '.join(sorted(others))}" if others else "there is no service at all"
    return f"nobody offers {service} ({patience:g} s; is ROS_DOMAIN_ID the same?); {known}"
