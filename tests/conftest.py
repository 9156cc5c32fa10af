"""Shared fixtures. `fakes` is put on the path, so that spawned workers can import it by name."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))

from fakes import SPEC, make_episode, tiny_vla  # noqa: E402

from robostack.data.chunks import ChunkData  # noqa: E402

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background: what it starts
    signal.signal(signal.SIGINT, signal.default_int_handler)  # would not hear Ctrl-C either
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub; no test needs it


COMPILED = (
    "import numpy as np; from robostack.sim.env import EnvConfig, make_env; env = make_env("
    "EnvConfig(task='Lift')); env.reset(0); env.step(np.zeros(env.spec.action_dim))",
    "from robostack.real.robot import RobotConfig as R; from robostack.real.safety import Safety; "
    "from robostack.real.stopping import Stopping; robot = R.load('configs/robot/so101.yaml'); "
    "Safety(robot); Stopping(robot, list(robot.actions)[:1])",
)


def pytest_sessionstart(session):
    """On a new machine numba compiles: once, before there are several who would each do it."""
    workers = session.config.getoption("numprocesses", None)
    if workers and not hasattr(session.config, "workerinput"):
        root = Path(__file__).parents[1]
        started = [subprocess.Popen([sys.executable, "-c", code], cwd=root) for code in COMPILED]
        assert [process.wait() for process in started] == [0, 0]


@pytest.fixture
def spec():
    return SPEC


@pytest.fixture
def episode():
    return make_episode(seed=0)


@pytest.fixture
def vla():
    return tiny_vla()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium, where there is one."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    from browser import Browser

    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session", autouse=True)
def one_worker_acts_here():
    """And not in a process that may die, which takes seconds to start: of most tests it would be
    half the time."""
    from robostack.sim.arena import Arena

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arena, "isolate", False)
        yield


@pytest.fixture
def here(monkeypatch):
    """Evaluations act in this process, and not in some that may die and take seconds to start."""
    from robostack import batch
    from robostack.sim.arena import open_pool

    monkeypatch.setattr(batch, "open_pool", lambda make, env, *_, **__: open_pool(make, env, 1))


@pytest.fixture
def batch():
    """Six windows of two episodes, two of them running over the end."""
    data = ChunkData(SPEC, 4, [make_episode(seed, steps=6) for seed in (1, 2)])
    return data.batch(data.rows()[[0, 3, 5, 6, 8, 11]])


@pytest.fixture(scope="module")
def opened():
    """make_env, which opens each simulated environment once and keeps it: that takes a second."""
    from robostack.sim.env import make_env

    kept, closing = {}, []

    def get(config):
        if str(config) not in kept:
            env = kept[str(config)] = make_env(config)
            closing.append(env.close)
            env.close = lambda: None
        return kept[str(config)]

    yield get
    for close in closing:
        close()
