"""How the passes of a step are spread over pieces of memory and over processes.

Several GPUs are torch's own DDP and FSDP2, in processes that accelerate starts and joins
(`processes.py`). accelerate's Accelerator stays out: it has no FSDP on CPUs, where the tests are,
and fixes one precision for the life of a process, in which here several models may be trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from robostack.device import device
from robostack.learn import processes


@dataclass(frozen=True)
class Compute:
    """How a step is fitted on the machine. It changes what is learned by rounding alone."""

    precision: Literal["float32", "bfloat16"] = "float32"  # of the passes; weights stay float32
    accumulate: int = 1  # pieces in which a batch is taken, one after the other: less memory
    checkpointing: bool = False  # activations are computed again, not kept: less memory
    sharding: Literal["none", "full"] = "none"  # full: of N processes each keeps 1/N of all state

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate: expected 1 or more, got {self.accumulate}")


class Pass(nn.Module):
    """A model whose forward pass is any function of it.

    DDP and FSDP act where a forward pass begins and ends. A loss may ask a model for several things
    (DPO encodes once and judges two chunks), and here all of that lies in between.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, function: Callable) -> Any:
        return function(self.model)


def spread(model: nn.Module, compute: Compute) -> tuple[nn.Module | None, nn.Module]:
    """What computes passes in all processes; before it, where that cuts `model` into shares, the
    same model without weights."""
    passes = Pass(model)
    if processes.count() == 1:
        return None, passes
    processes.join()
    if compute.sharding == "none":
        # parts of a backbone stay unused (what follows the last keys), and then have no gradient
        options = dict(find_unused_parameters=True, gradient_as_bucket_view=True)
        own = [device()] if device().type == "cuda" else None
        ddp = nn.parallel.DistributedDataParallel
        return None, ddp(passes, device_ids=own, broadcast_buffers=False, **options)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    hollow = copy.deepcopy(model, empty)
    mesh = init_device_mesh(device().type, (processes.count(),))
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=False)
    fully_shard(passes, mesh=mesh, reshard_after_forward=False)
    # Weights stay gathered until `scatter`. FSDP would drop those of a layer as soon as its output
    # has been used, or its input has a gradient; but the expert takes keys and values that go past
    # the output, action tokens run the same layers again, and checkpointing does so once more.
    passes.set_reshard_after_backward(False)
    return hollow, passes


def scatter(passes: nn.Module) -> None:
    """After the backward pass: of gathered weights each process keeps its share."""
    for module in passes.modules():
        if hasattr(module, "set_reshard_after_backward"):
            module.reshard()


def _layers(model: nn.Module) -> list[nn.Module]:
    """The modules to be gathered one at a time: those that a model of transformers, or one of ours
    that follows its custom, names in `_no_split_modules`."""
    names = {n for m in model.modules() for n in getattr(m, "_no_split_modules", None) or ()}
    return [m for m in model.modules() if type(m).__name__ in names]


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a share."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def as_kept(value: Tensor, kept: Tensor) -> Tensor:
    """A whole tensor, on the device of another and cut into shares as it is."""
    value = value.to(kept.device)
    if not hasattr(kept, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, kept.device_mesh, kept.placements, src_data_rank=None)
