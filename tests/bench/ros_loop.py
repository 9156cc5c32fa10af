"""The whole ROS loop with pictures of a real size: what is lost, how late it is, how steady.

    python tests/bench/ros_loop.py            # a minute with each transport
    python tests/bench/ros_loop.py --quick    # about 20 s in all

Four processes: three cameras of 640 x 480 at 30 Hz; a policy that answers every look at once with
the next second's actions; the arm node with its limits, 100 commands a second; a robot that says
where it is and takes the commands. First with robostack's Fast DDS profile, then with the default
transport, everything else the same. Prints one JSON object as its last line, for either:

image_loss          share of the pictures, `images`, that did not reach the policy
latency_ms_median   from the picture's stamp to the policy's callback, and latency_ms_p99
chunk_latency_ms    from the stamp of the pictures to their chunk at the robot's side, median
command_latency_ms  from the arm node's tick to the robot, median, of so many `commands`
jitter_p99_ms       of the arm node's period of 10 ms
underruns           times that the arm had nothing to do, once it had begun
cpu_share           of all cores, all four processes together
load                of the machine (1 minute) at the end
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

SIZE = (480, 640)
CAMERAS = ("left", "right", "wrist")
JOINTS = tuple(f"joint{i}" for i in range(1, 8))
HZ, COMMAND_HZ, CAMERA_HZ = 20.0, 100.0, 30.0
HORIZON = 20  # rows of a chunk
START = 120.0  # [s] for four interpreters to start; the first time, the arm node compiles
WARM = 4.0  # [s] for discovery, before anything is counted
PLAIN = """<?xml version="1.0"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <participant profile_name="plain" is_default_profile="true"><rtps/></participant>
</profiles>"""  # as good as none; without one, robostack would set its own
ROBOT = {
    "robot": "bench",
    "control_hz": HZ,
    "command_hz": COMMAND_HZ,
    "state": {name: f"joint_states:position/{name}" for name in JOINTS},
    "cameras": {n: {"topic": f"{n}/image_raw", "size": list(SIZE)} for n in CAMERAS},
    "actions": {
        name: dict(low=-3, high=3, state=name, max_error=6, velocity=2, acceleration=9, jerk=90)
        for name in JOINTS
    },
    "arms": {"arm": {"backend": "joint", "actions": list(JOINTS)}},
    "enabled": True,
    "timeouts": {"state": 1.0, "alive": 1.0},
    "camera_limits": {"max_age": 2.0, "max_skew": 1.0, "frozen": 0},
    "state_limits": {"max_age": 2.0, "max_skew": 1.0},
}


def robot():
    from robostack.config import build
    from robostack.real.robot import RobotConfig

    return build(RobotConfig, ROBOT)


def wave(now: float) -> np.ndarray:
    """Where the joints are to be at times [s] f64[n]: slow sines, f64[n, 7]."""
    return 0.3 * np.sin(0.5 * np.asarray(now)[:, None] + np.arange(len(JOINTS)))


def cameras(stop, begin, ready) -> dict:
    """Publishes as camera_node does; what is before `begin` does not count."""
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    from robostack.real.messages import write_image
    from robostack.real.nodes.node import PUBLISH, connect
    from robostack.real.nodes.ticking import Pace

    context = connect()
    node = Node("cameras", context=context)
    publishers = [node.create_publisher(Image, f"{name}/image_raw", PUBLISH) for name in CAMERAS]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(8)]
    pace, sent, k = Pace(CAMERA_HZ), 0, 0
    ready.release()
    while pace.wait(stop):
        stamp = time.time()
        for publisher in publishers:
            publisher.publish(write_image(Image(), images[k % len(images)], stamp))
        k += 1
        sent += len(publishers) * (stamp >= begin.value)
    time.sleep(0.5)  # the last ones are on their way
    context.try_shutdown()
    return {"sent": sent}


class Sine:
    """A policy that takes no time."""

    def plan(self, observation, previous, delay):
        return wave(observation.stamp + np.arange(HORIZON) / HZ).astype(np.float32)


def policy(stop, begin, ready) -> dict:
    """Listens, plans and commands as policy_node does."""
    from rclpy.node import Node

    from robostack.policy.realtime import AsyncRunner
    from robostack.real.nodes.commanding import Commander
    from robostack.real.nodes.listening import Listener
    from robostack.real.nodes.node import connect
    from robostack.real.nodes.ticking import Pace
    from robostack.real.streams import StreamError

    context = connect()
    node, latencies = Node("policy", context=context), []
    listener = Listener(node, robot())
    senses = listener._senses
    hear = senses.hear

    def timed(topic, message, now, heard):
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        if topic.endswith("image_raw") and stamp >= begin.value:
            latencies.append(now - stamp)
        hear(topic, message, now, heard)

    senses.hear = timed
    commander = Commander(node, robot().spec)
    tell = lambda stamp, chunk: commander.send(chunk, stamp)  # noqa: E731
    runner = AsyncRunner(Sine(), robot().spec, 2, clock=time.time, tell=tell)
    pace = Pace(100.0)
    ready.release()
    while pace.wait(stop):
        if runner.wants(time.time()):
            try:
                runner.offer(listener.observe("wave"))
                commander.stand(True)
            except StreamError:
                continue
    time.sleep(0.3)
    runner.close()
    commander.close()
    listener.close()
    context.try_shutdown()
    median, p99 = 1e3 * np.quantile(latencies or [np.nan], [0.5, 0.99])
    return {"received": len(latencies), "latency": (median, p99)}


def arm(stop, begin, ready) -> dict:
    from robostack.real.nodes.arm_node import ArmNode
    from robostack.real.nodes.node import connect

    context = connect()
    node = ArmNode(context, robot())
    ready.release()
    while time.time() < begin.value and not stop.wait(0.05):
        pass
    before = node.arm.counts["underruns"]
    stop.wait()
    underruns = node.arm.counts["underruns"] - before
    node.close()
    context.try_shutdown()
    return {"underruns": underruns}


def body(stop, begin, ready) -> dict:
    """The robot: follows its commands perfectly, and notes when they come."""
    from rclpy.node import Node
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import JointTrajectory

    from robostack.real.messages import read_named, seconds, write_named
    from robostack.real.nodes.node import COMMAND, PUBLISH, Spin, connect
    from robostack.real.nodes.ticking import Pace

    context = connect()
    node = Node("body", context=context)
    stamps, commands, chunks = [], [], []
    at = wave(np.array([time.time()]))[0]

    def obey(message):
        nonlocal at
        stamp, now = seconds(message.header.stamp), time.time()
        at = read_named(message, JOINTS)
        if stamp >= begin.value:
            stamps.append(stamp)
            commands.append(now - stamp)

    def see(message):
        if (stamp := seconds(message.header.stamp)) >= begin.value:
            chunks.append(time.time() - stamp)

    node.create_subscription(JointState, "command/joint", obey, COMMAND)
    node.create_subscription(JointTrajectory, "chunk", see, COMMAND)
    publisher = node.create_publisher(JointState, "joint_states", PUBLISH)
    spin, pace = Spin(node), Pace(COMMAND_HZ)
    ready.release()
    while pace.wait(stop):
        publisher.publish(write_named(JointState(), JOINTS, at, time.time()))
    spin.close()
    context.try_shutdown()
    off = np.abs(np.diff(stamps) - 1 / COMMAND_HZ)
    return {
        "jitter_p99": 1e3 * np.quantile(off, 0.99) if len(off) else np.nan,
        "command": 1e3 * np.median(commands or [np.nan]),
        "chunk": 1e3 * np.median(chunks or [np.nan]),
        "commands": len(commands),
    }


def role(work, stop, begin, ready, answer) -> None:
    """One process; its CPU time counts from `begin` on, without imports and discovery."""
    before = []

    def note() -> None:
        while time.time() < begin.value:
            time.sleep(0.05)
        before.append(time.process_time())

    threading.Thread(target=note, daemon=True).start()
    told = work(stop, begin, ready)
    answer.put(told | {"cpu": time.process_time() - before[0]})


def measure(seconds: float, domain: int, profile: Path | None) -> dict:
    """All four processes for so long, with a profile file of Fast DDS or robostack's own."""
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    for name in names:
        os.environ.pop(name, None)
        if profile is not None:
            os.environ[name] = str(profile)
    os.environ |= {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    spawn = multiprocessing.get_context("spawn")
    stop, answer = spawn.Event(), spawn.Queue()
    begin, ready = spawn.Value("d", float("inf"), lock=False), spawn.Semaphore(0)
    processes = [
        spawn.Process(target=role, args=(work, stop, begin, ready, answer))
        for work in (body, arm, policy, cameras)
    ]
    for process in processes:
        process.start()
    if not all(ready.acquire(timeout=START) for _ in processes):
        raise RuntimeError(f"not every process was ready within {START:g} s")
    begin.value = time.time() + WARM
    time.sleep(WARM + seconds)
    stop.set()
    told = [answer.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(20)
    cpu = sum(part.pop("cpu") for part in told)
    found = {key: value for part in told for key, value in part.items()}
    return {
        "image_loss": round(max(0.0, 1 - found["received"] / max(1, found["sent"])), 4),
        "images": found["sent"],
        "latency_ms_median": round(found["latency"][0], 2),
        "latency_ms_p99": round(found["latency"][1], 2),
        "chunk_latency_ms": round(found["chunk"], 2),
        "command_latency_ms": round(found["command"], 2),
        "commands": found["commands"],
        "jitter_p99_ms": round(found["jitter_p99"], 2),
        "underruns": found["underruns"],
        "cpu_share": round(cpu / seconds / os.cpu_count(), 3),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="with each transport")
    parser.add_argument("--quick", action="store_true", help="3 s with each")
    parser.add_argument("--domain", type=int, default=86, help="ROS domains, this and the next")
    args = parser.parse_args()
    seconds = 3.0 if args.quick else args.seconds
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "default.xml"
        plain.write_text(PLAIN)
        found = {
            "ours": measure(seconds, args.domain, None),
            "default": measure(seconds, args.domain + 1, plain),
        }
    print(json.dumps(found | {"seconds": seconds, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
