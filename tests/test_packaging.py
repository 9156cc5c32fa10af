"""What a user installs is whole, and what a user opens is readable."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_holds_every_module(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("robostack", "sim"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "robostack").rglob("*.py")}
    modules |= {f"robostack/{p.relative_to(ROOT)}" for p in (ROOT / "sim").rglob("*.py")}
    assert modules <= inside and not any(name.startswith("sim/") for name in inside)


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
