"""An arm node in a process of its own, who commands it, a simulated robot, and what the node tells
of what it did: what tests of faults are about."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from arms import Sliding, excess, served
from wired import Wire, until

from robostack.real.arm import HOLD, STOP
from robostack.real.nodes.node import connect
from robostack.real.nodes.sim_robot_node import SimRobotNode
from robostack.real.robot import Timeouts

HZ, REST = 50.0, 0.15
TALKER = Path(__file__).parent / "talking.py"
ROBOT = served(HZ, timeouts=Timeouts(state=0.3, alive=0.1, deadman=0.1, chunk=2.0))
ROBOT.actions.update(  # messages of a loaded machine are late, and an arm that lags is stopped
    {n: dataclasses.replace(ROBOT.actions[n], max_error=2.0) for n in ("a", "b")}
)


def process(*command, domain):
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    return subprocess.Popen([sys.executable, *map(str, command)], env=environment)


class Scene:
    """An arm node and a talker in processes, a simulated robot and the recorder here."""

    def __init__(self, folder, domain, parameters=(), more=None):
        self.file, self.domain = folder / "robot.yaml", domain
        self.file.write_text(yaml.safe_dump(plain(ROBOT) | (more or {})))
        self.context = connect(domain_id=domain)
        self.robot = SimRobotNode(self.context, ROBOT, lambda: Sliding(ROBOT))
        self.wire = Wire(self.context, ROBOT)
        given = [f"robot:={self.file}", *parameters]
        ros = ["--ros-args", *(word for p in given for word in ("-p", p))]
        self.arm = process("-m", "robostack.real.nodes.arm_node", *ros, domain=domain)
        self.talkers = []
        until(lambda: self.wire.chunks["chunk"].get_subscription_count(), 120)
        until(lambda: self.wire.executed, 120)  # the record begins at rest

    def talk(self, who):
        self.talkers.append(process(TALKER, self.file, who, domain=self.domain))
        return self.talkers[-1]

    def moving(self, source):
        """Waits until somebody moves the arm; -> records so far."""
        self.until(lambda: len(self.executed) > 2 and self.source == source and self.speed > 0.2)
        return len(self.executed)

    def until(self, condition, timeout=60.0):
        until(condition, timeout, lambda: f"{self.executed[-3:]}, {self.arm.poll()}")

    @property
    def executed(self):
        return self.wire.executed

    @property
    def source(self):
        return self.executed[-1][1]

    @property
    def speed(self):
        return np.abs(self.executed[-1][2] - self.executed[-2][2])[:2].max() * HZ

    def rests(self, since, source=HOLD, limit=None):
        """Waits for a rest after record `since`, and measures it in ticks of the arm."""
        self.until(lambda: self.source == source and len(self.executed) > since + 10)
        self.until(lambda: self.speed < 1e-6)
        path = np.array([action for _, _, action in self.executed[since - 1 :]])
        sources = np.array([source for _, source, _ in self.executed[since:]])
        moved = np.flatnonzero((sources != HOLD) & (sources != STOP))
        held = int(moved[-1]) + 1 if len(moved) else 0  # of a busy machine the last hold counts
        still = np.abs(np.diff(path, axis=0))[:, :2].max(1) < 1e-9
        rested = next(i for i in range(held, len(still)) if still[i:].all())
        assert rested - held <= REST * HZ + 1, f"{rested - held} ticks to rest"
        if limit is not None:
            assert held <= limit * HZ + 2, f"{held} ticks until it was noticed"

    def legal(self):
        record = np.array([action for _, _, action in self.executed])
        worst = excess(ROBOT, record)
        assert max(worst.values()) <= 1e-9, {k: v for k, v in worst.items() if v > 1e-9}
        return len(record)

    def quiet(self):
        """Ends all talkers, and waits for a rest."""
        for talker in self.talkers:
            talker.kill()
            talker.wait()
        self.talkers.clear()
        self.wire.repeated.clear()
        self.until(lambda: self.source in (HOLD, STOP) and self.speed < 1e-9)

    def close(self):
        for one in (*self.talkers, self.arm):
            one.send_signal(signal.SIGCONT)
            one.terminate()
            one.wait(20)
        self.wire.close()
        self.robot.close()
        self.context.try_shutdown()


def plain(robot):
    """A robot as its file has it."""
    without = ("camera_limits", "state_limits")
    raw = {k: v for k, v in dataclasses.asdict(robot).items() if k not in without}
    return yaml.safe_load(yaml.safe_dump(listed(raw)))


def listed(value):
    if isinstance(value, dict):
        return {k: listed(v) for k, v in value.items()}
    return [listed(v) for v in value] if isinstance(value, tuple) else value
