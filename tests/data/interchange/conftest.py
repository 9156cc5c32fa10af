"""`exchanged` is put on the path; a store to exchange."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("h5py")
sys.path.append(str(Path(__file__).parent))

from exchanged import arm_episode, make_store  # noqa: E402


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Four episodes with everything that an episode can have, one of a single step."""
    episodes = [
        arm_episode(0),
        arm_episode(1, 17, task="Würfel heben", success=None, label="near miss"),
        arm_episode(2, 1, truth=None, keypoints={}),
        arm_episode(3, 25, source="intervention", group="seed 3 step 0"),
    ]
    return make_store(tmp_path_factory.mktemp("stores") / "store", episodes)
