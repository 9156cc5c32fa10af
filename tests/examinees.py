"""A small examination of known answers, and rewards that pass it or fail it each in its own way."""

import json
from dataclasses import replace

import numpy as np
from fakes import SPEC

from robostack.data.store import Store
from robostack.types import Episode

LEFT, RIGHT = "go to the left", "go to the right"
ROOM = replace(SPEC, state_names=("left", "right", "time"), cameras={"top": (8, 8)})
ENDS = {"success": 1.0, "near miss": 0.7, "failure": 0.2, "hover": 0.8, "wrong object": 0.0}
STEPS = 20


def walk(seed, label, task=LEFT, shift="", **changes):
    """An episode whose states are how far either request has come, and the time.

    It rises evenly to the end that its label stands for; a hover gets there early and stays.
    """
    rng = np.random.default_rng([seed, sorted(ENDS).index(label)])
    steps = 2 * STEPS if label == "hover" else STEPS + int(rng.integers(-3, 4))
    way = np.linspace(0, 1, steps + 1)
    if label == "hover":
        way = np.minimum(4 * way, 1)
    end = ENDS[label] if label == "success" else ENDS[label] + 0.1 * rng.random()
    done = end * way
    other = way if label == "wrong object" else 0 * way
    columns = [done, other] if task == LEFT else [other, done]
    return make(seed, np.stack([*columns, way]), done, task, label, shift, **changes)


def make(seed, states, truth, task, label, shift="", group=""):
    n = states.shape[1]
    frames = np.zeros((n, 8, 8, 3), np.uint8)
    frames[:] = (np.linspace(0, 200, n) + (50 if shift else 0)).astype(np.uint8)[
        :, None, None, None
    ]
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (n - 1, 3)).astype(np.float32)
    actions[:, 0] = np.diff(truth) * 4
    return Episode(
        states=states.T.astype(np.float32),
        images={"top": frames},
        stamps=np.arange(n) / 10.0,
        actions=actions,
        task=task,
        success=label in ("success", "after success") or bool(label == "try" and truth[-1] >= 1),
        terminated=label == "success",
        source="demo",
        seed=seed,
        spec=ROOM,
        group=group,
        truth=truth.astype(np.float32),
        label=label,
    )


def tries(seed, task, count=4):
    """Short episodes from one state, each as far as its draw."""
    for gain in np.random.default_rng(seed).uniform(-0.3, 0.3, count):
        done = 0.5 + np.linspace(0, gain, 5)
        columns = [done, 0 * done] if task == LEFT else [0 * done, done]
        states = np.stack([*columns, np.zeros(5)])
        yield make(seed, states, done, task, "try", group=f"seed {seed}")


def write_examination(folder, seeds=range(2), shifts=("camera",), labels=tuple(ENDS), count=4):
    """A run folder of two tasks, plain and shifted, `count` tries from each start."""
    entries = []
    for task, words in (("Left", LEFT), ("Right", RIGHT)):
        for shift in ("", *shifts):
            path = f"{task}/{shift or 'plain'}"
            store = Store.create(folder / path, ROOM)
            for seed in seeds:
                for label in labels:
                    store.append(walk(seed, label, words, shift))
                if not shift:
                    for episode in tries(seed, words, count):
                        store.append(episode)
            entries.append({"path": path, "task": task, "shift": shift})
    (folder / "summary.json").write_text(json.dumps({"stores": entries}))
    return folder


class Examinee:
    """Counts how often it is asked."""

    name = "examinee"

    def __init__(self, version="1"):
        self.version, self.asked = version, 0

    def fingerprint(self):
        return f"{self.name}-{self.version}"

    def score(self, episode):
        self.asked += 1
        return np.clip(self.judge(episode), 0, 1).astype(np.float32)


class Oracle(Examinee):
    """Sees how far the request has come, in the states; the answers themselves it never gets."""

    name = "oracle"

    def judge(self, episode):
        assert episode.truth is None and episode.success is None and episode.label == ""
        return episode.states[:, (LEFT, RIGHT).index(episode.task)]

    def rank(self, observation, chunks):
        return chunks[:, :4, 0].sum(1)

    def stops(self, episode):
        return self.judge(episode) >= 1


class Constant(Examinee):
    name = "constant"

    def judge(self, episode):
        return np.full(len(episode) + 1, 0.5)


class Clock(Examinee):
    """Rewards any video for going on."""

    name = "clock"

    def judge(self, episode):
        return np.linspace(0, 1, len(episode) + 1)


class HoverPayer(Oracle):
    """Takes close for done."""

    name = "hover_payer"

    def judge(self, episode):
        return 1.25 * super().judge(episode)


class Deaf(Oracle):
    """Does not listen to what was asked."""

    name = "deaf"

    def judge(self, episode):
        return episode.states[:, :2].max(1)


class Backwards(Oracle):
    """Ranks chunks the wrong way round."""

    name = "backwards"

    def rank(self, observation, chunks):
        return -super().rank(observation, chunks)


class Broken(Examinee):
    """Raises on the right, and is not finite where it sees nothing."""

    name = "broken"

    def judge(self, episode):
        if episode.task == RIGHT:
            raise KeyError("no program for this instruction")
        dark = not episode.images["top"].any()
        return np.full(len(episode) + 1, np.nan) if dark else episode.states[:, 0]
