"""How long a policy takes for one chunk: ours against a straightforward implementation of the same
network, weights included, back to back.

    python tests/bench/policy_latency.py                   # the sizes of the table, CPU or GPU
    python tests/bench/policy_latency.py --only pi0-mini

The reference does what public samplers do (LeRobot's and openpi's PyTorch pi0 among them): a vision
call for every camera, eager attention with an explicit mask, the whole language model over an
instruction padded to 48 tokens, heads repeated, and the prefix's keys copied before the expert's
own at every step of every layer. Both use the same weights and must agree to 1e-3. The last line is
a JSON object; ratio is reference / ours. Times are medians of rounds that take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).parent.parent))

import vlms  # noqa: E402

from robostack.data.chunks import Batch  # noqa: E402
from robostack.device import device  # noqa: E402
from robostack.policy.backbone import Prefix  # noqa: E402
from robostack.policy.expert import ExpertConfig, rotate  # noqa: E402
from robostack.policy.families import fit_square  # noqa: E402
from robostack.policy.pretrained import PretrainedConfig  # noqa: E402
from robostack.policy.vla import VLA, VLAConfig, parameter_count  # noqa: E402
from robostack.types import RobotSpec  # noqa: E402

WORDS = 48  # to which the reference pads an instruction
SPEC = RobotSpec(
    robot="bench",
    state_names=tuple("abcdefgh"),
    action_names=tuple("abcdefg"),
    action_low=(-1.0,) * 7,
    action_high=(1.0,) * 7,
    cameras={"front": (224, 224), "wrist": (224, 224)},
    control_hz=20.0,
)
SIGLIP = dict(model_type="siglip_vision_model", vision_use_head=False)
SIZES = {
    "pi0-mini": dict(
        family="paligemma",
        text=dict(hidden_size=256, intermediate_size=1024, num_hidden_layers=6,
                  num_attention_heads=8, num_key_value_heads=1, head_dim=32),
        vision=dict(SIGLIP, hidden_size=192, intermediate_size=768, num_hidden_layers=6,
                    num_attention_heads=3, image_size=224, patch_size=14),
        expert=ExpertConfig(width=128, heads=8, mlp=512, position="rotary"),
        image_size=224,
    ),
    "smolvla": dict(
        family="smolvlm",
        text=dict(hidden_size=960, intermediate_size=2560, num_hidden_layers=16,
                  num_attention_heads=15, num_key_value_heads=5, head_dim=64),
        vision=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                    num_attention_heads=12, image_size=512, patch_size=16),
        expert=ExpertConfig(width=720, heads=15, mlp=2048, position="rotary"),
        image_size=512,
    ),
    "pi0": dict(
        family="paligemma",
        text=dict(hidden_size=2048, intermediate_size=16384, num_hidden_layers=18,
                  num_attention_heads=8, num_key_value_heads=1, head_dim=256),
        vision=dict(SIGLIP, hidden_size=1152, intermediate_size=4304, num_hidden_layers=27,
                    num_attention_heads=16, image_size=224, patch_size=14),
        expert=ExpertConfig(width=1024, heads=8, mlp=4096, position="rotary"),
        image_size=224,
        gpu=True,
    ),
}  # fmt: skip
STEPS, HORIZON = 10, 50


def build(size: dict, dtype: str) -> VLA:
    """Random weights in the real classes."""
    with tempfile.TemporaryDirectory() as folder:
        with device():  # where a few billion random weights are drawn fastest
            vlms.save(
                size["family"],
                Path(folder),
                text=size["text"],
                vision=size["vision"],
                scale_factor=4,
            )
        pretrained = PretrainedConfig(
            train="frozen", dtype=dtype, image_size=size["image_size"], attention="sdpa"
        )
        config = VLAConfig(HORIZON, folder, pretrained=pretrained, expert=size["expert"])
        vla = VLA(config, SPEC).eval().to(device())
    vla.expert.blocks.to(getattr(torch, dtype))
    return vla


def observe() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = {
        name: torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8, generator=generator)
        for name, size in SPEC.cameras.items()
    }
    state = torch.randn(1, SPEC.state_dim, generator=generator)
    chunk, valid = torch.zeros(1, HORIZON, 7), torch.ones(1, HORIZON, dtype=torch.bool)
    return Batch(images, state, ["lift the red cube"], chunk, valid).to(device())


def reference_prefix(vla: VLA, batch: Batch) -> Prefix:
    """One vision call a camera; the whole model; the instruction padded to WORDS tokens."""
    b = vla.backbone
    model, decoder = b.model, b.decoder[0]
    model.set_attn_implementation("eager")
    features = []
    for name in b.cameras:
        picture = fit_square(batch.images[name], b.settings.image_size)[:, None]
        pixels = b.family.pixels(picture)["pixel_values"].to(model.dtype)
        seen = model.get_image_features(pixel_values=pixels).pooler_output
        features.append(seen if torch.is_tensor(seen) else torch.cat(list(seen)))
    ids, _, positions, end = b._layout(batch.tasks, batch.state.device)
    embeddings = model.get_input_embeddings()(ids)
    pictures = torch.cat([f.flatten(0, -2) for f in features])
    embeddings[0, ids[0] == model.config.image_token_id] = pictures.to(embeddings.dtype)
    extra = WORDS + 2 * b.family.image_tokens - ids.shape[1]
    embeddings = F.pad(embeddings, (0, 0, 0, extra))
    real = torch.arange(embeddings.shape[1], device=ids.device)[None] < ids.shape[1]
    tokens = embeddings.shape[1]
    allowed = real[:, None, None].expand(1, 1, tokens, tokens)
    if b.settings.image_size == 512:  # Llama is causal, PaliGemma's prefix is not
        allowed = allowed & torch.ones_like(allowed).tril()
    mask = torch.zeros(allowed.shape, dtype=embeddings.dtype, device=ids.device)
    mask = mask.masked_fill(~allowed, torch.finfo(embeddings.dtype).min)
    cache = decoder(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=F.pad(positions, (0, extra)),
        use_cache=True,
    ).past_key_values
    model.set_attn_implementation("sdpa")
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    return Prefix([k for k, _ in layers], [v for _, v in layers], real, end)


def reference_velocity(vla: VLA, prefix: Prefix, state: torch.Tensor, x, time):
    """The expert as a textbook would write it: heads repeated, prefix copied, explicit softmax."""
    e = vla.expert
    tokens, _ = e._tokens(state, x, time)
    tokens = tokens.to(e.dtype)
    own = torch.ones(1, tokens.shape[1], dtype=torch.bool, device=x.device)
    mask = torch.cat([prefix.mask, own], 1)[:, None, None]
    turn = e.cos.to(e.dtype), e.sin.to(e.dtype)
    for block, keys, values in zip(e.blocks, prefix.keys, prefix.values):
        keys, values = keys.clone().to(e.dtype), values.clone().to(e.dtype)
        qkv = block.qkv(block.norm1(tokens)).unflatten(-1, (-1, block.head_dim)).transpose(1, 2)
        q, k, v = qkv.split((block.heads, block.kv_heads, block.kv_heads), dim=1)
        k = torch.cat([keys, rotate(k, *turn)], 2)
        v = torch.cat([values, v], 2)
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        weight = rotate(q, *turn) @ k.transpose(2, 3) / block.head_dim**0.5
        weight = weight.masked_fill(~mask, torch.finfo(weight.dtype).min).softmax(-1)
        tokens = tokens + block.out((weight @ v).transpose(1, 2).flatten(2))
        tokens = tokens + block._feed(block.norm2(tokens))
    return e.action_out(e.norm(tokens[:, 1:].float()))


def reference_sample(vla: VLA, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
    prefix, state = reference_prefix(vla, batch), vla.normalize_state(batch.state)
    x = noise
    for k in range(STEPS):
        time = torch.full((1,), 1 - k / STEPS, device=x.device)
        x = x - reference_velocity(vla, prefix, state, x, time) / STEPS
    return vla.normalize_action.inverse(x)


def clock(act) -> float:
    """Milliseconds of one call."""
    begin = time.perf_counter()
    act()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begin)


def _in_turn(arms: dict, rounds: int) -> dict[str, list[float]]:
    times = {arm: [] for arm in arms}
    for _ in range(rounds):
        for arm, act in arms.items():
            times[arm].append(clock(act))
    return times


def measure(name: str, dtype: str, rounds: int) -> dict:
    torch.manual_seed(0)
    vla, batch = build(SIZES[name], dtype), observe()
    noise = vla.noise(1, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        eager = vla.sample(batch, noise, STEPS)
        apart = (eager - reference_sample(vla, batch, noise)).abs().max()
        tolerance = 1e-3 if dtype == "float32" else 0.1
        if apart > tolerance:
            raise SystemExit(f"{name}: ours and the reference differ by {float(apart)}")
        prefix = vla.encode(batch)
        arms = {
            "ours": lambda: vla.sample(batch, noise, STEPS),
            "reference": lambda: reference_sample(vla, batch, noise),
            "prefix": lambda: vla.encode(batch),
            "steps": lambda: vla.sample(batch, noise, STEPS, prefix=prefix),
            "reference_prefix": lambda: reference_prefix(vla, batch),
        }
        times = _in_turn(arms, rounds)
        vla.compile_expert()
        compiled = vla.sample(batch, noise, STEPS) - eager
        if compiled.abs().max() > tolerance:
            raise SystemExit(
                f"{name}: the compiled expert differs by {float(compiled.abs().max())}"
            )
        times["compiled"] = _in_turn({"compiled": arms["ours"]}, rounds)["compiled"]
    ms = {arm: statistics.median(t[1:]) for arm, t in times.items()}
    row = {
        "config": name,
        "device": str(device()),
        "dtype": dtype,
        "parameters_m": round(parameter_count(vla) / 1e6, 1),
        "ours_ms": round(ms["ours"], 1),
        "compiled_ms": round(ms["compiled"], 1),
        "reference_ms": round(ms["reference"], 1),
        "ratio": round(ms["reference"] / ms["ours"], 2),
        "prefix_ms": round(ms["prefix"], 1),
        "step_ms": round(ms["steps"] / STEPS, 2),
        "reference_prefix_ms": round(ms["reference_prefix"], 1),
        "difference": float(apart),
    }
    if device().type == "cuda":
        row["bandwidth_limit_ms"] = round(_bandwidth_limit(vla), 1)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _bandwidth_limit(vla: VLA) -> float:
    """Milliseconds to read every weight as often as one chunk needs it: the backbone's once, the
    expert's at each step. The bandwidth is that of a large copy on this very device."""
    block = torch.empty(2**28, dtype=torch.uint8, device=device())
    copy = min(clock(block.clone) for _ in range(10))
    size = lambda module: sum(p.numel() * p.element_size() for p in module.parameters())  # noqa: E731
    return copy * (size(vla.backbone) + STEPS * size(vla.expert)) / (2 * block.numel())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(SIZES), action="append")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: all)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    gpu = device().type == "cuda"
    names = args.only or [n for n, size in SIZES.items() if gpu or not size.get("gpu")]
    rows = [
        measure(name, dtype, args.rounds)
        for name in names
        for dtype in args.dtype or (["bfloat16"] if gpu else ["float32", "bfloat16"])
    ]
    print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
