"""Cameras of a robot: what a policy looks at, small and at once, and what is recorded, full size.

    python -m robostack.real.nodes.camera_node --ros-args -p robot:=configs/robot/so101.yaml
    python -m robostack.real.nodes.camera_node --ros-args -p robot:=configs/robot/so101.yaml \\
        -p camera:=wrist -p source:=/dev/video2 -p hz:=30.0

For every camera of the configuration that has a `source` (0, /dev/video0, a video, a folder of
pictures), or the one named by `camera`: its topic at the size of the configuration, and the full
picture as JPEG on TOPIC/compressed while somebody listens. Stamps are of when the picture was
taken. A camera that is lost is opened again once a second; one that freezes, too.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from robostack.real.cameras import CameraError, Frame, Lost, Source, Stillness, fit, open_source
from robostack.real.messages import write_compressed, write_image
from robostack.real.nodes.node import PUBLISH, Diagnostics, Spin, now, parameter, run
from robostack.real.paths import find
from robostack.real.robot import Camera, RobotConfig

RETRY = 1.0  # [s] between two tries to open a lost camera
FROZEN = 2.0  # [s] of the very same picture, after which a camera is opened anew


class Capture:
    """One camera: a thread that reads and publishes, and goes on when the camera was lost."""

    def __init__(self, node: Node, name: str, camera: Camera, source: str, hz: float, quality: int):
        self.name, self.pictures, self.state = name, 0, "opening"
        self._node, self._camera, self._hz, self._quality = node, camera, hz, quality
        self._where = source
        raw = "" if camera.compressed else camera.topic
        coded = camera.topic if camera.compressed else f"{camera.topic}/compressed"
        self._small = node.create_publisher(Image, raw, PUBLISH) if raw else None
        self._full = node.create_publisher(CompressedImage, coded, PUBLISH)
        self._source: Source | None = open_source(source, hz)  # raises before anything else starts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"camera {name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        log = self._node.get_logger()
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                self._source = self._source or open_source(self._where, self._hz)
                if self.state.startswith("lost"):
                    log.info(f"{self.name}: back")
                self._read(self._source)
                return  # a file came to its end
            except CameraError as error:
                if not self.state.startswith("lost"):
                    log.error(f"{self.name}: {error}; trying again every {RETRY:g} s")
                self.state = f"lost: {error}"
            except Exception as error:  # whatever it is, a camera that is silent must say so
                log.error(f"{self.name}: {type(error).__name__}: {error}")
                self.state = f"lost: {error}"
            self._release()
            self._stop.wait(max(0.0, RETRY - (time.monotonic() - begin)))

    def _read(self, source: Source) -> None:
        """Until it is lost, ends or shall stop."""
        watch = Stillness(FROZEN if source.live else 0.0)
        while not self._stop.is_set():
            try:
                frame = source.read()
            except StopIteration:
                self.state = "ended"
                return
            self.state = "ok"
            self._publish(frame)
            if still := watch.see(frame.image, time.monotonic()):
                raise Lost(f"frozen: the very same picture for {still:.1f} s")

    def _publish(self, frame: Frame) -> None:
        stamp, optical = now(self._node) - frame.age, f"{self.name}_optical_frame"
        if self._small is not None:
            small = fit(frame.image, self._camera.size)
            self._small.publish(write_image(Image(), small, stamp, optical))
        if self._full.get_subscription_count():
            message = CompressedImage()
            write_compressed(message, frame.image, stamp, optical, self._quality)
            self._full.publish(message)
        self.pictures += 1

    def _release(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(2.0)
        self._release()


class CameraNode(Node):
    """Parameters: `robot`, `camera`, `source`, `hz`, `quality`."""

    def __init__(self, context: Context, **options):
        super().__init__("camera", context=context, **options)
        path = parameter(self, "robot", "", "the robot's configuration (YAML)", needed=True)
        only = parameter(self, "camera", "", "this one alone")
        source = parameter(self, "source", "", "what to open, in place of the configuration's")
        hz = parameter(self, "hz", 0.0, "pictures a second; 0: the camera's or file's own")
        quality = parameter(self, "quality", 90, "of the JPEG, 1 to 100")
        cameras = chosen(RobotConfig.load(find(path)), only, source)
        self._captures: list[Capture] = []
        try:
            for name, camera in cameras.items():
                where = source or camera.source
                self._captures.append(Capture(self, name, camera, where, hz, quality))
        except CameraError as error:
            self.close()
            raise ValueError(f"camera {name}: {error}") from None
        self._seen, self._asked = 0, time.monotonic()
        self.diagnostics = Diagnostics(self, self._report)
        self._spin = Spin(self)

    def _report(self) -> tuple[bytes, str, dict]:
        states = {capture.name: capture.state for capture in self._captures}
        total, at = sum(c.pictures for c in self._captures), time.monotonic()
        rate = (total - self._seen) / max(1e-3, at - self._asked) / len(self._captures)
        self._seen, self._asked = total, at
        bad = {name: state for name, state in states.items() if state.startswith("lost")}
        level = self.diagnostics.ERROR if bad else self.diagnostics.OK
        message = "; ".join(f"{name} {state}" for name, state in (bad or states).items())
        return level, message, {"hz": rate, "pictures": total, **states}

    def close(self) -> None:
        for capture in self._captures:
            capture.close()
        if hasattr(self, "_spin"):
            self._spin.close()
        self.destroy_node()


def chosen(config: RobotConfig, only: str = "", source: str = "") -> dict[str, Camera]:
    """The cameras to be served. Raises ValueError where there are none."""
    if only and only not in config.cameras:
        raise ValueError(f"camera {only!r}: there are {', '.join(config.cameras) or 'none'}")
    if source and not only and len(config.cameras) != 1:
        raise ValueError(f"source {source!r}: of which camera? give -p camera:=NAME, too")
    found = {
        name: camera
        for name, camera in config.cameras.items()
        if (not only or name == only) and (source or camera.source)
    }
    if not found:
        what = f"camera {only}" if only else f"no camera of {config.robot}"
        raise ValueError(
            f"{what} {'has no' if only else 'has a'} `source` in the configuration; give one "
            "there, or -p camera:=NAME -p source:=/dev/video0"
        )
    return found


def main(args: Sequence[str] | None = None) -> int:
    return run(__doc__, CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
