"""What the command line does with rewards: score, examine, propose, watch, imagine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

OK, FAILED = 0, 1  # exit codes of a gate


def rewards(args: argparse.Namespace) -> dict:
    """The rewards that were named, by name."""
    from robostack import score

    demos = getattr(args, "demos", None)
    return score.load_rewards(args.reward, [demos] if demos else [])


def trust(args: argparse.Namespace):
    """What --exam and --strict ask of rewards that are about to be learned from."""
    from robostack.exam.results import Trust

    return Trust(tuple(args.exam), args.strict)


def score(config, args) -> dict:
    from robostack import score

    return {"scored": score.score(rewards(args), args.data)}


def exam(config, args) -> int:
    from robostack.exam import gate, sit
    from robostack.exam.results import doubts
    from robostack.rewards.saved import RewardError

    if not args.reward:
        raise RewardError("no reward was named; e.g. robostack exam runs/progress --data runs/exam")
    thresholds = gate.read(args.gate) if args.gate else {}  # before any work
    if args.seed:
        config = replace(config, seed=args.seed)
    named = rewards(args)
    found = sit.sit(named, args.stores, args.out, config)
    print(json.dumps({name: part["aims"] for name, part in found["rewards"].items()}, indent=1))
    for line in doubts(named, [args.out]):
        print(f"doubt: {line}", file=sys.stderr)
    print(f"card: {args.out / 'index.html'}", file=sys.stderr)
    violated = gate.passed(found, thresholds)
    for row in violated:
        print(row, file=sys.stderr)
    return FAILED if violated else OK


def propose(config, args) -> dict:
    """A keypoint reward from a vision-language model, and the pictures that it was shown."""
    from robostack.data.store import iter_episodes
    from robostack.rewards.keypoints.endpoint import png
    from robostack.rewards.keypoints.propose import propose_reward

    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists; use --force to replace it")
    if not config.cache:
        config = replace(config, cache=str(args.out / "answers"))
    found = propose_reward(config, next(iter_episodes([args.data])), config.ask())
    found.reward.save(args.out / "reward")
    for number, picture in enumerate(found.pictures):
        (args.out / f"asked-{number}.png").write_bytes(png(picture))
    return {
        "reward": str(args.out / "reward"),
        "confidence": found.confidence,
        "shares": found.shares,
        "problems": list(found.problems),
    }


def watch(config, args) -> dict:
    from robostack import footage

    return {"page": str(footage.write(rewards(args), args.data, args.out, config))}


def imagine(config, args) -> dict:
    from robostack import imagination
    from robostack.rewards.saved import RewardError
    from robostack.rewards.world_model import WorldModel

    models = [r for r in rewards(args).values() if isinstance(r, WorldModel)]
    if len(models) != 1:
        raise RewardError("expected --reward of one world model")
    return imagination.write(models[0], Path(args.data), args.out, config)
