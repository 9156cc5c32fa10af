"""A run is a folder. It counts as finished once summary.json exists, which is written last.

run.json          verb, config, seed, code version, the command that made it
metrics.jsonl     one line a logged step
policy/           the result (robostack.policy.vla)
resume.*          what an interrupted run needs to go on; removed when finished
summary.json      results and seconds
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

import robostack

Existing = Literal["refuse", "replace", "reuse"]


class RunError(RuntimeError):
    """A run folder that may not be written, or that is not what was expected."""


class Run:
    """One stage's folder. An unfinished run of the same verb, config and seed is resumed.

    `existing` says what happens to a finished one: it is refused, replaced, or re-used, and then
    `done` holds its summary and nothing may be written.
    """

    def __init__(
        self,
        path: str | Path,
        verb: str,
        config: dict,
        seed: int = 0,
        existing: Existing = "refuse",
    ):
        self.path, self.verb = Path(path), verb
        self.started = time.monotonic()
        about = {"verb": verb, "config": config, "seed": seed}
        if self.path.exists() and existing == "replace":
            if not (self.path / "run.json").exists() and any(self.path.iterdir()):
                raise RunError(f"{self.path} is not a run; it is not replaced")
            shutil.rmtree(self.path)
        self.done = finished(self.path)
        if self.done is not None and existing == "refuse":
            raise RunError(f"{self.path} is a finished run; use --force to replace it")
        if (self.path / "run.json").exists():
            before = json.loads((self.path / "run.json").read_text())
            changed = _differences(before, json.loads(json.dumps(about)))
            if changed:
                raise RunError(
                    f"{self.path} was made with other settings: {'; '.join(changed)}. "
                    "Use the same ones, another --out, or --force to replace it"
                )
        elif self.path.exists() and any(self.path.iterdir()):
            raise RunError(f"{self.path} exists, is not empty and is not a run")
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            about |= {"command": sys.argv, "version": robostack.__version__, "git": _git()}
            write_json(self.path / "run.json", about)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line of metrics. Raises FloatingPointError if one is not a number."""
        for name, value in metrics.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise FloatingPointError(
                    f"{self.verb}: {name} became {value} at step {step}; nothing is saved from "
                    "here on. Lower the learning rate, or look for broken episodes in the data"
                )
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def steps(self, first: int, total: int, label: str) -> Iterator[int]:
        """`range(first, total)` behind a progress bar with the time left."""
        yield from progress(range(first, total), label, total, first)

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        summary = {**summary, "seconds": round(self.seconds(), 1)}
        for leftover in self.path.glob("resume.*"):
            leftover.unlink()
        write_json(self.path / "summary.json", summary)
        return summary

    def seconds(self) -> float:
        """Of work on this run, earlier interrupted sessions included."""
        state = self.path / "resume.json"
        before = json.loads(state.read_text())["seconds"] if state.is_file() else 0.0
        return before + time.monotonic() - self.started


def progress(items: Iterable, label: str, total: int, first: int = 0) -> Iterator:
    """A bar that names the stage and the time left; in a log file, a line every half minute."""
    terminal = sys.stderr.isatty()
    yield from tqdm(
        items,
        desc=label,
        total=total,
        initial=first,
        leave=False,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 30,
        maxinterval=10 if terminal else 60,
    )


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    """Readable list of what differs between two settings; keys only in `before` do not count."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            row
            for name in now
            for row in _differences(before.get(name), now[name], f"{key}.{name}" if key else name)
        ]
    return [] if before == now else [f"{key} was {before}, is {now}"]


def finished(path: str | Path) -> dict[str, Any] | None:
    """The summary of a finished run, or None."""
    file = Path(path) / "summary.json"
    return json.loads(file.read_text()) if file.is_file() else None


def write_json(path: Path, value: Any) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(value, indent=1, default=_plain) + "\n")
    partial.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _git() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except OSError:
        return ""
    return done.stdout.strip()


class Learner:
    """AdamW, warm-up and cosine decay, clipping, an average of the weights, and resuming.

    Draws of training are functions of (seed, step) (`generator`, `rng`), so that a resumed run
    does bit for bit what an uninterrupted one does.
    """

    def __init__(
        self, model: nn.Module, lr: float, steps: int, warmup: int, decay: float, clip: float = 1.0
    ):
        self.model, self.clip, self.step_count = model, clip, 0
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=(0.9, 0.95), weight_decay=1e-4
        )
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, steps)
        self.average = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=2 / 3)

    def step(self, loss: Tensor) -> dict[str, float]:
        """One update. Raises FloatingPointError before a bad loss can touch the weights."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} at step {self.step_count}; the weights are untouched. "
                "Lower the learning rate, or look for broken episodes in the data"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient became {float(norm)} at step {self.step_count}; the weights are "
                "untouched. Lower the learning rate, or look for broken episodes in the data"
            )
        self.optimizer.step()
        self.schedule.step()
        self.average.step(self.parameters)
        self.step_count += 1
        return {"loss": value, "grad_norm": float(norm), "lr": self.schedule.get_last_lr()[0]}

    def use_average(self) -> None:
        """Put the averaged weights into the model: the ones to evaluate and to save."""
        self.average.copy_to(self.parameters)

    def save(self, run: Run) -> None:
        """Everything needed to go on, written aside and renamed."""
        tensors = {f"model.{k}": v.contiguous() for k, v in self.model.state_dict().items()}
        for i, parameter in enumerate(self.parameters):
            tensors[f"average.{i}"] = self.average.shadow_params[i]
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{i}.{key}"] = torch.as_tensor(value)
        partial = run.path / ".resume.safetensors"
        save_file({k: v.clone() for k, v in tensors.items()}, partial)
        partial.replace(run.path / f"resume.{self.step_count}.safetensors")
        write_json(run.path / "resume.json", {"step": self.step_count, "seconds": run.seconds()})
        run.started = time.monotonic()
        for old in run.path.glob("resume.*.safetensors"):
            if old.name != f"resume.{self.step_count}.safetensors":
                old.unlink()

    def resume(self, run: Run) -> int:
        """Go on where `save` left off; returns the number of steps already done (0: none)."""
        state = run.path / "resume.json"
        if not state.is_file():
            _trim(run.path / "metrics.jsonl", 0)
            return 0
        step = json.loads(state.read_text())["step"]
        tensors = load_file(run.path / f"resume.{step}.safetensors")
        own = self.model.state_dict()
        self.model.load_state_dict({k: tensors[f"model.{k}"] for k in own})
        for i, parameter in enumerate(self.parameters):
            self.average.shadow_params[i].copy_(tensors[f"average.{i}"])
            prefix = f"optimizer.{i}."
            self.optimizer.state[parameter] = {
                k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
            }
        for _ in range(step):
            self.schedule.step()
        self.average.optimization_step = self.step_count = step
        _trim(run.path / "metrics.jsonl", step)
        return step


def _trim(path: Path, step: int) -> None:
    """Drop metrics that were logged after the step to which a run goes back."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] < step]
        path.write_text("".join(f"{line}\n" for line in lines))


def generator(*key: int) -> torch.Generator:
    """A torch generator that is a function of `key` alone."""
    seed = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(seed[0]) << 32 | int(seed[1]))


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)
