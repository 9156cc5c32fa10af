"""What each verb of the command line does: the configuration and the arguments in, what is printed
out. The verbs about rewards are in judging.py."""

from __future__ import annotations

import argparse
import json
import sys

from robostack import judging
from robostack.judging import FAILED, OK


def _arena(args: argparse.Namespace, env):
    from robostack.sim.arena import Arena
    from robostack.worlds import make_worker

    return Arena(env, args.workers, make_worker, args.patience)


def _existing(args: argparse.Namespace) -> str:
    return "replace" if args.force else "refuse"


def collect(config, args) -> dict:
    from robostack import stages

    with _arena(args, config.env) as arena:
        return stages.collect(arena, config, args.out, args.policy, _existing(args))


def teleop(config, args) -> dict:
    if args.calibrate:
        from robostack.collecting.calibrating import calibrate

        return calibrate(config.device, config.path, args.out)
    from robostack.collecting import command

    return command.collect(command.settings(args.out, args.config, args.overrides), args.out)


def cases(config, args) -> dict:
    from robostack import cases

    return cases.make(config, args.out, args.workers, _existing(args), args.patience)


def train_bc(config, args) -> dict:
    from robostack import stages

    return stages.train_bc(config, args.stores, args.out, args.seed, args.start, _existing(args))


def train_reward(config, args) -> dict:
    from robostack import stages

    data = args.stores + ([args.demos] if args.demos else [])
    return stages.train_reward(
        config, data, args.out, args.seed, _existing(args), args.start, args.reward
    )


def train_dpo(config, args) -> dict:
    from robostack import preferring, stages

    given = args.policy, args.preferences, args.data, [args.demos], args.out, args.seed
    if not config.check_every:
        return preferring.train_dpo(config, *given, _existing(args))
    with _arena(args, config.env) as arena:
        check = stages.success_of(arena, config.trials)
        return preferring.train_dpo(config, *given, _existing(args), check=check)


def train_guide(config, args) -> dict:
    from robostack import preferring

    return preferring.train_guide(
        config,
        args.policy,
        args.preferences,
        args.data,
        args.out,
        args.seed,
        _existing(args),
    )


def train_rl(config, args) -> dict:
    from robostack import practising, rl_report

    rewards = judging.rewards(args)
    with _arena(args, config.env) as arena:
        summary = practising.train_rl(
            arena,
            config,
            args.policy,
            rewards,
            [args.demos],
            args.out,
            args.seed,
            _existing(args),
            trust=judging.trust(args),
        )
    print(f"report: {args.out / rl_report.PAGE}", file=sys.stderr)
    return summary


def evaluate(config, args) -> int:
    from robostack import batch

    policies = batch.contestants(args.policies)
    out = args.out or batch.default_out(config, policies)
    evaluation = batch.Batch(
        config,
        policies,
        out,
        args.workers,
        args.against,
        args.resume,
        args.force,
        args.patience,
    )
    found = evaluation.play()
    shown = {key: found[key] for key in ("policies", "comparisons", "failures", "problems")}
    print(json.dumps(shown, indent=1))
    print(f"results: {out / 'index.html'}", file=sys.stderr)
    return OK if batch.passed(found, config.require) else FAILED


def serve(config, args) -> int:
    from robostack.policy import serve

    serve.serve(config, args.policy)
    return OK


def prefer(config, args) -> dict:
    from robostack import preferring

    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists; use --force to replace it")
    rewards = judging.rewards(args)
    if silent := preferring.unheard(config, rewards):
        raise ValueError(
            f"--reward {', '.join(silent)} would have no say: source={config.source}, weights name "
            f"{', '.join(config.weights)}; leave it out, or weigh it, e.g. "
            f"weights='{{outcome: 1, {silent[0]}: 1}}' with source=tries"
        )
    given = args.data, args.out, args.seed, args.policy, args.labels
    return preferring.prefer(config, rewards, *given, trust=judging.trust(args))


def label(config, args) -> dict:
    from robostack import labelling

    return labelling.label(config, args.data, args.out)


def report(config, args) -> dict:
    from robostack import report

    return {"report": str(report.write(args.data, args.out))}


def demo(config, args) -> dict:
    import shutil

    from robostack import demo, report

    if args.force and args.out.exists():
        if not list(args.out.glob("seed-*")):  # what every demo begins with
            raise ValueError(f"{args.out} is not a demo; it is not replaced")
        shutil.rmtree(args.out)
    summary = demo.run(config, args.out, args.workers, args.patience)
    print(f"report: {report.write(args.out, args.out / 'report.html')}", file=sys.stderr)
    return summary


def tasks(config, args) -> int:
    from robostack.sim.catalog import SUITES, TASKS
    from robostack.sim.perturb import AXES

    width = max(map(len, TASKS))
    for name, task in TASKS.items():
        print(f"{name:<{width}}  {'expert' if task.expert else '      '}  {task.instruction}")
    print("\nsuites, for robostack evaluate --suite:")
    for name, tasks in SUITES.items():
        print(f"{name:<{width}}  {len(tasks)} tasks")
    print("\nperturbations, for robostack evaluate --perturb AXIS=STRENGTH; 1 means:")
    for name, meaning in AXES.items():
        print(f"{name:<{width}}  {meaning}")
    return OK


def doctor(config, args) -> int:
    from robostack import doctor

    print("looking (the first time, half a minute to compile the renderer)", file=sys.stderr)
    findings = doctor.examine()
    print(doctor.report(findings))
    return FAILED if any(not f.ok and f.needed for f in findings) else OK
