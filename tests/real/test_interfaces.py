"""What is written of the nodes is what they offer, and what starts them gives what they take."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
pytest.importorskip("rosbags", reason="rosbags is not installed (the extra `ros`)")

import interfaces

PAGE = Path(__file__).parents[2] / "docs" / "real.md"


@pytest.fixture(scope="module")
def nodes():
    return interfaces.found()


def test_the_page_tells_of_every_interface_and_of_no_other(nodes):
    text = PAGE.read_text()
    told = text[text.index(interfaces.BEGIN) : text.index(interfaces.END) + len(interfaces.END)]
    assert told == interfaces.tables(nodes), "write anew: python tests/interfaces.py"


def test_every_parameter_that_a_graph_sets_is_one_that_its_node_declares(nodes):
    for name, part in interfaces.parts().items():
        declared = {parameter for parameter, *_ in nodes[name]["parameters"]}
        assert set(part.parameters) | {"use_sim_time"} <= declared, name
        assert not part.lifecycle or "autostart" in declared


def test_every_parameter_of_ours_says_what_it_means(nodes):
    for name, rows in nodes.items():
        for parameter, _, about in rows["parameters"]:
            assert about or parameter == "use_sim_time", f"{name}: {parameter}"


def test_all_that_is_heard_is_said_by_somebody(nodes):
    """Among ourselves; what comes from outside is listed."""
    said = {topic for rows in nodes.values() for topic, _, way, _ in rows["topics"] if way == "out"}
    heard = {topic for rows in nodes.values() for topic, _, way, _ in rows["topics"] if way == "in"}
    assert heard - said <= {"estop", "joy", "teleop/pose", "leader/joint_states"}


def test_topics_have_one_type_and_qualities_that_meet(nodes):
    kinds, offered, wanted = {}, {}, {}
    for rows in nodes.values():
        for topic, kind, way, how in rows["topics"]:
            assert kinds.setdefault(topic, kind) == kind
            (offered if way == "out" else wanted).setdefault(topic, set()).add(how)
    for topic, qualities in wanted.items():
        for offer in offered.get(topic, ()):
            for want in qualities - {"best effort"}:
                assert "reliable" in offer, topic
                assert "latched" in offer or "latched" not in want.split(" and ")[0], topic
