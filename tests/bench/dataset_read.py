"""Random windows of a training set, in turns in one process: ours, zarr-python, HDF5, mp4, memmap.

    python tests/bench/dataset_read.py [--episodes 40] [--pixels 128] [--seconds 1] [--rounds 5]
        [--processes 1 2 4]

A window is two camera pictures, a state and 16 actions at a random step of a random episode.
Episodes are the scripted expert's on Lift, rendered. `ours` is robostack.data.reading.StoredChunks,
single picture by single picture from the store's files; `zarr_python` reads the very same files;
`hdf5` is robomimic's layout, uncompressed, a chunk a picture; `mp4` is a LeRobotDataset's H.264
with a key frame every second picture, containers kept open; `memmap` is raw bytes. All files are
in the page cache. Each number is the median of the rounds, in which all take turns. `loader` is
ours as training reads it, by so many processes that read ahead (robostack.data.reading.batches),
from when all of them deliver on. Prints one JSON object as its last line: windows a second, by the
clock and by the processor time of the process (of all its threads), which a busy machine spares.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow.parquet as pq
import zarr

from robostack.data.chunks import ChunkData
from robostack.data.interchange.exchange import send
from robostack.data.interchange.formats import ExportConfig
from robostack.data.reading import Reading, StoredChunks, batches
from robostack.data.store import Store
from robostack.rollout import rollout
from robostack.sim.env import EnvConfig, ScriptedExpert, make_env

HORIZON, BATCH = 16, 64
Read = Callable[[int, int], dict[str, np.ndarray]]  # (episode, step) -> pictures by camera


def make_store(folder: Path, episodes: int, pixels: int) -> Store:
    env = make_env(EnvConfig(task="Lift", pixels=pixels))
    expert = ScriptedExpert(env, noise=0.1)
    store = Store.create(folder / "store", env.spec)
    for seed in range(episodes):
        store.append(rollout(env, expert, seed))
        print(f"\rrendered {seed + 1} of {episodes} episodes", end="", file=sys.stderr)
    print(file=sys.stderr)
    env.close()
    return store


def of_zarr(store: Store) -> Read:
    groups = [zarr.open_group(store.path / "episodes" / i, mode="r") for i in store.ids()]
    arrays = [{n: group[f"images.{n}"] for n in store.spec.cameras} for group in groups]
    return lambda episode, t: {name: array[t] for name, array in arrays[episode].items()}


def of_hdf5(store: Store, folder: Path) -> Read:
    with h5py.File(folder / "demo.hdf5", "w") as file:
        for number, (_, episode) in enumerate(store.episodes()):
            for name, frames in episode.images.items():
                chunks = (1, *frames.shape[1:])
                file.create_dataset(f"{number}/{name}", data=frames, chunks=chunks)
    file = h5py.File(folder / "demo.hdf5")
    sets = [{n: file[f"{i}/{n}"] for n in store.spec.cameras} for i in range(len(store))]
    return lambda episode, t: {name: found[t] for name, found in sets[episode].items()}


def of_memmap(store: Store, folder: Path) -> Read:
    maps = []
    for number, (_, episode) in enumerate(store.episodes()):
        maps.append({})
        for name, frames in episode.images.items():
            np.save(folder / f"{number}-{name}.npy", frames)
            maps[-1][name] = np.load(folder / f"{number}-{name}.npy", mmap_mode="r")
    return lambda episode, t: {name: np.array(found[t]) for name, found in maps[episode].items()}


def of_mp4(store: Store, folder: Path) -> Read:
    episodes = [episode for _, episode in store.episodes()]
    set_, hz = folder / "lerobot", store.spec.control_hz
    send(episodes, len(episodes), store.spec, set_, ExportConfig(least_psnr=0), lambda x, *_: x)
    rows = pq.read_table(set_ / "meta/episodes").to_pylist()
    files = {
        n: av.open(str(set_ / f"videos/observation.images.{n}/chunk-000/file-000.mp4"))
        for n in store.spec.cameras
    }

    def read(episode: int, t: int) -> dict[str, np.ndarray]:
        found = {}
        for name, container in files.items():
            start = rows[episode][f"videos/observation.images.{name}/from_timestamp"] + t / hz
            stream = container.streams.video[0]
            container.seek(int((start - 0.5 / hz) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time > start - 0.5 / hz:
                    found[name] = frame.to_ndarray(format="rgb24")
                    break
        return found

    return read


def batches_of(read: Read, memory: ChunkData, starts: np.ndarray) -> Callable:
    """Whole windows: pictures by `read`, states and actions from memory, as with ours."""
    names, episodes = list(memory.spec.cameras), memory.column("episode")

    def batch(rows: np.ndarray) -> dict[str, np.ndarray]:
        pictures = [read(e, r - starts[e]) for r, e in zip(rows.tolist(), episodes[rows].tolist())]
        images = {name: np.stack([p[name] for p in pictures]) for name in names}
        return images | {"state": memory.column("state")[rows], "chunk": memory.chunks(rows)[0]}

    return batch


def speed(
    batch: Callable, rows: np.ndarray, random: np.random.Generator, seconds: float
) -> np.ndarray:
    """Windows a second, and windows a second of processor time."""
    begin, worked, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < seconds or not count:
        batch(random.choice(rows, BATCH))
        count += BATCH
    return count / np.array([time.perf_counter() - begin, time.process_time() - worked])


def loader_speed(data: StoredChunks, processes: int, rounds: int, seconds: float) -> float:
    """Windows a second by the clock, the median of rounds without a pause between them."""

    def picks() -> Iterator[np.ndarray]:
        random, rows = np.random.default_rng(0), data.rows()
        while True:
            yield random.choice(rows, BATCH)

    reading = Reading("disk", processes)
    source, found = batches(data, picks(), reading), []
    for _ in range(2 * processes * reading.ahead):  # until all have begun
        next(source)
    for _ in range(rounds):
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds or not count:
            next(source)
            count += BATCH
        found.append(count / (time.perf_counter() - begin))
    source.close()
    return float(np.median(found))


def measure(folder: Path, args: argparse.Namespace) -> dict:
    store = make_store(folder, args.episodes, args.pixels)
    memory = ChunkData(store.spec, HORIZON, (e for _, e in store.episodes()))
    ours = StoredChunks(store.spec, HORIZON, [store.path])
    rows = memory.rows()
    starts = np.array([memory.row(i, 0) for i in range(len(store))])
    others = {
        "zarr_python": of_zarr(store),
        "hdf5": of_hdf5(store, folder),
        "mp4": of_mp4(store, folder),
        "memmap": of_memmap(store, folder),
    }
    ways = {"ours": ours.batch, **{n: batches_of(r, memory, starts) for n, r in others.items()}}
    require_same(ways, memory, rows)
    speeds = {name: [] for name in ways}
    for turn in range(args.rounds):
        for name, batch in ways.items():
            random = np.random.default_rng(turn)
            speeds[name].append(speed(batch, rows, random, args.seconds))
        print(f"\rround {turn + 1} of {args.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    told = {name: np.median(found, 0) for name, found in speeds.items()}
    loader = {n: loader_speed(ours, n, args.rounds, args.seconds) for n in args.processes}
    size = sum(p.stat().st_size for p in store.path.rglob("*") if p.is_file())
    raw = sum(frames.nbytes for _, e in store.episodes() for frames in e.images.values())
    return {
        **{f"{name}_per_s": round(wall) for name, (wall, _) in told.items()},
        **{f"{name}_per_cpu_s": round(cpu) for name, (_, cpu) in told.items()},
        "loader_per_s": {str(processes): round(wall) for processes, wall in loader.items()},
        "ours_over_mp4": round(told["ours"][0] / told["mp4"][0], 1),
        "windows": len(rows),
        "pixels": args.pixels,
        "compressed_to": round(size / raw, 2),
    }


def require_same(ways: dict[str, Callable], memory: ChunkData, rows: np.ndarray) -> None:
    """All read the same pictures, mp4 as well as its codec can."""
    pick = np.random.default_rng(0).choice(rows, BATCH)
    for name, batch in ways.items():
        found = batch(pick)
        for camera in memory.spec.cameras:
            got = (found if isinstance(found, dict) else found.images)[camera]
            off = np.abs(np.asarray(got).astype(int) - memory.pictures(camera, pick))
            assert off.mean() < (4 if name == "mp4" else 1e-9), (name, camera, off.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4], help="of the loader")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), parser.parse_args())))


if __name__ == "__main__":
    main()
