"""Imports go one way, the core costs numpy only, and no file does what it must not."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = [  # a module may import those of its own line, of lines above, and nothing below
    ["types"],
    ["protocols"],
    [
        "config",
        "data",
        "device",
        "vision",
        "augment",
        "rollout",
        "pool",
        "ray_pool",
        "evaluate",
        "alarms",
        "testing",
    ],
    ["policy", "rewards", "assist"],
    ["prefer"],
    ["learn", "score"],
    ["figures", "page"],
    [
        "exam",
        "footage",
        "imagination",
        "labelling",
        "preference_card",
        "contact_sheet",
        "episode_page",
    ],
    ["sim", "real"],
    [
        "worlds",
        "simulated_robot",
        "stages",
        "collecting",
        "cases",
        "judging",
        "preferring",
        "practising",
        "ledger",
        "results",
        "board",
        "batch",
        "doctor",
        "report",
        "rl_report",
        "demo",
        "bag_source",
        "replaying",
        "curating",
        "actions",
        "verb",
        "data_verbs",
        "robot_verbs",
        "verbs",
        "cli",
    ],
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}
APART = ["sim", "real"]  # the simulator and the robot never see each other
SEES_THE_SIMULATOR = LEVELS[-1]


def module(path):
    """robostack.a.b of a source file; sim/ and real/ are installed below robostack."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "robostack" else ("robostack", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


ENTRIES = {"robostack.sim.batch_eval"}  # another name of the command line, nothing more
SOURCES = {
    module(path): ast.parse(path.read_text())
    for folder in ("robostack", "sim", "real")
    for path in (ROOT / folder).rglob("*.py")
    if module(path) not in ENTRIES
}


def imported(tree):
    """Full names of everything that a file imports anywhere, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(name):
    """The second part of robostack.x.y; "" of robostack itself and of other packages."""
    parts = name.split(".")
    return parts[1] if parts[0] == "robostack" and len(parts) > 1 else ""


def parts_imported(name):
    return {part(i) for i in imported(SOURCES[name])} & LEVEL.keys()


EDGES = sorted({(part(name), i) for name in SOURCES if part(name) for i in parts_imported(name)})


def test_entry_points_hold_no_code_of_their_own():
    for name in ENTRIES:
        path = ROOT / name.removeprefix("robostack.").replace(".", "/")
        assert len(path.with_suffix(".py").read_text().splitlines()) < 10, name


def test_the_walk_finds_the_sources_and_their_imports():
    assert {"robostack.types", "robostack.sim.env", "robostack.learn.bc"} <= SOURCES.keys()
    assert ("protocols", "types") in EDGES and ("sim", "types") in EDGES


def test_every_module_has_a_level():
    assert {part(name) for name in SOURCES} - {""} <= LEVEL.keys()


def test_imports_go_one_way():
    backwards = [(a, b) for a, b in EDGES if LEVEL[b] > LEVEL[a]]
    assert backwards == []


def test_no_two_parts_import_each_other():
    assert [(a, b) for a, b in EDGES if a < b and (b, a) in EDGES] == []


def test_the_simulator_and_the_robot_do_not_see_each_other():
    assert not set(EDGES) & {tuple(APART), tuple(reversed(APART))}


@pytest.mark.parametrize("banned", ["sim", "real", "pickle", "dill", "cloudpickle", "joblib"])
def test_no_file_imports_what_is_banned(banned):
    assert [
        n for n, t in SOURCES.items() if any(i.split(".")[0] == banned for i in imported(t))
    ] == []


@pytest.mark.parametrize("outsider", ["mujoco", "robosuite", "rclpy", "robostack.sim"])
def test_the_core_holds_no_simulator_and_no_robot(outsider):
    for name, tree in SOURCES.items():
        if part(name) not in [*APART, *SEES_THE_SIMULATOR]:
            assert not [i for i in imported(tree) if f"{i}.".startswith(f"{outsider}.")], name


def test_nothing_is_loaded_with_pickles_allowed():
    for name, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                assert node.value.value is (node.arg == "weights_only"), name
            if isinstance(node, ast.Attribute) and node.attr in ("load", "save"):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                assert owner != "torch", f"{name}: torch.{node.attr} pickles"


def loaded_by(name):
    """Top-level packages in memory after importing a module in a fresh process."""
    code = f"import sys, {name}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["types", "protocols", "config", "rollout", "evaluate"])
def test_the_core_costs_numpy_only(name):
    heavy = {"torch", "mujoco", "zarr", "robosuite", "cv2", "diffusers"}
    assert not heavy & loaded_by(f"robostack.{name}")


def test_launch_is_no_package():
    # it would shadow ROS 2's own `launch`
    assert not list((ROOT / "launch").rglob("__init__.py"))


def test_who_teaches_by_hand_does_not_wait_for_what_learning_and_drawing_need():
    assert not {"torch", "matplotlib"} & loaded_by("robostack.collecting.command")


def test_who_learns_nothing_does_not_wait_for_what_learning_needs():
    assert not {"diffusers", "transformers", "peft", "robosuite"} & loaded_by("robostack.stages")


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is what torch has on Linux")
@pytest.mark.parametrize(
    "given, spins",
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000")],
)
def test_threads_soon_leave_their_core_to_others_where_the_user_says_nothing_else(given, spins):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    code = "import robostack.device, torch; torch.ones(9).sum()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | given | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
    )
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
