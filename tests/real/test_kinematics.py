import mujoco
import numpy as np
import pytest
import yaml
from robosuite.models.robots import Panda

from robostack.config import ConfigError
from robostack.real.kinematics import Joint, arrays, main, place, read_urdf
from robostack.real.robot import RobotConfig

INERTIA = (
    "<inertial><mass value='1'/>"
    "<inertia ixx='1' iyy='1' izz='1' ixy='0' ixz='0' iyz='0'/></inertial>"
)
KINDS = ("revolute", "prismatic", "fixed", "continuous")


def urdf(rng, joints):
    """A chain base, link0, link1, ... of joints of all kinds, as it stands in a file."""
    parts = [f"<link name='base'>{INERTIA}</link>"]
    for i in range(joints):
        axis = rng.standard_normal(3)
        numbers = {
            "xyz": rng.uniform(-1, 1, 3),
            "rpy": rng.uniform(-np.pi, np.pi, 3),
            "axis": axis / np.linalg.norm(axis),
        }
        xyz, rpy, axis = (" ".join(map(repr, map(float, v))) for v in numbers.values())
        parts.append(
            f"<link name='link{i}'>{INERTIA}</link>"
            f"<joint name='joint{i}' type='{KINDS[i % 4]}'><origin xyz='{xyz}' rpy='{rpy}'/>"
            f"<axis xyz='{axis}'/><limit lower='-3' upper='3' effort='1' velocity='1'/>"
            f"<parent link='{f'link{i - 1}' if i else 'base'}'/><child link='link{i}'/></joint>"
        )
    keep = "<mujoco><compiler fusestatic='false' strippath='false'/></mujoco>"
    return f"<robot name='random'>{keep}{''.join(parts)}</robot>"


@pytest.mark.parametrize("seed", range(5))
def test_points_of_a_urdf_are_where_mujoco_has_them(seed, tmp_path):
    rng = np.random.default_rng(seed)
    (tmp_path / "robot.urdf").write_text(urdf(rng, 9))
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "robot.urdf"))
    data = mujoco.MjData(model)
    chain = read_urdf(tmp_path / "robot.urdf", "base", "link8")
    movable = [name for name, joint in chain.items() if joint.type != "fixed"]
    assert list(chain) == [f"joint{i}" for i in range(9)] and len(movable) == 7
    points = [(name, tuple(rng.uniform(-0.5, 0.5, 3))) for name in chain]
    q, found = rng.uniform(-2, 2, len(movable)), np.empty((len(points), 3))
    for name, value in zip(movable, q):
        data.joint(name).qpos = value
    mujoco.mj_kinematics(model, data)
    place(q, *arrays(chain, movable, points), found)
    for i, (_, xyz) in enumerate(points):
        body = data.body(f"link{i}")
        np.testing.assert_allclose(found[i], body.xpos + body.xmat.reshape(3, 3) @ xyz, atol=1e-9)


def test_the_chain_of_the_fr3_is_that_of_mujocos_panda():
    model = mujoco.MjModel.from_xml_string(Panda().get_xml())
    data = mujoco.MjData(model)
    fence = RobotConfig.load("configs/robot/fr3.yaml").arms["arm"].fence
    points = [(name, (0.0, 0.0, 0.0)) for name in fence.chain]
    rng = np.random.default_rng(0)
    for _ in range(20):
        q, found = rng.uniform(-2, 2, 7), np.empty((7, 3))
        for i, value in enumerate(q):
            data.joint(f"robot0_joint{i + 1}").qpos = value
        mujoco.mj_kinematics(model, data)
        place(q, *arrays(fence.chain, fence.movable, points), found)
        base = data.body("robot0_link0")
        bodies = np.array([data.body(f"robot0_link{i + 1}").xpos for i in range(7)])
        expected = (bodies - base.xpos) @ base.xmat.reshape(3, 3)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_printed_of_a_urdf_is_what_a_file_wants(tmp_path, capsys, monkeypatch):
    (tmp_path / "robot.urdf").write_text(urdf(np.random.default_rng(0), 4))
    file = str(tmp_path / "robot.urdf")
    monkeypatch.setattr("sys.argv", ["kinematics", file, "base", "link3"])
    main()
    printed = tmp_path / "chain.yaml"
    printed.write_text(capsys.readouterr().out)
    read = {name: Joint(**fields) for name, fields in yaml.safe_load(printed.read_text()).items()}
    for name, joint in read_urdf(file, "base", "link3").items():
        assert read[name].type == joint.type
        for key in ("xyz", "rpy", "axis"):
            np.testing.assert_allclose(getattr(read[name], key), getattr(joint, key), atol=1e-6)
    monkeypatch.setattr("sys.argv", ["kinematics", file, "base", "hand"])
    with pytest.raises(SystemExit, match="no chain from base to hand; its links: base, link0, li"):
        main()


def test_what_is_no_chain_is_refused(tmp_path):
    (tmp_path / "robot.urdf").write_text("no XML")
    with pytest.raises(ConfigError, match="expected a URDF"):
        read_urdf(tmp_path / "robot.urdf", "base", "hand")
    text = urdf(np.random.default_rng(0), 2).replace("prismatic", "floating")
    (tmp_path / "robot.urdf").write_text(text)
    with pytest.raises(ConfigError, match="joint1: expected revolute, prismatic or fixed, got fl"):
        read_urdf(tmp_path / "robot.urdf", "base", "link1")
    with pytest.raises(ConfigError, match="axis: expected a vector of length 1"):
        Joint(axis=(0.0, 0.0, 2.0))
