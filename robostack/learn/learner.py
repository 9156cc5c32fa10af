"""The update that every training here is made of, whatever the loss and the size of the model.

How it is computed (`Compute`: in pieces, in which precision, by how many processes) changes no more
than rounding: a batch is always that of the whole update, and draws are made for all of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robostack.device import device
from robostack.learn import processes
from robostack.learn.run import Run, trim, write_json
from robostack.learn.spread import Compute, as_kept, scatter, spread, whole

Schedule = Literal["cosine", "linear", "constant"]
Loss = Tensor | tuple[Tensor, dict[str, float]]  # of a piece, and what else is worth a line


class Average:
    """The moving average of parameters that diffusers' EMAModel keeps with `use_ema_warmup`, to the
    bit: young at first, later as old as `decay` says. Importing that one takes four seconds."""

    def __init__(self, parameters: list[nn.Parameter], decay: float):
        self.decay, self.updates = decay, 0
        self.values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def step(self, parameters: list[nn.Parameter]) -> None:
        self.updates += 1
        fresh = 1 - min(1 - float(self.updates) ** -(2 / 3), self.decay)
        for value, parameter in zip(self.values, parameters):
            value.sub_(fresh * (value - parameter))

    def copy_to(self, parameters: list[nn.Parameter]) -> None:
        for value, parameter in zip(self.values, parameters):
            parameter.data.copy_(value)


class Learner:
    """AdamW, warm-up and decay, clipping, an average of the weights, and resuming.

    `rates` gives submodules, by name, learning rates of their own. `decay` is that of the average
    (0: none is kept). Call it as learner(function, *arguments) for function(model, *arguments):
    everything that needs gradients goes through there.

    Draws of training are functions of (seed, step) (`generator`, `rng`), so that a resumed run
    does bit for bit what an uninterrupted one does.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        steps: int,
        warmup: int,
        decay: float,
        clip: float = 1.0,
        *,
        schedule: Schedule = "cosine",
        weight_decay: float = 1e-4,
        rates: dict[str, float] | None = None,
        compute: Compute = Compute(),  # noqa: B008
    ):
        # here, because it takes seconds that commands which learn nothing need not wait
        from diffusers.optimization import get_scheduler

        self.model, self.clip, self.compute, self.step_count = model, clip, compute, 0
        if compute.checkpointing:
            model.gradient_checkpointing()
        for parameter in model.parameters():
            if parameter.requires_grad:  # an update is far smaller than a bfloat16's last bit
                parameter.data = parameter.data.float()
        self._hollow, self._pass = spread(model, compute)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            _groups(model, rates or {}), lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay
        )
        name = "constant_with_warmup" if schedule == "constant" else schedule
        self.schedule = get_scheduler(
            name, self.optimizer, num_warmup_steps=warmup, num_training_steps=steps
        )
        self.average = Average(self.parameters, decay) if decay else None

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        low = self.compute.precision == "bfloat16"
        with torch.autocast(device().type, torch.bfloat16, enabled=low):
            return self._pass(lambda model: function(model, *arguments))

    def parts(self, batch: int) -> list[slice]:
        """The rows of a batch that are this process's, in the pieces in which it takes them."""
        share = self.compute.accumulate
        if batch % (processes.count() * share):
            raise ValueError(
                f"batch={batch}: expected a multiple of {processes.count() * share} "
                f"({processes.count()} processes, accumulate={share})"
            )
        size, first = batch // (processes.count() * share), processes.rank() * share
        return [slice(k * size, (k + 1) * size) for k in range(first, first + share)]

    def step(self, losses: Tensor | Iterable[Loss]) -> dict[str, float]:
        """One update by the mean of `losses`: one, or one for each of `parts`, computed as they
        are asked for. Returns means of what they tell.

        Raises FloatingPointError before a bad loss can touch the weights.
        """
        metrics = self._backward(iter([losses] if isinstance(losses, Tensor) else losses))
        self._require_finite("loss", metrics["loss"])
        norm = float(whole(nn.utils.clip_grad_norm_(self.parameters, self.clip)))
        self._require_finite("gradient", norm)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.step(self.parameters)
        self.step_count += 1
        return metrics | {"grad_norm": norm, "lr": self.schedule.get_last_lr()[0]}

    def _backward(self, losses: Iterator[Loss]) -> dict[str, float]:
        self.optimizer.zero_grad(set_to_none=True)
        pieces, told = self.compute.accumulate, []
        for k in range(pieces):
            quiet = k < pieces - 1 and hasattr(self._pass, "no_sync")  # DDP: sum, then share
            with self._pass.no_sync() if quiet else contextlib.nullcontext():
                loss = next(losses)
                loss, metrics = loss if isinstance(loss, tuple) else (loss, {})
                (loss.float() / pieces).backward()
            told.append(metrics | {"loss": float(loss.detach())})
        scatter(self._pass)
        means = [sum(each[name] for each in told) / pieces for name in told[0]]
        return dict(zip(told[0], processes.mean(means)))

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {what} became {value} at step {self.step_count}; the weights are untouched. "
                "Lower the learning rate, or look for broken episodes in the data"
            )

    def use_average(self) -> None:
        """Put the averaged weights into the model: the ones to evaluate and to save."""
        if self.average is not None:
            self.average.copy_to(self.parameters)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its averaged weights for a while, to see how it does in mid-training."""
        if self._hollow is not None:
            raise ValueError(
                "a model that is cut up over processes cannot be tried in mid-training"
            )
        kept = [p.detach().clone() for p in self.parameters]
        self.use_average()
        try:
            yield self.model.eval()
        finally:
            self.model.train()
            for parameter, value in zip(self.parameters, kept):
                parameter.data.copy_(value)

    def trained(self) -> nn.Module:
        """The model with its averaged weights. A sharded one comes as a whole copy on the CPU."""
        self.use_average()
        if self._hollow is None:
            return self.model
        weights = {k: whole(v).detach().cpu() for k, v in self.model.state_dict().items()}
        self._hollow.load_state_dict(weights, assign=True)
        return self._hollow

    def _state(self) -> dict[str, Tensor]:
        """What training changes. Frozen weights are as they were before it, and may be huge."""
        named = self.model.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in named if not parameter.requires_grad}
        own = self.model.state_dict()
        state = {f"model.{name}": own[name] for name in own if name not in frozen}
        for i, parameter in enumerate(self.parameters):
            if self.average is not None:
                state[f"average.{i}"] = self.average.values[i]
            for key, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{i}.{key}"] = torch.as_tensor(value)
        return state

    def save(self, run: Run, **told: float) -> None:
        """Everything needed to go on, written aside and renamed; what else is `told`, `resumed`
        tells again."""
        tensors = {}
        for name, tensor in self._state().items():
            full = whole(tensor)  # in which every process has a part
            if processes.main():
                tensors[name] = full.detach().to("cpu", copy=True).contiguous()
        if processes.main():
            partial = run.path / ".resume.safetensors"
            save_file(tensors, partial)
            partial.replace(run.path / f"resume.{self.step_count}.safetensors")
            about = {**told, "step": self.step_count, "seconds": run.seconds()}
            write_json(run.path / "resume.json", about)
            for old in run.path.glob("resume.*.safetensors"):
                if old.name != f"resume.{self.step_count}.safetensors":
                    old.unlink()
        processes.wait()  # so that all read the same `seconds` from here on
        run.started = time.monotonic()

    def resume(self, run: Run) -> int:
        """Go on where `save` left off; returns the number of steps already done (0: none)."""
        state = run.path / "resume.json"
        if not state.is_file():
            trim(run.path / "metrics.jsonl", 0)
            return 0
        step = json.loads(state.read_text())["step"]
        tensors = load_file(run.path / f"resume.{step}.safetensors")
        for i, parameter in enumerate(self.parameters):
            prefix = f"optimizer.{i}."
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            self.optimizer.state[parameter] = {
                key: value if key == "step" else as_kept(value, parameter)
                for key, value in found.items()
            }
        with torch.no_grad():
            for name, kept in self._state().items():
                kept.copy_(as_kept(tensors[name], kept))
        with warnings.catch_warnings():  # the updates between were another process's
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step")
            for _ in range(step):
                self.schedule.step()
        self.step_count = step
        if self.average is not None:
            self.average.updates = step
        trim(run.path / "metrics.jsonl", step)
        return step


def resumed(run: Run) -> dict[str, float]:
    """What `Learner.save` was told of a run that goes on."""
    state = run.path / "resume.json"
    return json.loads(state.read_text()) if state.is_file() else {}


def _groups(model: nn.Module, rates: dict[str, float]) -> list[dict]:
    """Parameters to be trained, the ones with a learning rate of their own in groups behind."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    groups = []
    for part, rate in rates.items():
        own = [named.pop(name) for name in list(named) if name.startswith(f"{part}.")]
        if not own:
            raise ValueError(f"{part}: has a learning rate of its own, but nothing to train")
        groups.append({"params": own, "lr": rate})
    return [{"params": list(named.values())}, *groups]
