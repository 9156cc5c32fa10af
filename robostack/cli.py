"""The `robostack` command. Every verb: --help with an example, --config, key=value overrides."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, FAILED, USAGE, STOPPED = 0, 1, 2, 130  # exit codes

_PATHS = {
    "--data": dict(help="episode store, or a run that holds one", metavar="DIR"),
    "--demos": dict(help="store of demonstrations", metavar="DIR"),
    "--policy": dict(help="policy, or a run that holds one", metavar="DIR"),
    "--start": dict(help="policy to go on from", metavar="DIR"),
    "--policies": dict(
        help="policy, or a run that holds one, or `expert` or `random`, or NAME= and any of these; "
        "repeat for several: the first is the baseline",
        metavar="DIR",
        action="append",
        default=[],
    ),
    "--against": dict(help="an earlier evaluation to compare with", metavar="DIR"),
    "--preferences": dict(help="preference set (.jsonl)", metavar="FILE"),
    "--reward": dict(
        help="keypoints, deviation, or the run of a learned reward; repeat for several",
        metavar="NAME",
        action="append",
        default=[],
    ),
}


_KEYS = {  # flag -> (key of the config, help); a repeated flag makes a list
    "suite": ("suite", "all tasks of a suite"),
    "task": ("tasks", "a task; repeat for several"),
    "episodes": ("episodes", "starts for each policy and task"),
    "early-stop": ("early_stop", "end once the 95 %% interval is narrower than this"),
    "require": ("require", "exit 1 if a policy's success rate is below this"),
    "perturb": ("perturb", "axis=strength, evaluated beside the unperturbed; repeat for several"),
}


@dataclass(frozen=True)
class Verb:
    """One sub-command: the dataclass that configures it and the function that does it."""

    summary: str
    example: str
    config: Callable[[], type] | None  # imported only when used: --help must be quick
    act: Callable[[Any, argparse.Namespace], dict | int]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    out: str | None = "the run folder"
    keys: tuple[str, ...] = ()  # of the config that have a flag of their own, see _KEYS
    resumes: bool = False  # whether a finished run can be gone on with


def _arena(args: argparse.Namespace, env):
    from robostack.sim.arena import Arena

    return Arena(env, args.workers)


def _existing(args: argparse.Namespace) -> str:
    return "replace" if args.force else "refuse"


def _collect(config, args) -> dict:
    from robostack import stages

    with _arena(args, config.env) as arena:
        return stages.collect(arena, config, args.out, args.policy, _existing(args))


def _train_bc(config, args) -> dict:
    from robostack import stages

    return stages.train_bc(config, [args.data], args.out, args.seed, args.start, _existing(args))


def _train_reward(config, args) -> dict:
    from robostack import stages

    data = [args.data] + ([args.demos] if args.demos else [])
    return stages.train_reward(config, data, args.out, args.seed, _existing(args))


def _train_dpo(config, args) -> dict:
    from robostack import stages

    return stages.train_dpo(
        config,
        args.policy,
        args.preferences,
        args.data,
        [args.demos],
        args.out,
        args.seed,
        _existing(args),
    )


def _train_rl(config, args) -> dict:
    from robostack import score, stages

    rewards = score.load_rewards(args.reward, [args.demos])
    with _arena(args, config.env) as arena:
        return stages.train_rl(
            arena, config, args.policy, rewards, [args.demos], args.out, args.seed, _existing(args)
        )


def _evaluate(config, args) -> int:
    from robostack import batch

    evaluation = batch.Batch(
        config,
        batch.contestants(args.policies),
        args.out,
        args.workers,
        args.against,
        args.resume,
        args.force,
    )
    found = evaluation.play()
    shown = {key: found[key] for key in ("policies", "comparisons", "problems")}
    print(json.dumps(shown, indent=1))
    print(f"results: {args.out / 'index.html'}", file=sys.stderr)
    return OK if batch.passed(found, config.require) else FAILED


def _rewards(args):
    from robostack import score

    return score.load_rewards(args.reward, [args.demos] if args.demos else [])


def _score(config, args) -> dict:
    from robostack import score

    return {"scored": score.score(_rewards(args), args.data)}


def _prefer(config, args) -> dict:
    from robostack import stages

    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} exists; use --force to replace it")
    return stages.prefer(config, _rewards(args), args.data, args.out, args.seed)


def _report(config, args) -> dict:
    from robostack import report

    return {"report": str(report.write(args.data, args.out))}


def _demo(config, args) -> dict:
    import shutil

    from robostack import demo, report

    if args.force and args.out.exists():
        if not list(args.out.glob("seed-*")):  # what every demo begins with
            raise ValueError(f"{args.out} is not a demo; it is not replaced")
        shutil.rmtree(args.out)
    summary = demo.run(config, args.out, args.workers)
    print(f"report: {report.write(args.out, args.out / 'report.html')}", file=sys.stderr)
    return summary


def _tasks(config, args) -> int:
    from robostack.sim.catalog import SUITES, TASKS

    width = max(map(len, TASKS))
    for name, task in TASKS.items():
        print(f"{name:<{width}}  {'expert' if task.expert else '      '}  {task.instruction}")
    print("\nsuites (robostack evaluate --suite ...):")
    for name, tasks in SUITES.items():
        print(f"{name:<{width}}  {len(tasks)} tasks")
    return OK


def _doctor(config, args) -> int:
    from robostack import doctor

    findings = doctor.examine()
    print(doctor.report(findings))
    return FAILED if any(not f.ok and f.needed for f in findings) else OK


def _config(module: str, name: str) -> Callable[[], type]:
    def load() -> type:
        import importlib

        return getattr(importlib.import_module(f"robostack.{module}"), name)

    return load


VERBS: dict[str, Verb] = {
    "collect": Verb(
        "episodes of a scripted expert or of a policy",
        "robostack collect --out runs/demos seeds=20 noise=0.15\n"
        "robostack collect --policy runs/bc --out runs/tries by=branch seeds=24 branch.tries=4",
        _config("stages", "CollectCommand"),
        _collect,
        takes=("--policy",),
    ),
    "train bc": Verb(
        "clone demonstrations",
        "robostack train bc --data runs/demos --out runs/bc steps=800",
        _config("learn.bc", "BCConfig"),
        _train_bc,
        needs=("--data",),
        takes=("--start",),
    ),
    "train reward": Verb(
        "learn a reward from successes and failures",
        "robostack train reward --data runs/tries --demos runs/demos --out runs/progress "
        "kind=progress",
        _config("learn.reward", "RewardConfig"),
        _train_reward,
        needs=("--data",),
        takes=("--demos",),
    ),
    "train dpo": Verb(
        "improve a policy on preferences",
        "robostack train dpo --policy runs/bc --preferences runs/pairs.jsonl --data runs/tries "
        "--demos runs/demos --out runs/dpo",
        _config("learn.dpo", "DPOConfig"),
        _train_dpo,
        needs=("--policy", "--preferences", "--data", "--demos"),
    ),
    "train rl": Verb(
        "improve a policy on its own rollouts",
        "robostack train rl --policy runs/dpo --demos runs/demos --reward keypoints "
        "--out runs/rl weights='{keypoints: 1}' rl.iterations=6",
        _config("stages", "TrainRLCommand"),
        _train_rl,
        needs=("--policy", "--demos", "--reward"),
    ),
    "evaluate": Verb(
        "success rates with 95 % intervals, compared on the same starts",
        "robostack evaluate --policy runs/bc --policy runs/rl --out runs/compare\n"
        "robostack evaluate --suite metaworld-mt50 --policy expert --episodes 2 --out runs/mt50\n"
        "robostack evaluate --policy runs/rl --against runs/bc-eval --out runs/rl-eval "
        "--require 0.7\n"
        "robostack evaluate --policy runs/rl --perturb light=1 --perturb camera=0.5 --out runs/odd",
        _config("batch", "BatchConfig"),
        _evaluate,
        needs=("--policies",),
        takes=("--against",),
        keys=("suite", "task", "episodes", "early-stop", "require", "perturb"),
        resumes=True,
        out="the results folder",
    ),
    "score": Verb(
        "judge episodes with rewards, into side-cars",
        "robostack score --data runs/tries --reward keypoints --reward runs/progress",
        None,
        _score,
        needs=("--data", "--reward"),
        takes=("--demos",),
        out=None,
    ),
    "prefer": Verb(
        "scores to preferences",
        "robostack prefer --data runs/tries --reward keypoints --reward runs/progress "
        "--out runs/pairs.jsonl weights='{outcome: 1, keypoints: 1, progress: 0.5}'",
        _config("prefer", "PreferConfig"),
        _prefer,
        needs=("--data", "--reward"),
        takes=("--demos",),
        out="the preference set (.jsonl)",
    ),
    "report": Verb(
        "one HTML file of a demo's results",
        "robostack report --data runs/demo --out runs/demo/report.html",
        None,
        _report,
        needs=("--data",),
        out="the page (.html)",
    ),
    "demo": Verb(
        "the whole ring: demonstrations to a policy improved by its rewards",
        "robostack demo --out runs/demo\n"
        "robostack demo --config configs/demo-full.yaml --out runs/demo-full",
        _config("demo", "DemoConfig"),
        _demo,
    ),
    "tasks": Verb(
        "every simulated task, what it asks, and the suites",
        "robostack tasks",
        None,
        _tasks,
        out=None,
    ),
    "doctor": Verb("what this machine has and lacks", "robostack doctor", None, _doctor, out=None),
}


def _describe(config: type) -> str:
    """The keys of a config with their defaults, for --help."""
    from robostack.config import to_dict

    def lines(values: dict, prefix: str = ""):
        for key, value in values.items():
            if isinstance(value, dict) and value and not prefix.endswith("weights."):
                yield from lines(value, f"{prefix}{key}.")
            else:
                yield f"  {prefix}{key}={value}"

    return "keys and their defaults:\n" + "\n".join(lines(to_dict(config())))


class _Help(argparse.Action):
    """Prints help with the verb's keys, which are imported only now."""

    def __init__(self, *args, verb: Verb, **kwargs):
        super().__init__(*args, nargs=0, **kwargs)
        self.verb = verb

    def __call__(self, parser, namespace, values, option_string=None):
        parser.print_help()
        if self.verb.config is not None:
            print("\n" + _describe(self.verb.config()))
        parser.exit()


def _add_verb(parsers, name: str, verb: Verb) -> None:
    parser = parsers.add_parser(
        name,
        help=verb.summary,
        description=verb.summary.capitalize() + ".",
        epilog="example:\n" + textwrap.indent(verb.example, "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=_Help, verb=verb, help="show this and the keys")
    for flag in (*verb.needs, *verb.takes):
        options = dict(_PATHS[flag])
        if "action" not in options:
            options["type"] = Path
        names = ["--policy"] if flag == "--policies" else [flag]
        dest = flag.removeprefix("--")
        parser.add_argument(*names, dest=dest, required=flag in verb.needs, **options)
    for flag in verb.keys:
        parser.add_argument(f"--{flag}", action="append", metavar="X", help=_KEYS[flag][1])
    if verb.out:
        parser.add_argument("--out", type=Path, required=True, help=verb.out)
        parser.add_argument("--force", action="store_true", help="replace a finished run")
    if verb.resumes:
        more = "go on with a finished run: more episodes, tasks, policies"
        parser.add_argument("--resume", action="store_true", help=more)
    if verb.config is not None:
        parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of keys")
        parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a key")
    parser.add_argument("--seed", type=int, default=0, help="of training (default 0)")
    parser.add_argument("--workers", type=int, default=0, help="processes (default: all cores)")
    parser.set_defaults(verb=verb, name=name)


def _overrides(args: argparse.Namespace) -> list[str]:
    """Flags of keys as key=value, before those that were written as such."""
    found = []
    for flag in args.verb.keys:
        for value in getattr(args, flag.replace("-", "_")) or []:
            key = _KEYS[flag][0]
            if flag == "perturb":
                axis, _, strength = value.partition("=")
                found.append(f"perturb.{axis}={strength or 1}")
            elif flag != "task":
                found.append(f"{key}={value}")
    if "task" in args.verb.keys and args.task:
        found.append(f"tasks={json.dumps(args.task)}")
    return [*found, *args.overrides]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="robostack",
        description="Post-train vision-language-action policies with learned rewards.",
    )
    parsers = top.add_subparsers(required=True, metavar="verb")
    train = None
    for name, verb in VERBS.items():
        if name.startswith("train "):
            if train is None:
                sub = parsers.add_parser("train", help="bc, reward, dpo or rl")
                train = sub.add_subparsers(required=True, metavar="what")
            _add_verb(train, name.removeprefix("train "), verb)
        else:
            _add_verb(parsers, name, verb)
    return top


def main(argv: list[str] | None = None) -> int:
    warnings.filterwarnings("ignore")  # of third parties; ours are errors or printed
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    args = parser().parse_args(argv)
    from robostack.config import ConfigError, read

    try:
        config = None
        if args.verb.config is not None:
            config = read(args.verb.config(), args.config, _overrides(args))
        result = args.verb.act(config, args)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return STOPPED
    except ConfigError as error:
        print(f"robostack {args.name}: {error}", file=sys.stderr)
        return USAGE
    except (ValueError, RuntimeError, OSError, FloatingPointError, TypeError) as error:
        if os.environ.get("ROBOSTACK_DEBUG"):
            raise
        print(f"robostack {args.name}: {str(error).split(chr(10) * 2)[0]}", file=sys.stderr)
        return FAILED
    if isinstance(result, int):
        return result
    print(json.dumps(result, indent=1))
    return OK


if __name__ == "__main__":
    sys.exit(main())
