"""The transport is set before anything can be sent, and never over what the user has set."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from xml.etree import ElementTree

import pytest

from robostack.real import dds


@pytest.fixture
def clean(monkeypatch):
    for name in dds.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_both_names_of_the_variable_point_to_a_profile_that_fits_pictures(clean):
    told = dds.prepare()
    assert set(told) == set(dds.VARIABLES) and len(set(told.values())) == 1
    assert all(os.environ[name] == path for name, path in told.items())
    tree = ElementTree.parse(next(iter(told.values())))
    (size,) = (node.text for node in tree.iter() if node.tag.endswith("segment_size"))
    (message,) = (node.text for node in tree.iter() if node.tag.endswith("maxMessageSize"))
    assert int(size) == dds.SEGMENT and int(message) > 3 * 1024 * 1024  # of 1024 x 1024 pixels
    (within,) = (n.text for n in tree.iter() if n.tag.endswith("intraprocess_delivery"))
    assert within == "OFF"  # else who is opened where another was closed may stay deaf
    for name in dds.VARIABLES:
        del os.environ[name]


def test_what_the_user_has_set_stays(clean, tmp_path):
    mine = tmp_path / "mine.xml"
    mine.write_text("<profiles/>")
    clean.setenv(dds.VARIABLES[0], str(mine))
    assert dds.prepare() == {} and dds.VARIABLES[1] not in os.environ
    clean.setenv(dds.VARIABLES[0], str(tmp_path / "gone.xml"))
    with pytest.raises(dds.TransportError, match="gone.xml: there is no such file; unset it"):
        dds.prepare()


def test_shared_memory_without_room_is_told(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(64 << 20, 0, 64 << 20))
    assert "has 64 MB left and each node takes 32" in dds.too_small(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, 1 << 40))
    assert dds.too_small(tmp_path) == ""
    assert "there is no" in dds.too_small(tmp_path / "nowhere")


def test_a_node_makes_a_segment_of_that_size(clean):
    pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
    code = (
        "import os\n"
        "from rclpy.node import Node\n"
        "from robostack.real.nodes.node import connect\n"
        "context = connect(domain_id=78)\n"
        "node = Node('x', context=context)\n"
        "mine = [l.split()[-1] for l in open('/proc/self/maps') if '/dev/shm/fastrtps_' in l]\n"
        "print(max(os.stat(p).st_size for p in mine if os.path.exists(p)))\n"
        "node.destroy_node(); context.try_shutdown()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) >= dds.SEGMENT
