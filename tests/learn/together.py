"""What each of several processes does in test_together.py: python -m torch.distributed.run this."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import torch  # noqa: E402
import vlms  # noqa: E402
from fakes import SPEC, make_episode, tiny_vla  # noqa: E402
from torch import nn  # noqa: E402

from robostack.learn import bc, dpo, processes  # noqa: E402
from robostack.learn.learner import Learner  # noqa: E402
from robostack.learn.run import Run  # noqa: E402
from robostack.learn.spread import Compute  # noqa: E402
from robostack.policy.expert import ExpertConfig  # noqa: E402
from robostack.policy.pretrained import PretrainedConfig  # noqa: E402
from robostack.policy.vla import VLAConfig  # noqa: E402
from robostack.types import Clip, Preference  # noqa: E402

BC = bc.BCConfig(
    tiny_vla().config, steps=6, batch=8, draws=2, warmup=1, average=0.9, log_every=1, save_every=3
)
DPO = dpo.DPOConfig(steps=6, batch=4, draws=2, warmup=1, log_every=1)
PIECES, SHARDS = Compute(accumulate=2), Compute(accumulate=2, sharding="full")
EPISODES = {f"{seed}": make_episode(seed, steps=8) for seed in range(6)}
PAIRS = [
    Preference(Clip(f"{2 * i}", 0, 4), Clip(f"{2 * i + 1}", 0, 4), 1.0, {}, f"{i}")
    for i in range(3)
]


def clone(folder, compute, start=None):
    config = replace(BC, compute=compute)
    return bc.train(config, SPEC, EPISODES.values(), Run(folder, "test", {}), start=start)


def prefer(folder, compute):
    config = replace(DPO, compute=compute)
    demos = list(EPISODES.values())[:2]
    return dpo.train(config, tiny_vla(), PAIRS, EPISODES, demos, Run(folder, "test", {}))


def layered():
    """A start whose backbone is frozen and whose expert is cut into shares layer by layer."""
    vla = tiny_vla()
    vla.backbone.requires_grad_(False)
    vla.expert._no_split_modules = [type(vla.expert.blocks[0]).__name__]
    return vla


class Cache:
    def __init__(self):
        self.keys = []


class Layer(nn.Module):
    """Hands out its keys past its output, as those of transformers do."""

    def __init__(self):
        super().__init__()
        self.key, self.mlp = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, cache):
        cache.keys.append(self.key(x))
        return x + self.mlp(x)


class Backbone(nn.Module):
    _no_split_modules = ["Layer"]

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x):
        cache = Cache()
        for layer in self.layers:
            x = layer(x, cache)
        return torch.stack(cache.keys).square().mean()


def teach_keys(path, compute):
    """Writes the metrics of a few updates by nothing but the layers' keys."""
    torch.manual_seed(0)
    model, x = Backbone(), torch.randn(8, 4)
    learner = Learner(model, 1e-2, 10, 0, 0.9, compute=compute)
    parts = learner.parts(8)
    told = [learner.step(learner(lambda m, p: m(x[p]), p) for p in parts) for _ in range(4)]
    if processes.main():
        path.write_text(json.dumps(told))


def train_pretrained(folder, compute, kind):
    """On action tokens, too; the model is beside `folder`."""
    source = str(folder.parent / "vlm")
    pretrained = PretrainedConfig(train=kind, rank=4, image_size=vlms.SIDE)
    policy = VLAConfig(4, source, pretrained=pretrained, expert=ExpertConfig(width=32))
    config = replace(BC, policy=policy, tokens=0.1, steps=3, compute=compute)
    return bc.train(config, SPEC, EPISODES.values(), Run(folder, "test", {}))


def interrupted(folder, compute):
    """Stops before the fifth update, two after a checkpoint."""
    true, left = Learner.step, iter(range(4))

    def step(self, losses):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return true(self, losses)

    Learner.step = step
    try:
        clone(folder, compute)
    except KeyboardInterrupt:
        return
    finally:
        Learner.step = true


def main(out):
    clone(out / "bc", PIECES)
    clone(out / "bc-shards", SHARDS)
    clone(out / "bc-layers", SHARDS, layered())
    prefer(out / "dpo", PIECES)
    prefer(out / "dpo-shards", SHARDS)
    teach_keys(out / "keys.json", SHARDS)
    for kind in ("lora", "full"):
        train_pretrained(out / kind, PIECES, kind)
        train_pretrained(out / f"{kind}-shards", replace(SHARDS, checkpointing=True), kind)
    for name in ("resumed", "resumed-alone"):
        interrupted(out / name, PIECES)
        interrupted(out / f"{name}-shards", SHARDS)
    clone(out / "resumed", PIECES)
    clone(out / "resumed-shards", SHARDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
