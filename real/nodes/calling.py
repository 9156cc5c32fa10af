"""`robostack call`: services of the nodes, where there is no `ros2` command."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from robostack.real.nodes.node import Spin, connect

SWITCHES = {"true": True, "false": False}


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
        if not client.wait_for_service(patience):
            raise TimeoutError(_absent(node, service, kind, patience))
        answer = client.call(request, timeout_sec=patience + 30)
        if answer is None:
            raise TimeoutError(f"{service} did not answer")
        return Answer(answer.success, answer.message)
    finally:
        spin.close()
        node.destroy_node()
        context.try_shutdown()


def _absent(node: Node, service: str, kind: type, patience: float) -> str:
    """Why a service cannot be called, and which could be. Among what there is our own client is
    listed, too, as a service of its kind."""
    there = {n.lstrip("/"): kinds for n, kinds in node.get_service_names_and_types()}
    wanted, asked = f"std_srvs/srv/{kind.__name__}", service.lstrip("/")
    ours = {name for name, kinds in there.items() if kinds[0].startswith("std_srvs/")} - {asked}
    others = [name for name in there.get(asked, []) if name != wanted]
    if others:
        return f"{service} is a {others[0]}, not a {wanted}"
    known = f"there is {', '.join(sorted(ours))}" if ours else "there is no service at all"
    return f"nobody offers {service} ({patience:g} s; is ROS_DOMAIN_ID the same?); {known}"
