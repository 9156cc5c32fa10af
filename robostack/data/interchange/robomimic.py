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
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from robostack.data.interchange.report import BadEpisode, Convention, FormatError, Report
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
    ):
        self.path, self._report = Path(path), report
        try:
            self.file = h5py.File(path, "r")
            self._data = self.file["data"]
        except (OSError, KeyError) as error:
            raise FormatError(f"{path} is not robomimic's HDF5 ({error})") from None
        self._demos = self._choose(mask)
        self.env = json.loads(self._data.attrs.get("env_args", "{}"))
        self._ours = OURS in self._data.attrs
        if self._ours:
            self.spec = RobotSpec.from_json(self._data.attrs[OURS])
            self._keys = ("state",)
            return
        first = self._data[self._demos[0]]
        if "obs" not in first:
            raise FormatError(
                f"{path} has no observations, only states of a simulator: replay them with "
                "replay=true env.task=NAME"
            )
        self._keys = state or self._arm_keys(first["obs"])
        for key in self._keys:
            if key not in first["obs"]:
                raise FormatError(f"{path}: no obs/{key}; it has {', '.join(first['obs'])}")
        self.spec = self._find_spec(first, conventions or {}, hz)
        self._tell(first)

    def close(self) -> None:
        self.file.close()

    def names(self) -> list[str]:
        return self._demos

    def _choose(self, mask: str) -> list[str]:
        names = sorted(self._data, key=lambda n: (len(n), n))  # demo_2 before demo_10
        if mask:
            masks = self.file.get("mask", {})
            if mask not in masks:
                raise FormatError(f"{self.path}: no mask {mask!r}; it has {', '.join(masks)}")
            wanted = {n.decode() for n in masks[mask][:]}
            names = [n for n in names if n in wanted]
        if not names:
            raise FormatError(f"{self.path} has no demonstration")
        return names

    def _arm_keys(self, obs: h5py.Group) -> tuple[str, ...]:
        arms = sorted({k.split("_eef_pos")[0] for k in obs if k.endswith("_eef_pos")})
        keys = tuple(f"{arm}_{part}" for arm in arms for part in ARM if f"{arm}_{part}" in obs)
        if keys:
            return keys
        keys = tuple(sorted(k for k, v in obs.items() if v.ndim == 2))
        self._report.note(f"state: all vectors among the observations, {', '.join(keys)}")
        return keys

    def _find_spec(self, first: h5py.Group, conventions: dict, hz: float) -> RobotSpec:
        kwargs = self.env.get("env_kwargs", {})
        rate = hz or float(kwargs.get("control_freq", 0))
        if not rate:
            raise FormatError(f"{self.path} does not say its control rate: say it, e.g. hz=20")
        robots = kwargs.get("robots", "unknown")
        names, declared = self._action_names(first["actions"].shape[1], kwargs)
        return RobotSpec(
            robot=robots if isinstance(robots, str) else " + ".join(robots),
            state_names=tuple(self._state_names(first["obs"])),
            action_names=names,
            action_low=(-1.0,) * len(names),
            action_high=(1.0,) * len(names),
            cameras={
                _camera(key): tuple(v.shape[1:3])
                for key, v in first["obs"].items()
                if v.ndim == 4 and v.dtype == np.uint8
            },
            control_hz=rate,
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
        used = {*self._keys, *(f"{n}_image" for n in self.spec.cameras)}
        if left := sorted(set(first["obs"]) - used):
            self._report.note(f"not taken over: obs/{', obs/'.join(left)}")

    def conventions(self) -> list[Convention]:
        return []  # nothing can be tried without the robot

    def read(self, number: int) -> Episode:
        """The demonstration of `names()[number]`. Raises BadEpisode naming the field."""
        demo = self._data[self._demos[number]]
        actions = _array(demo, "actions", np.float32)
        whole = "next_obs" in demo
        states = np.concatenate([self._field(demo, key, whole) for key in self._keys], 1)
        images = {
            name: self._field(demo, f"{name}_image", whole, np.uint8) for name in self.spec.cameras
        }
        actions = actions if whole else actions[:-1]
        _require(self.spec, states, images, actions)
        if self._ours:
            return self._own(demo, states, images, actions)
        rewards = _array(demo, "rewards", np.float32) if "rewards" in demo else None
        success = None if rewards is None else bool((rewards >= 1).any())
        return Episode(
            states=states,
            images=images,
            stamps=np.arange(len(states)) / self.spec.control_hz,
            actions=actions,
            task=str(self.env.get("env_name", "")),
            success=success,
            terminated=bool(success),
            source="demo",
            seed=number,
            spec=self.spec,
        )

    def _field(self, demo: h5py.Group, key: str, whole: bool, dtype=np.float32) -> np.ndarray:
        """An observation with, if there is one, that after the last action."""
        rows = _array(demo, f"obs/{key}", dtype)
        if whole:
            rows = np.concatenate([rows, _array(demo, f"next_obs/{key}", dtype, last=True)])
        return rows[:, QUATERNION] if key.endswith("quat") and rows.shape[1:] == (4,) else rows

    def _own(self, demo: h5py.Group, states, images, actions) -> Episode:
        about = json.loads(demo.attrs[OURS])
        points = demo.get("keypoints", {})
        return Episode(
            states=states,
            images=images,
            stamps=_array(demo, "stamps", np.float64),
            actions=actions,
            keypoints={name: _array(demo, f"keypoints/{name}", np.float32) for name in points},
            truth=_array(demo, "truth", np.float32) if "truth" in demo else None,
            spec=self.spec,
            **about,
        )


def _camera(key: str) -> str:
    return key.removesuffix("_image")


def _array(demo: h5py.Group, key: str, dtype: type, last: bool = False) -> np.ndarray:
    if key not in demo:
        raise BadEpisode(key, "is missing")
    try:
        return (demo[key][-1:] if last else demo[key][:]).astype(dtype)
    except OSError as error:
        raise BadEpisode(key, f"is damaged ({error})") from None


def _require(spec: RobotSpec, states: np.ndarray, images: dict, actions: np.ndarray) -> None:
    for name, array in (("states", states), ("actions", actions)):
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise BadEpisode(name, f"{array[row, column]} in row {row}, dimension {column}")
    wanted = {f"images.{n}": (len(states), *size, 3) for n, size in spec.cameras.items()}
    for name, frames in images.items():
        if frames.shape != wanted[f"images.{name}"]:
            raise BadEpisode(
                f"images.{name}", f"shape {frames.shape}, expected {wanted[f'images.{name}']}"
            )
    if len(actions) + 1 != len(states):
        raise BadEpisode("actions", f"{len(actions)} of {len(states)} observations")


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    """A file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with h5py.File(partial, "w") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def export(episodes: Iterable[Episode], spec: RobotSpec, path: Path, report: Report) -> None:
    """Write all episodes into one file; everything that robomimic has no place for is in
    attributes and data sets of ours beside its own."""
    total = 0
    with _new_file(path) as file:
        data = file.create_group("data")
        for number, episode in enumerate(episodes):
            _write(data.create_group(f"demo_{number}"), episode)
            total += len(episode)
            report.episodes += 1
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps(
            {
                "env_name": spec.robot,
                "type": 2,  # robomimic's number of gym environments; it has none for robots
                "env_kwargs": {"control_freq": spec.control_hz},
            }
        )
        data.attrs[OURS] = spec.to_json()


def _write(demo: h5py.Group, episode: Episode) -> None:
    steps = len(episode)
    demo.attrs["num_samples"] = steps
    demo.attrs[OURS] = json.dumps({name: getattr(episode, name) for name in TOLD})
    demo["actions"] = episode.actions
    last = np.arange(steps) == steps - 1
    demo["rewards"] = (last & bool(episode.success)).astype(np.float32)
    demo["dones"] = (last & episode.terminated).astype(np.int64)
    fields = {"state": episode.states}
    fields |= {f"{name}_image": frames for name, frames in episode.images.items()}
    for name, rows in fields.items():
        packed = dict(chunks=(1, *rows.shape[1:]), compression="gzip", compression_opts=1)
        kind = packed if rows.ndim == 4 else {}
        demo.create_dataset(f"obs/{name}", data=rows[:-1], **kind)
        demo.create_dataset(f"next_obs/{name}", data=rows[1:], **kind)
    demo["stamps"] = episode.stamps
    for name, points in episode.keypoints.items():
        demo[f"keypoints/{name}"] = points
    if episode.truth is not None:
        demo["truth"] = episode.truth
