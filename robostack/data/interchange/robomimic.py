"""robomimic's HDF5, in and out, as https://robomimic.github.io/docs/datasets/overview.html has it.

data                  attributes: total (steps), env_args (JSON: env_name, type, env_kwargs)
data/demo_0           attributes: num_samples, model_file (MJCF, of robosuite)
data/demo_0/actions   f[T, A]; rewards, dones f[T]; states f[T, D] of MuJoCo, of robosuite
data/demo_0/obs/KEY   [T, ...] before each action, next_obs/KEY after it
mask/NAME             names of demonstrations, as a choice of some

With next_obs an episode is whole; without, the observation after the last action is missing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from robostack.data.interchange.report import (
    BadEpisode,
    Convention,
    FormatError,
    Report,
    require_cameras,
)
from robostack.data.interchange.robomimic_file import array, demonstrations, env_args, opened
from robostack.data.interchange.side_car import TOLD
from robostack.types import Episode, RobotSpec

ARM = ("eef_pos", "eef_quat", "gripper_qpos")  # what robomimic's policies see of an arm
OSC = ("dx", "dy", "dz", "rx", "ry", "rz")
QUATERNION = [3, 0, 1, 2]  # robosuite's xyzw as wxyz
OURS = "robostack"  # attribute of a file and a demonstration that we wrote


class RobomimicSource:
    """Opened by its attributes; `read` takes one demonstration.

    `state` names the observations that make the state; by default an arm's pose and fingers, or
    all that are vectors. Raises FormatError for a file that is none of robomimic's.
    """

    format = "robomimic HDF5"

    def __init__(
        self,
        path: Path,
        report: Report,
        state: tuple[str, ...] = (),
        conventions: dict[str, str] | None = None,
        hz: float = 0.0,
        mask: str = "",
        cameras: tuple[str, ...] = (),
    ):
        self.path, self._report = Path(path), report
        self.file, self._data = opened(self.path)
        self._demos = demonstrations(self.file, self.path, mask)
        self.env = env_args(self._data, self.path)
        self._ours = OURS in self._data.attrs
        if self._ours:
            self.spec = self._own_spec(state, conventions or {}, hz)
            self._keys = ("state",)
            self._pictures = {name: f"{name}_image" for name in self.spec.cameras}
        else:
            first = self._first()
            self._keys = state or self._arm_keys(first["obs"])
            self._pictures = self._find_pictures(first["obs"])
            self.spec = self._find_spec(first, conventions or {}, hz)
        if cameras:
            require_cameras(path, cameras, self._pictures)
            some = {name: self.spec.cameras[name] for name in cameras}
            self.spec = replace(self.spec, cameras=some)
        if not self._ours:
            self._dense = self._find_dense()
            self._tell(first)

    def close(self) -> None:
        self.file.close()

    def names(self) -> list[str]:
        return self._demos

    def _own_spec(self, state: tuple[str, ...], conventions: dict, hz: float) -> RobotSpec:
        """Of a file that we wrote, which leaves nothing to be said."""
        try:
            spec = RobotSpec.from_json(self._data.attrs[OURS])
        except (TypeError, ValueError) as error:
            what = f"attribute {OURS} of `data` is damaged ({error})"
            raise FormatError(f"{self.path}: {what}") from None
        if given := [name for name, value in (("state", state), ("hz", hz)) if value]:
            raise FormatError(f"{self.path} says its {' and '.join(given)} itself")
        if conventions:
            raise FormatError(f"{self.path} says its conventions itself: {spec.conventions}")
        return spec

    def _first(self) -> h5py.Group:
        """The first demonstration that shows what all of them should hold."""
        for demo in (self._data[name] for name in self._demos):
            found = {k: demo.get(k) for k in ("obs", "actions")} if _is_group(demo) else {}
            if _is_group(found.get("obs")) and isinstance(found["actions"], h5py.Dataset):
                return demo
        raise FormatError(
            f"{self.path} has no observations, only states of a simulator: replay them with "
            "replay=true env.task=NAME"
        )

    def _find_pictures(self, obs: h5py.Group) -> dict[str, str]:
        """The observations that are films, by camera."""
        for key in self._keys:
            if key not in obs:
                raise FormatError(f"{self.path}: no obs/{key}; it has {', '.join(obs)}")
            if obs[key].ndim != 2:
                raise FormatError(f"{self.path}: obs/{key} is {obs[key].shape}, expected vectors")
        films = [key for key, v in obs.items() if v.ndim == 4 and v.dtype == np.uint8]
        return {key.removesuffix("_image"): key for key in films}

    def _find_dense(self) -> bool:
        """Whether any reward is neither 0 nor 1, which then says nothing about success."""
        for demo in (self._data[name] for name in self._demos):
            with contextlib.suppress(BadEpisode):  # `read` says so
                if not np.isin(array(demo, "rewards", np.float32), (0, 1)).all():
                    return True
        return False

    def _arm_keys(self, obs: h5py.Group) -> tuple[str, ...]:
        arms = sorted({k.split("_eef_pos")[0] for k in obs if k.endswith("_eef_pos")})
        keys = tuple(f"{arm}_{part}" for arm in arms for part in ARM if f"{arm}_{part}" in obs)
        if keys:
            return keys
        keys = tuple(sorted(k for k, v in obs.items() if v.ndim == 2))
        if not keys:
            raise FormatError(f"{self.path}: no vectors among obs/{', obs/'.join(obs)}")
        self._report.note(f"state: all vectors among the observations, {', '.join(keys)}")
        return keys

    def _find_spec(self, first: h5py.Group, conventions: dict, hz: float) -> RobotSpec:
        kwargs = self.env.get("env_kwargs") or {}
        told = kwargs.get("control_freq")
        if hz and told and hz != told:
            raise FormatError(f"{self.path} says its rate itself: {told:g} Hz, not hz={hz:g}")
        rate = hz or told
        if not isinstance(rate, (int, float)) or not rate > 0:
            raise FormatError(f"{self.path} does not say its control rate: say it, e.g. hz=20")
        if first["actions"].ndim != 2:
            raise FormatError(f"{self.path}: actions are {first['actions'].shape}, expected rows")
        robots = kwargs.get("robots", "unknown")
        names, declared = self._action_names(first["actions"].shape[1], kwargs)
        return RobotSpec(
            robot=robots if isinstance(robots, str) else " + ".join(robots),
            state_names=tuple(self._state_names(first["obs"])),
            action_names=names,
            action_low=(-1.0,) * len(names),
            action_high=(1.0,) * len(names),
            cameras={name: first["obs"][key].shape[1:3] for name, key in self._pictures.items()},
            control_hz=float(rate),
            conventions=declared | conventions,
        )

    def _action_names(self, size: int, kwargs: dict) -> tuple[tuple[str, ...], dict[str, str]]:
        """And what the file's controller declares."""
        controller = json.dumps(kwargs.get("controller_configs", ""))
        if "OSC_POSE" not in controller or size % 7:
            self._report.note(f"actions have no names: called action0 to action{size - 1}")
            return tuple(f"action{i}" for i in range(size)), {}
        arms = size // 7
        prefixes = [f"robot{i}_" if arms > 1 else "" for i in range(arms)]
        absolute = '"control_delta": false' in controller or '"absolute"' in controller
        declared = {
            "action": "OSC_POSE absolute" if absolute else "OSC_POSE delta",
            "gripper": "+1 closes",
        }
        return tuple(p + n for p in prefixes for n in (*OSC, "gripper")), declared

    def _state_names(self, obs: h5py.Group) -> Iterator[str]:
        for key in self._keys:
            if key.endswith("quat"):
                yield from (key.removesuffix("uat") + axis for axis in "wxyz")
            elif key.endswith("_pos") and obs[key].shape[1] == 3:
                yield from (f"{key.removesuffix('_pos')}_{axis}" for axis in "xyz")
            else:
                yield from (f"{key}{i}" for i in range(obs[key].shape[1]))

    def _tell(self, first: h5py.Group) -> None:
        if quaternions := [k for k in self._keys if k.endswith("quat")]:
            self._report.note(f"{', '.join(quaternions)}: robosuite's xyzw is kept as wxyz")
        if "next_obs" not in first:
            self._report.note(
                "no next_obs: an episode of N steps becomes N observations and N - 1 actions"
            )
        self._report.note(
            f"times are made of the rate, {self.spec.control_hz:g} Hz, and action bounds are taken "
            "to be -1 and 1: the file has neither"
        )
        if self._dense:
            self._report.note(
                "rewards are neither 0 nor 1 everywhere, so that they do not say what succeeded: "
                "nobody did; `robostack data relabel` can"
            )
        used = {*self._keys, *(self._pictures[name] for name in self.spec.cameras)}
        if left := sorted(set(first["obs"]) - used):
            self._report.note(f"not taken over: obs/{', obs/'.join(left)}")

    def conventions(self) -> list[Convention]:
        return []  # nothing can be tried without the robot

    def read(self, number: int) -> Episode:
        """The demonstration of `names()[number]`. Raises BadEpisode naming the field."""
        demo = self._data[self._demos[number]]
        actions = array(demo, "actions", np.float32)
        whole = "next_obs" in demo
        states = _joined([self._field(demo, key, whole) for key in self._keys])
        images = {
            name: self._field(demo, self._pictures[name], whole, np.uint8)
            for name in self.spec.cameras
        }
        taken = actions if whole else actions[:-1]
        _require(self.spec, states, images, taken)
        if self._ours:
            return self._own(demo, states, images, taken)
        success = self._success(demo, len(actions))
        return Episode(
            states=states,
            images=images,
            stamps=np.arange(len(states)) / self.spec.control_hz,
            actions=taken,
            task=str(self.env.get("env_name", "")),
            success=success,
            terminated=bool(success),
            source="demo",
            seed=number,
            spec=self.spec,
        )

    def _success(self, demo: h5py.Group, steps: int) -> bool | None:
        """None where nobody said, as dense rewards do not."""
        if "rewards" not in demo:
            return None
        rewards = array(demo, "rewards", np.float32).ravel()
        if len(rewards) != steps:
            raise BadEpisode("rewards", f"{len(rewards)} of {steps} actions")
        if not np.isfinite(rewards).all():
            raise BadEpisode("rewards", f"not finite in row {np.argmin(np.isfinite(rewards))}")
        return None if self._dense else bool((rewards == 1).any())

    def _field(self, demo: h5py.Group, key: str, whole: bool, dtype=np.float32) -> np.ndarray:
        """An observation with, if there is one, that after the last action."""
        rows = array(demo, f"obs/{key}", dtype)
        if whole:
            last = array(demo, f"next_obs/{key}", dtype, last=True)
            if last.shape[1:] != rows.shape[1:]:
                what = f"{last.shape[1:]} each, but obs/{key} {rows.shape[1:]}"
                raise BadEpisode(f"next_obs/{key}", what)
            rows = np.concatenate([rows, last])
        return rows[:, QUATERNION] if key.endswith("quat") and rows.shape[1:] == (4,) else rows

    def _own(self, demo: h5py.Group, states, images, actions) -> Episode:
        about = self._about(demo)
        points = demo.get("keypoints", {})
        if points and not _is_group(points):
            raise BadEpisode("keypoints", "is no group")
        return Episode(
            states=states,
            images=images,
            stamps=array(demo, "stamps", np.float64),
            actions=actions,
            keypoints={name: array(demo, f"keypoints/{name}", np.float32) for name in points},
            truth=array(demo, "truth", np.float32) if "truth" in demo else None,
            spec=self.spec,
            **about,
        )

    def _about(self, demo: h5py.Group) -> dict:
        try:
            about = json.loads(demo.attrs[OURS])
        except KeyError:
            raise BadEpisode(f"attribute {OURS}", "is missing") from None
        except (TypeError, ValueError) as error:
            raise BadEpisode(f"attribute {OURS}", f"is damaged ({error})") from None
        if not isinstance(about, dict) or about.keys() != set(TOLD):
            raise BadEpisode(f"attribute {OURS}", f"is {about}, expected {', '.join(TOLD)}")
        return about


def _is_group(item: object) -> bool:
    return isinstance(item, h5py.Group)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """f32[N, S] of what makes the state."""
    if any(part.ndim != 2 or len(part) != len(parts[0]) for part in parts):
        shapes = ", ".join(str(part.shape) for part in parts)
        raise BadEpisode("states", f"are made of {shapes}, expected as many vectors of each")
    return np.concatenate(parts, 1)


def _require(spec: RobotSpec, states: np.ndarray, images: dict, actions: np.ndarray) -> None:
    sizes = {"states": (states, spec.state_dim), "actions": (actions, spec.action_dim)}
    for name, (rows, size) in sizes.items():
        if rows.shape[1:] != (size,):
            raise BadEpisode(name, f"{rows.shape[1:]} numbers each, expected {(size,)}")
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise BadEpisode(name, f"{rows[row, column]} in row {row}, dimension {column}")
    wanted = {f"images.{n}": (len(states), *size, 3) for n, size in spec.cameras.items()}
    for name, frames in images.items():
        if frames.shape != wanted[f"images.{name}"]:
            raise BadEpisode(
                f"images.{name}", f"shape {frames.shape}, expected {wanted[f'images.{name}']}"
            )
    if len(actions) + 1 != len(states):
        raise BadEpisode("actions", f"{len(actions)} of {len(states)} observations")
