"""Demonstrations that are simulator states and actions, shown again in our own simulator: pictures
and states as everything else here has them, and the actions tried against what they led to."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import mujoco
import numpy as np

from robostack.data.interchange.report import BadEpisode, Convention, FormatError, Report
from robostack.data.interchange.robomimic_file import array, demonstrations, env_args, opened
from robostack.rollout import Recorder
from robostack.sim.env import EnvConfig, SimEnv, make_env
from robostack.types import Episode, Step

TRIED = 3  # demonstrations whose actions are also tried with the gripper turned round


class ReplaySource:
    """A file of robosuite or robomimic with `states`, in the environment of `config`, whose task
    must be the file's; all demonstrations, or those of a `mask`. Raises FormatError for other
    files."""

    format = "robosuite states, replayed"

    def __init__(self, path: Path, report: Report, config: EnvConfig, mask: str = ""):
        self.path, self._report = Path(path), report
        self.file, self._data = opened(self.path)
        self._names = demonstrations(self.file, self.path, mask)
        if not any("states" in self._data[name] for name in self._names):
            raise FormatError(f"{path} has no states to replay; import it without replay=true")
        self._require_task(config)
        self.env: SimEnv = make_env(config)
        self.spec = self.env.spec
        self._tried: list[tuple[Replay, Replay]] = []  # as recorded, with the gripper turned
        report.note(
            "pictures, states and success are those of this simulator in the recorded states; the "
            "last observation is where its physics leads"
        )

    def _require_task(self, config: EnvConfig) -> None:
        attributes = self._data.attrs
        told = attributes.get("env") or env_args(self._data, self.path).get("env_name")
        if told and str(told).split("_")[0] != config.task:
            raise FormatError(
                f"{self.path} is of {told}, not of {config.task}: say env.task={told}"
            )

    def names(self) -> list[str]:
        return self._names

    def read(self, number: int) -> Episode:
        """Raises BadEpisode naming the field."""
        demo = self._data[self._names[number]]
        actions = array(demo, "actions", np.float32)
        states = array(demo, "states", np.float64)
        self._require_model(demo, states, actions)
        replay = self._replay(states, actions)
        if len(self._tried) < TRIED:
            turned = self._replay(states, actions * np.where(self._grips(), -1, 1).astype("f4"))
            self._tried.append((replay, turned))
        record = Recorder(self.env, "demo", number)
        record.steps, record.actions = replay.steps, list(actions)
        return record.episode()

    def _grips(self) -> np.ndarray:
        return np.array([name.endswith("gripper") for name in self.spec.action_names])

    def _require_model(self, demo: h5py.Group, states: np.ndarray, actions: np.ndarray) -> None:
        """The recorded model must have our joints, in our order."""
        model, size = self.env.model, 1 + self.env.model.nq + self.env.model.nv
        if states.shape[1:] != (size,):
            raise BadEpisode("states", f"{states.shape[1:]} numbers each, this model has {size}")
        if len(states) != len(actions):
            raise BadEpisode("actions", f"{len(actions)}, but {len(states)} states")
        if actions.shape[1:] != (self.spec.action_dim,):
            raise BadEpisode(
                "actions", f"{actions.shape[1:]} numbers each, expected {self.spec.action_names}"
            )
        for name, rows in (("states", states), ("actions", actions)):
            if not np.isfinite(rows).all():
                row, column = np.argwhere(~np.isfinite(rows))[0]
                raise BadEpisode(name, f"{rows[row, column]} in row {row}, dimension {column}")
        text = demo.attrs.get("model_file")
        if not text:
            self._report.note("no model_file: whether the recorded model is ours is not checked")
            return
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise BadEpisode("model_file", f"is no XML ({error})") from None
        theirs = [_plain(j.get("name", "")) for j in root.iter() if j.tag in ("joint", "freejoint")]
        theirs = [name for name in theirs if name]
        ours = [_plain(_name(model, i)) for i in range(model.njnt)]
        if set(theirs) != set(ours):
            odd = sorted(set(theirs) ^ set(ours))
            raise BadEpisode("model_file", f"other joints than this simulator's: {', '.join(odd)}")
        self._compare_sizes(root)

    def _compare_sizes(self, root: ElementTree.Element) -> None:
        model, off = self.env.model, 0.0
        for geom in root.iter("geom"):
            number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, geom.get("name", ""))
            if number >= 0 and geom.get("size"):
                size = np.array(geom.get("size").split(), float)
                off = max(off, float(np.abs(size - model.geom_size[number][: len(size)]).max()))
        if off > 1e-6:
            self._report.note(f"sizes of bodies differ by up to {1000 * off:.2g} mm from ours")

    def _replay(self, states: np.ndarray, actions: np.ndarray) -> Replay:
        """Show every recorded state, and take its action to see whether the next one comes out."""
        env, nq = self.env, self.env.model.nq
        fingers = self._joints(lambda name: "finger" in name)
        arms = self._joints(lambda name: "robot" in name and "finger" not in name)
        replay, positions = Replay(), states[:, 1 : 1 + nq]
        env.reset(0)
        for t, (state, action) in enumerate(zip(states, actions)):
            replay.steps.append(env.show(positions[t], state[1 + nq :], t))
            last = env.step(action)
            if t + 1 < len(states):
                error = env.data.qpos - positions[t + 1]
                replay.missed += float(np.square(error[arms]).sum())
                replay.moved += float(np.square((positions[t + 1] - positions[t])[arms]).sum())
                replay.fingers += float(np.square(error[fingers]).sum())
        replay.steps.append(last)
        return replay

    def _joints(self, wanted: Callable[[str], bool]) -> np.ndarray:
        """Places in qpos of joints by name."""
        model = self.env.model
        return np.array(
            [model.jnt_qposadr[i] for i in range(model.njnt) if wanted(_name(model, i))]
        )

    def conventions(self) -> list[Convention]:
        """What trying the actions says: whether they are what this controller takes, and the
        gripper's sign."""
        if not self._tried:
            return []
        asks = self.spec.conventions.get("action", "")
        missed, moved = (sum(getattr(r, n) for r, _ in self._tried) for n in ("missed", "moved"))
        explained = max(0.0, 1 - missed / max(moved, 1e-12))
        found, sure = (asks, explained) if explained > 0.5 else ("another", 1 - explained)
        evidence = f"replayed actions explain {explained:.0%} of the arm's motion"
        meaning = Convention("action by replay", asks, found, sure, evidence)
        declared = self.spec.conventions.get("gripper", "")
        right, wrong = (sum(pair[i].fingers for pair in self._tried) for i in (0, 1))
        found = "the other way round" if wrong < right else declared
        sure = 1 - min(right, wrong) / max(right, wrong, 1e-12)
        evidence = f"fingers miss by {right:.2g} as recorded, by {wrong:.2g} turned round [m2]"
        return [meaning, Convention("gripper by replay", declared, found, sure, evidence)]


@dataclass
class Replay:
    """What was shown, and how far the joints came out elsewhere than recorded, squared."""

    steps: list[Step] = field(default_factory=list)
    missed: float = 0.0  # of the arms [rad2], over all actions
    moved: float = 0.0  # how far the arms went [rad2]
    fingers: float = 0.0  # [m2]


def _name(model: mujoco.MjModel, joint: int) -> str:
    return mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, joint) or ""


def _plain(name: str) -> str:
    """robosuite 1.5 says which hand a finger is of; earlier ones did not."""
    return name.replace("_right", "")
