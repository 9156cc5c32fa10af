"""`robostack call`: the answer, or why there is none and what could be called."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from robostack import cli
from robostack.real.nodes.calling import Answer, call
from robostack.real.nodes.node import Spin, answering, connect

DOMAIN = 76


def refuse():
    raise ValueError("not now")


@pytest.fixture
def offered():
    context = connect(domain_id=DOMAIN)
    node = Node("server", context=context)
    node.create_service(Trigger, "left/recorder/start", answering(lambda: "started"))
    node.create_service(Trigger, "refuse", answering(refuse))
    node.create_service(SetBool, "arm/enable", answering(lambda on: f"enabled: {on}"))
    spin = Spin(node)
    yield
    spin.close()
    node.destroy_node()
    context.try_shutdown()


def test_a_service_answers_and_may_refuse(offered):
    assert call("left/recorder/start", None, 20, DOMAIN) == Answer(True, "started")
    assert call("/refuse", None, 20, DOMAIN) == Answer(False, "not now")
    assert call("arm/enable", "False", 20, DOMAIN) == Answer(True, "enabled: False")


@pytest.mark.slow
def test_what_cannot_be_called_is_said_with_what_can(offered):
    with pytest.raises(TimeoutError, match="nobody offers recorder/start .*left/recorder/start"):
        call("recorder/start", None, 3, DOMAIN)
    with pytest.raises(TimeoutError, match="arm/enable is a std_srvs/srv/SetBool, not a std_srvs"):
        call("arm/enable", None, 60, DOMAIN)
    with pytest.raises(TimeoutError, match="refuse is a std_srvs/srv/Trigger, not a std_srvs"):
        call("refuse", "true", 60, DOMAIN)
    with pytest.raises(ValueError, match="expected true or false"):
        call("arm/enable", "on", 1, DOMAIN)


def test_the_command_line_says_what_was_answered(offered, monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAIN))
    assert cli.main(["call", "arm/enable", "true", "patience=20"]) == 0
    assert capsys.readouterr().out == "enabled: True\n"
    assert cli.main(["call", "refuse", "patience=20"]) == 1
    assert cli.main(["call"]) == 1
    assert "expected the name of a service" in capsys.readouterr().err
