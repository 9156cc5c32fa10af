"""What the learners' tests share: a run to write into, and weights to compare."""

import pytest

from robostack.learn.learner import Learner
from robostack.learn.run import Run


@pytest.fixture
def new_run(tmp_path):
    """new_run("a") opens tmp_path / "a" with the same settings every time."""
    return lambda name: Run(tmp_path / name, "test", {"lr": 1})


@pytest.fixture
def stop_before(monkeypatch):
    """stop_before(n): Ctrl-C at the n-th update from now on; returns what lifts it."""

    def arrange(n):
        true, count = Learner.step, iter(range(n - 1))

        def step(self, loss):
            if next(count, None) is None:
                raise KeyboardInterrupt
            return true(self, loss)

        monkeypatch.setattr(Learner, "step", step)
        return lambda: monkeypatch.setattr(Learner, "step", true)

    return arrange


@pytest.fixture
def weights():
    """All weights of a model as bytes by name."""
    return lambda model: {k: v.cpu().numpy().tobytes() for k, v in model.state_dict().items()}
