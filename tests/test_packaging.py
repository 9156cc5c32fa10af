"""What a user installs is whole, and what a user opens is readable."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

import robostack

ROOT = Path(__file__).parents[1]


TREES = ("robostack", "sim", "real", "launch", "configs", "resource")
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md", "LICENSE")
SHARE = "share/robostack"


def copied(folder):
    """What is packaged of the checkout, in a folder."""
    folder.mkdir(parents=True)
    for name in TREES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the checkout, and the names of the files in it."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = copied(folder / "tree")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return zipfile.ZipFile(found)


@pytest.mark.slow
def test_the_wheel_holds_every_module(wheel):
    inside = set(wheel.namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "robostack").rglob("*.py")}
    for part in ("sim", "real"):
        modules |= {f"robostack/{p.relative_to(ROOT)}" for p in (ROOT / part).rglob("*.py")}
        assert not any(name.startswith(f"{part}/") for name in inside), "a package of that name"
    assert modules <= inside
    assert not [name for name in inside if name.startswith("launch/")], "it would shadow ROS 2's"


@pytest.mark.slow
def test_the_wheel_is_a_package_of_ros_2(wheel):
    data = {name.partition(".data/data/")[2] for name in wheel.namelist() if ".data/" in name}
    assert "share/ament_index/resource_index/packages/robostack" in data
    shared = [*ROOT.glob("launch/*.launch.py"), *ROOT.glob("configs/**/*.*"), ROOT / "package.xml"]
    assert {f"{SHARE}/{path.relative_to(ROOT)}" for path in shared} <= data
    (entries,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    scripts = dict(re.findall(r"^(\w+) = (\S+)$", wheel.read(entries).decode(), re.MULTILINE))
    assert scripts.pop("robostack") == "robostack.cli:main"
    nodes = {path.stem for path in (ROOT / "real" / "nodes").glob("*_node.py")}
    assert set(scripts) == nodes, "`ros2 run robostack` starts every node"
    for name, where in scripts.items():
        module, _, function = where.partition(":")
        source = ast.parse((find_spec(module)).loader.get_source(module))
        assert function in {n.name for n in source.body if isinstance(n, ast.FunctionDef)}, name


@pytest.mark.slow
def test_colcon_builds_it_and_its_nodes_start_from_the_workspace(tmp_path):
    """As `ros2 run` starts them: by name, from lib/robostack, with what setup.sh exports."""
    pytest.importorskip("rclpy", reason="rclpy is not installed (the extra `ros`)")
    for part in ("colcon_core", "colcon_ros"):
        pytest.importorskip(part, reason="colcon is missing (pip install colcon-common-extensions)")
    copied(tmp_path / "src" / "robostack")
    start = "from colcon_core.command import main; raise SystemExit(main())"
    command = [sys.executable, "-c", start, "build"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    script = (
        'set -e; . install/setup.sh; cd "$(mktemp -d)"; at=$(ls -d "${AMENT_PREFIX_PATH%%:*}"); '
        'test -f "$at/share/ament_index/resource_index/packages/robostack"; '
        'test -f "$at/share/robostack/launch/robot.launch.py"; '
        'for node in "$at"/lib/robostack/*_node; do basename "$node"; done; '
        '"$at/lib/robostack/arm_node" --help; '
        f'{sys.executable} -c "import robostack.real.arm as a; print(a.__file__)"'
    )
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = {path.stem for path in (ROOT / "real" / "nodes").glob("*_node.py")}
    assert nodes <= set(done.stdout.split()) and "limits, watchdog" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(str(tmp_path / "install"))


def test_both_descriptions_of_the_package_say_the_same():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    said = {child.tag: (child.text or "").strip() for child in package}
    assert package.get("format") == "3" and said["name"] == "robostack"
    assert said["version"] == robostack.__version__ and said["license"] == "Apache-2.0"
    assert package.find("export/build_type").text == "ament_python"
    text = (ROOT / "setup.py").read_text()
    assert f'description="{said["description"]}"' in text
    # what the nodes import of ROS 2 is what rosdep installs
    needed = {child.text for child in package.findall("exec_depend")}
    used = set()
    for path in [*(ROOT / "real").rglob("*.py"), ROOT / "robostack" / "simulated_robot.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.split(".")[0])
    ros = {name for name in used if name.endswith("_msgs") or name in ("rclpy", "std_srvs")}
    assert ros - {"control_msgs"} <= needed, "control_msgs may be absent"


def test_pip_finds_its_build_system_and_colcon_its_script_folder():
    # without the former `pip install -e` would put the commands where the latter says
    assert "[build-system]" in (ROOT / "pyproject.toml").read_text()
    assert "$base/lib/robostack" in (ROOT / "setup.cfg").read_text()


def test_the_readme_names_files_and_verbs_that_exist():
    readme = (ROOT / "README.md").read_text()
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", readme):
        assert (ROOT / picture).is_file(), picture
    for page in re.findall(r"[^!]\[[^\]]*\]\((docs/[^)]*)\)", readme):
        assert (ROOT / page).is_file(), page
    from robostack.cli import VERBS

    for first, second in re.findall(r"^robostack (\w+) ?(\w*)", readme, re.MULTILINE):
        assert first in VERBS or f"{first} {second}" in VERBS, first


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_kept_report_plays_in_a_browser(tmp_path):
    page = (ROOT / "docs" / "evidence.html").read_text()
    probe = (
        "<script>const v = document.querySelector('video');"
        "const say = () => document.title = `video ${v.videoWidth}x${v.videoHeight}`;"
        "v.readyState ? say() : v.addEventListener('loadeddata', say);</script>"
    )
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{probe}</body>"))
    command = (
        f"chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        f"--disable-background-networking --disable-component-update --disable-sync "
        f"--user-data-dir={tmp_path}/profile --virtual-time-budget=8000 "
        f"--dump-dom file://{tmp_path}/page.html"
    )
    dom = subprocess.run(command.split(), capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"<title>video \d{3,}x\d{3,}</title>", dom), dom[:300]
