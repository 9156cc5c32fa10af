"""Packaging: `robostack.sim` lives in `sim/`, `robostack.real` in `real/`."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

if not (HERE / "sim").is_dir():  # colcon has linked to the packages that it understands
    sys.exit(
        "robostack cannot be built with --symlink-install, which does not map the folder sim/ to "
        "robostack.sim; build without it, or use pip install -e"
    )


def mapped(folder: str, name: str) -> list[str]:
    return [name, *(f"{name}.{package}" for package in find_packages(folder))]


def shared() -> list[tuple[str, list[str]]]:
    """What ROS 2 and an installation without a checkout read: share/robostack, and the ament index
    that makes it a package of ROS."""
    found = {
        "share/ament_index/resource_index/packages": ["resource/robostack"],
        "share/robostack": ["package.xml"],
    }
    files = [*HERE.glob("launch/*.launch.py"), *HERE.glob("configs/**/*")]
    for path in sorted(path.relative_to(HERE) for path in files if path.is_file()):
        found.setdefault(f"share/robostack/{path.parent.as_posix()}", []).append(path.as_posix())
    return sorted(found.items())


NODES = sorted(path.stem for path in HERE.glob("real/nodes/*_node.py"))  # of `ros2 run robostack`
HOMES = {"sim_robot_node": "robostack.simulated_robot"}  # which hands it a simulation

version = next(
    line.split('"')[1]
    for line in (HERE / "robostack" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

VLM = ["transformers>=5.23", "peft>=0.17"]  # pretrained backbones
SERVE = ["websockets>=14", "msgpack>=1.0.5", "pillow>=9"]  # the policy server and its client
DATA = ["pyarrow>=15,<26", "av>=12", "h5py>=3.10", "rosbags>=0.11,<1"]  # other people's formats
RERUN = ["rerun-sdk>=0.22,<0.23"]  # later ones want numpy 2
TELEOP = [  # gamepads, SpaceMouse, keys and pads of the kernel, the page
    *("pygame-ce>=2.5", "pyspacemouse>=2.1", "websockets>=14"),
    "evdev>=1.6; sys_platform == 'linux'",
]
ROS = [  # where there is no ROS 2 installation; x86_64 only
    f"ros-jazzy-{package}"
    for package in (
        "rclpy",
        "rmw-fastrtps-cpp",
        "sensor-msgs",
        "trajectory-msgs",
        "geometry-msgs",
        "diagnostic-msgs",
        "std-msgs",
        "std-srvs",
    )
]

setup(
    name="robostack",
    version=version,
    description="Post-train vision-language-action policies with learned rewards",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["robostack", "robostack.*"])
    + mapped("sim", "robostack.sim")
    + mapped("real", "robostack.real"),
    package_dir={"robostack.sim": "sim", "robostack.real": "real"},
    package_data={"robostack": ["*.html"]},
    data_files=shared(),
    install_requires=[
        "torch>=2.7",
        "numpy>=1.26,<2",
        "zarr>=3.0,<4",
        "numcodecs>=0.14",
        "google-crc32c>=1.5",
        "safetensors>=0.4",
        "diffusers>=0.30",
        "opencv-python>=4.8,<5",
        "pyyaml>=6",
        "tqdm>=4.60",
        "rich>=13",
        "numba>=0.59",
        "mujoco>=3.3,<3.4",
        "robosuite==1.5.2",
        "fast-simplification>=0.1.9",
        "matplotlib>=3.7",
        "scipy>=1.10",
        "accelerate>=1.0",
        "tokenizers>=0.20",
        "huggingface-hub>=0.30",
    ],
    extras_require={
        "test": [
            *("pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "build>=1", "openpi-client>=0.1.1"),
            *(*VLM, *SERVE, *DATA, *RERUN, "pygame-ce>=2.5", "mcap>=1.2"),
        ],
        "vlm": VLM,
        "serve": SERVE,
        "metaworld": ["metaworld==3.0.0", "packaging"],
        "data": DATA,
        "rerun": RERUN,
        "teleop": TELEOP,
        "ray": ["ray>=2.40"],
        "tensorboard": ["tensorboard>=2.16"],
        "ros": [*ROS, "rosbags>=0.11,<1"],
    },
    entry_points={
        "console_scripts": [
            "robostack=robostack.cli:main",
            *(f"{node}={HOMES.get(node, f'robostack.real.nodes.{node}')}:main" for node in NODES),
        ]
    },
)
