"""The policy that a robot is given fits it, or is refused before anything is loaded."""

import dataclasses

import numpy as np
import pytest
from fakes import SPEC, make_episode, tiny_vla
from serving import serving

from robostack.policy.checkpoint import WEIGHTS, CheckpointError
from robostack.policy.client import RemoteError
from robostack.real.policies import PolicyConfig, load
from robostack.types import SpecMismatch

SEEN = make_episode(3).observation(1)


@pytest.fixture
def folder(tmp_path):
    tiny_vla().save(tmp_path / "run" / "policy")
    return tmp_path / "run"


def test_a_run_and_its_server_give_the_same_policy(folder):
    here = load(PolicyConfig(str(folder), seed=7), SPEC)
    assert (here.horizon, here.execute) == (4, 2) and here.spec == SPEC
    with serving() as served:
        there = load(PolicyConfig(served.url, seed=7, execute=3), SPEC)
        assert (there.horizon, there.execute) == (4, 3)
        assert np.array_equal(here.planner.plan(SEEN), there.planner.plan(SEEN))
        there.close()
    here.close()


def test_another_robots_policy_is_refused_by_field_before_its_weights_are_read(folder):
    (folder / "policy" / WEIGHTS).write_bytes(b"not looked at")
    slower = dataclasses.replace(SPEC, control_hz=5.0)
    with pytest.raises(SpecMismatch, match="control_hz: the policy .* has 10.0, the robot's"):
        load(PolicyConfig(str(folder)), slower)
    with serving() as served, pytest.raises(SpecMismatch, match="control_hz"):
        load(PolicyConfig(served.url), slower)


def test_how_pictures_were_rendered_does_not_matter_to_a_robot(folder):
    drawn = dataclasses.replace(SPEC, conventions=SPEC.conventions | {"render": "lean"})
    load(PolicyConfig(str(folder)), drawn)


def test_mistakes_are_told(folder, tmp_path):
    with pytest.raises(ValueError, match="policy: expected the folder"):
        PolicyConfig()
    with pytest.raises(ValueError, match="execute=9: expected 1 to 4"):
        load(PolicyConfig(str(folder), execute=9), SPEC)
    with pytest.raises(CheckpointError, match="holds no policy"):
        load(PolicyConfig(str(tmp_path / "nowhere")), SPEC)
    with pytest.raises(RemoteError, match="no policy server answers"):
        load(PolicyConfig("ws://127.0.0.1:9", timeout_s=0.2), SPEC)
    with pytest.raises(ValueError, match="rtc=guided needs level=0"):
        load(PolicyConfig(str(folder), rtc="guided", level=0.5), SPEC)
