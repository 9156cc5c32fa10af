"""`robostack teleop`: the robot, the device, the session, the page and the terminal together."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from robostack.collecting.loop import Collector, LoopConfig
from robostack.collecting.page import Page, PageConfig
from robostack.collecting.screen import Screen, terminal_words
from robostack.collecting.session import Session
from robostack.collecting.shelves import Shelves
from robostack.collecting.view import View
from robostack.collecting.window import Window
from robostack.collecting.words import SessionConfig
from robostack.config import read, to_dict
from robostack.curating import second_opinion
from robostack.data.holding import LOCK, Hold
from robostack.learn.run import write_json
from robostack.protocols import Env
from robostack.real.paths import find
from robostack.real.robot import RobotConfig
from robostack.real.teleop.calibrate import MOTIONS
from robostack.real.teleop.device import KINDS, MESSAGES, SCRIPTED, Poll, TeleopDevice, open_device
from robostack.real.teleop.driver import Driver
from robostack.real.teleop.mapping import Mapping, of_actions, read_mapping
from robostack.real.teleop.scripted import Scripted
from robostack.rewards.keypoints.camera import CALIBRATION, write_cameras
from robostack.sim.env import EnvConfig, ScriptedExpert
from robostack.worlds import make_env

ENDLESS = 1_000_000  # control steps: people need longer than experts, `max_s` ends a recording


@dataclass(frozen=True)
class TeleopConfig(SessionConfig, LoopConfig):
    """Which robot, driven with what."""

    env: EnvConfig = field(default_factory=EnvConfig)  # env.real=FILE: a robot over ROS 2
    device: str = "browser"  # or keyboard, gamepad, evdev, spacemouse; with env.real joy, pose and
    # leader, which topics bring; scripted: the task's expert
    mapping: str = ""  # a file, or one of configs/teleop by name; "": the device's
    path: str = ""  # which one of several devices: a gamepad's name, a file below /dev/input
    noise: float = 0.0  # of the expert's motions, device=scripted
    view: int = 320  # side [px] of the pictures on the page, in simulation; 0: as recorded
    window: bool = False  # MuJoCo's own, of a simulation, where there is a display
    page: PageConfig = field(default_factory=PageConfig)

    def __post_init__(self) -> None:
        SessionConfig.__post_init__(self)
        LoopConfig.__post_init__(self)


def settings(out: Path, file: Path | None, overrides: list[str]) -> TeleopConfig:
    """The configuration of a session: what is given, over what an earlier session into the same
    folder was given."""
    before = out / "session.json"
    return read(TeleopConfig, file or (before if before.is_file() else None), overrides)


def collect(config: TeleopConfig, out: Path) -> dict:
    """One session into the folder `out`; returns what there is then. Raises StoreError where
    another process writes it."""
    given = _mapping(config)
    second = second_opinion([config.detector] if config.detector else [], config.threshold)
    if (out / LOCK).exists():
        Hold(
            out
        ).release()  # raises StoreError where another process is at it, before anything moves
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        print("opening the robot", file=sys.stderr, flush=True)
        horizon = config.env.horizon or ENDLESS
        env = make_env(replace(config.env, horizon=horizon))
        stack.callback(env.close)
        if config.env.real:
            env.asks = False  # whoever is at the page says when the scene is ready
        mapping = given or _of_expert(env)
        driver = Driver(mapping, env.spec)
        page = Page(config.page, about(mapping, env)) if config.page.on else None
        if page is not None:
            stack.callback(page.close)
        window = Window(env) if config.window else None
        if window is not None:
            stack.callback(window.close)
        device = _device(config, mapping, env, page)
        stack.callback(device.close)
        shelves = Shelves(out, env.spec)
        stack.callback(shelves.close)
        session = Session(config, shelves, time.monotonic(), second)
        write_json(out / "session.json", to_dict(config))
        _calibrate(env, config, out / "store" / CALIBRATION)
        collector = Collector(env, driver, device, session, config, stop=stop)
        stop.at_once = lambda: collector.waits
        _watch(collector, mapping, page, window, out, stack)
        return summary(shelves, out)


def _watch(
    collector: Collector,
    mapping: Mapping,
    page: Page | None,
    window: Window | None,
    out: Path,
    stack: contextlib.ExitStack,
) -> None:
    """Run the session, shown on the page, in the window and on the terminal."""
    keyboard, view = read_mapping("keyboard"), View(collector.env, collector.config.view)
    words = None if mapping.device == "keyboard" else terminal_words(keyboard)
    if words is not None:
        stack.callback(words.close)
    keys = mapping.session if mapping.device == "keyboard" else keyboard.session if words else {}
    where = page.address if page is not None else str(out)
    screen = stack.enter_context(Screen(where, keys, legend(mapping)))

    def said() -> list:
        found = words.said(time.monotonic()) if words is not None else []
        return found + (page.said() if page is not None else [])

    def show(collector: Collector) -> None:
        now = time.monotonic()
        if page is not None:
            page.show(collector.status, lambda: view.pictures(collector.pictures))
        if window is not None:
            window.show()
        if screen.due(now):
            screen.show(collector.status(), now)

    collector.said = said
    try:
        collector.run(show)
    finally:
        if collector.left:
            print(collector.left, file=sys.stderr)
    if page is not None:
        time.sleep(0.3)  # for the pages to hear that it is over
    if collector.stop():
        raise KeyboardInterrupt


def summary(shelves: Shelves, out: Path) -> dict:
    kept = [shelves.store.attributes(i) for i in shelves.store.ids()]
    return {
        "kept": len(kept),
        "successes": sum(bool(each["success"]) for each in kept),
        "undecided": len(shelves.pending),
        "trash": len(shelves.trash),
        "store": str(out / "store"),
    }


def _mapping(config: TeleopConfig) -> Mapping | None:
    """What the device's keys mean; None for the scripted expert, whose actions are the robot's."""
    if config.device == SCRIPTED:
        if config.mapping:
            raise ValueError(f"mapping={config.mapping}: device=scripted has its own")
        return None
    if config.device not in (*KINDS, *MESSAGES):
        known, others = ", ".join((*KINDS, SCRIPTED)), ", ".join(MESSAGES)
        raise ValueError(
            f"device={config.device}: expected one of {known}; with env.real one of {others}, too"
        )
    mapping = read_mapping(config.mapping or config.device)
    if config.device in MESSAGES and not config.env.real:
        raise ValueError(
            f"device={config.device} comes from ROS topics, to robots; give env.real=FILE, too"
        )
    if config.device == "browser" and not config.page.on:
        raise ValueError("device=browser needs the page; leave page.on=false out")
    return replace(mapping, device=config.device) if config.mapping else mapping


def _of_expert(env: Env) -> Mapping:
    env.plan()  # raises ValueError where there is no expert
    return of_actions(env.spec)


def _device(config: TeleopConfig, mapping: Mapping, env: Env, page: Page | None) -> TeleopDevice:
    if mapping.device == SCRIPTED:
        return Scripted(lambda: script(env, config.noise))
    if mapping.device == "browser":
        return page.input
    if mapping.device in MESSAGES:
        from robostack.real.nodes.controls import Controls  # rclpy, only where it is asked for

        silent = RobotConfig.load(find(config.env.real)).timeouts.device
        return Controls(mapping, silent, config.env.namespace)
    return open_device(mapping.device, mapping.hold, config.path)


def script(env: Env, noise: float) -> Iterator[Poll]:
    """The task's scripted expert as if it were a person at a device, see `of_actions`."""
    expert = ScriptedExpert(env, noise)
    names, low, high = env.spec.action_names, env.spec.action_low, env.spec.action_high
    closes = Driver(of_actions(env.spec), env.spec).fingers
    while True:
        (action,) = expert.act(None)
        span = np.where(action > 0, high, np.negative(low))
        command = dict(zip(names, (action / span).tolist()))
        if "gripper" in command:
            command["gripper"] = float(action[-1] - closes[1]) / (closes[0] - closes[1])
        yield Poll(command, frozenset(), True)


def about(mapping: Mapping, env: Env) -> dict:
    """What a page is told once."""
    used = {n.split("_", 1)[-1] if "_" in n else n for n in env.spec.action_names}
    others = {"fingers": mapping.gripper and (mapping.gripper.toggle or mapping.gripper.close)}
    others |= {"slower": mapping.slower, "faster": mapping.faster}
    others |= {"hold to drive": mapping.deadman, "clutch": mapping.clutch}
    return {
        "cameras": sorted(env.spec.cameras),
        "drives": mapping.device == "browser",
        "motions": {n: to_dict(m) for n, m in mapping.motions.items() if n in used},
        "others": others,
        "session": mapping.session,
        "buttons": sorted(mapping.buttons()),
    }


def legend(mapping: Mapping) -> str:
    """What the hands' keys do, in a line."""
    if mapping.device == "browser":
        return "drive on the page"
    parts = [f"hold {mapping.deadman} to drive"] if mapping.deadman else []
    for name, motion in mapping.motions.items():
        ways = "/".join(MOTIONS.get(name, (f"{name} +", "-")))
        parts.append(f"{ways} {motion.axis or f'{motion.plus}/{motion.minus}'}")
    if gripper := mapping.gripper:
        parts.append(f"fingers {gripper.toggle or gripper.close or gripper.axis}")
    parts += [f"slower/faster {mapping.slower}/{mapping.faster}"] if mapping.slower else []
    return "  ".join(parts)


def _calibrate(env: Env, config: TeleopConfig, path: Path) -> None:
    """Where the cameras stand, as `robostack collect` writes it, for rewards that need it."""
    renderer = getattr(env, "renderer", None)
    if renderer is None or config.env.perturb.get("camera"):
        return
    env.reset(config.first_seed)
    fixed = [name for name in renderer.cameras if renderer.is_fixed(name)]
    if fixed:
        write_cameras(path, {name: renderer.calibration(name) for name in fixed})


class Stop:
    """Whether somebody asked the process to stop: Ctrl-C, a closed terminal, `kill`. What is being
    written is finished first; where nothing is (`at_once`), and a second time, nothing is waited
    for: KeyboardInterrupt."""

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self):
        self.asked = False
        self.at_once: Callable[[], bool] = lambda: True

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._hear) for number in self.numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number, frame) -> None:
        if self.asked or self.at_once():
            raise KeyboardInterrupt
        self.asked = True
