"""MuJoCo's own window, on a display that exists in memory only."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from fakes import LineEnv

from robostack.collecting.window import Window
from robostack.sim.env import EnvConfig, make_env


@pytest.fixture
def display(tmp_path):
    """Its name, and a function that returns what is on it u8[H, W, 3]."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    ours, theirs = os.pipe()
    words = ["-displayfd", str(theirs), "-fbdir", str(tmp_path), "-screen", "0", "320x240x24"]
    server = subprocess.Popen(
        ["Xvfb", *words, "+extension", "GLX"], pass_fds=[theirs], stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    with os.fdopen(ours) as said:
        name = f":{said.readline().strip()}"

    def shown():
        """After the header of an X window dump and its colours."""
        raw = (tmp_path / "Xvfb_screen0").read_bytes()
        header = struct.unpack(">25I", raw[:100])
        size, width, height, colours = header[0], header[4], header[5], header[19]
        pixels = np.frombuffer(raw, np.uint8, width * height * 4, size + 12 * colours)
        return pixels.reshape(height, width, 4)[..., :3]

    yield name, shown
    server.terminate()
    server.wait(10)


@pytest.mark.slow
def test_a_session_is_seen_in_the_window_and_ends_as_without(display, tmp_path):
    name, shown = display
    words = [
        "env.task=tabletop/pick",
        "device=scripted",
        "window=true",
        "page.on=false",
        "episodes=1",
    ]
    words += ["start_after=0", "review=alone", "decide_after=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "robostack.cli", "teleop", "--out", str(tmp_path / "out"), *words],
        env=os.environ | {"DISPLAY": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = []
    while process.poll() is None and (not seen or seen[-1].std() < 30):
        seen.append(shown())
        time.sleep(0.1)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert seen[-1].std() >= 30  # a black screen has none
    assert json.loads(out)["kept"] == 1


def test_without_a_display_or_a_simulation_it_says_so(monkeypatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    env = make_env(EnvConfig("Lift", render="none"))
    with pytest.raises(ValueError, match="there is no display .* the page shows the cameras"):
        Window(env)
    env.close()
    with pytest.raises(ValueError, match="this is a robot"):
        Window(LineEnv())
