"""The verbs of the `robostack` command: what each takes, and the function that does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robostack import actions, judging

PATHS = {
    "--data": dict(help="episode store, or a run that holds one", metavar="DIR"),
    "--stores": dict(
        help="episode store, or a run that holds some; repeat for several",
        metavar="DIR",
        action="append",
        type=Path,
    ),
    "--demos": dict(help="store of demonstrations", metavar="DIR"),
    "--policy": dict(help="policy, or a run that holds one", metavar="DIR"),
    "--start": dict(help="policy to go on from", metavar="DIR"),
    "--policies": dict(
        help="policy, or a run that holds one, or `expert` or `random`, or ws://HOST:PORT of a "
        "server, or NAME= and any of these; repeat for several: the first is the baseline",
        metavar="DIR",
        action="append",
        default=[],
    ),
    "--against": dict(help="an earlier evaluation to compare with", metavar="DIR"),
    "--preferences": dict(help="preference set (.jsonl)", metavar="FILE"),
    "--labels": dict(help="answers of people (.jsonl), of `robostack label`", metavar="FILE"),
    "--gate": dict(help="exit 1 below the thresholds in this file (YAML or JSON)", metavar="FILE"),
    "--strict": dict(help="refuse rewards without a passed exam", action="store_true"),
    "--exam": dict(
        help="an exam that the rewards sat, where it is not in their folders; repeat for several",
        metavar="DIR",
        action="append",
        default=[],
        type=Path,
    ),
    "--reward": dict(
        help="the folder of a reward, keypoints, deviation, or file.py:Class; repeat for several",
        metavar="NAME",
        action="append",
        default=[],
    ),
}

SEVERAL = {"--policies": "--policy", "--stores": "--data"}  # what is given may be several


KEYS = {  # flag -> (key of the config, help); a repeated flag makes a list
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
    needs_out: bool = True
    keys: tuple[str, ...] = ()  # of the config that have a flag of their own, see KEYS
    resumes: bool = False  # whether a finished run can be gone on with
    forces: bool = True  # whether what is at `out` is only replaced with --force
    words: str = ""  # flag that bare words are values of, besides it


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
        actions.collect,
        takes=("--policy",),
    ),
    "cases": Verb(
        "scripted successes, near misses, failures, recoveries, hovering: for training and exams",
        "robostack cases --out runs/exam\n"
        "robostack cases --out runs/cases tasks='[Lift]' seeds=60 first_seed=30000 shifts='{}'",
        _config("cases", "CasesCommand"),
        actions.cases,
    ),
    "train bc": Verb(
        "clone demonstrations",
        "robostack train bc --data runs/demos --out runs/bc steps=800",
        _config("learn.bc", "BCConfig"),
        actions.train_bc,
        needs=("--stores",),
        takes=("--start",),
    ),
    "train reward": Verb(
        "learn a reward from successes and failures",
        "robostack train reward --data runs/tries --demos runs/demos --out runs/progress "
        "kind=progress\n"
        "robostack train reward --data runs/one-demo --start runs/progress --out runs/adapted "
        "kind=progress steps=100\n"
        "robostack train reward --data runs/tries --reward runs/world --reward runs/progress "
        "--out runs/both kind=combined combined.pessimism=0.5",
        _config("learn.reward", "RewardConfig"),
        actions.train_reward,
        needs=("--stores",),
        takes=("--demos", "--start", "--reward"),
    ),
    "train dpo": Verb(
        "improve a policy on preferences",
        "robostack train dpo --policy runs/bc --preferences runs/pairs.jsonl --demos runs/demos "
        "--out runs/dpo\n"
        "robostack train dpo --policy runs/bc --preferences runs/pairs.jsonl --demos runs/demos "
        "--out runs/best check_every=100 trials.episodes=60",
        _config("preferring", "TrainDPOCommand"),
        actions.train_dpo,
        needs=("--policy", "--preferences", "--demos"),
        takes=("--data",),
    ),
    "train guide": Verb(
        "a reward that steers a policy's sampler, from preferences",
        "robostack train guide --policy runs/bc --preferences runs/pairs.jsonl --out runs/guide\n"
        "robostack evaluate --policy runs/bc --out runs/steered runner.guide=runs/guide "
        "runner.guidance=2",
        _config("learn.guide", "GuideConfig"),
        actions.train_guide,
        needs=("--policy", "--preferences"),
        takes=("--data",),
    ),
    "train rl": Verb(
        "improve a policy on its own rollouts",
        "robostack train rl --policy runs/dpo --demos runs/demos --reward keypoints "
        "--out runs/rl weights='{keypoints: 1}' rl.iterations=6",
        _config("stages", "TrainRLCommand"),
        actions.train_rl,
        needs=("--policy", "--demos", "--reward"),
        takes=("--exam", "--strict"),
    ),
    "evaluate": Verb(
        "success rates with 95 % intervals, compared on the same starts",
        "robostack evaluate --policy runs/bc --policy runs/rl --out runs/compare\n"
        "robostack evaluate --suite metaworld-mt50 --policy expert --episodes 2\n"
        "robostack evaluate --policy runs/rl --against runs/bc-eval --out runs/rl-eval "
        "--require 0.7\n"
        "robostack evaluate --policy runs/rl --perturb light=1 --perturb camera=0.5 --out runs/odd",
        _config("batch", "BatchConfig"),
        actions.evaluate,
        needs=("--policies",),
        takes=("--against",),
        keys=("suite", "task", "episodes", "early-stop", "require", "perturb"),
        resumes=True,
        out="the results folder (default: runs/evaluate/ and what is evaluated)",
        needs_out=False,
    ),
    "serve": Verb(
        "answer robots and evaluations over the network with a policy's action chunks",
        "robostack serve --policy runs/rl\n"
        "robostack serve --policy runs/rl host=0.0.0.0 token_file=token.txt port=8000 steps=10\n"
        "robostack evaluate --policy ws://127.0.0.1:8000 --out runs/served",
        _config("policy.serve", "ServeConfig"),
        actions.serve,
        needs=("--policy",),
        out=None,
    ),
    "score": Verb(
        "judge episodes with rewards, into side-cars",
        "robostack score --data runs/tries --reward keypoints --reward runs/progress",
        None,
        judging.score,
        needs=("--data", "--reward"),
        takes=("--demos",),
        out=None,
    ),
    "exam": Verb(
        "examine rewards before anybody learns from them",
        "robostack cases --out runs/exam\n"
        "robostack exam runs/progress runs/world keypoints --data runs/exam --out runs/exam-card\n"
        "robostack exam my_reward.py:MyReward --data runs/exam --out runs/mine --gate gate.yaml",
        _config("exam.sheet", "ExamConfig"),
        judging.exam,
        needs=("--stores",),
        takes=("--reward", "--demos", "--gate"),
        out="the folder of the card and the numbers",
        forces=False,
        words="reward",
    ),
    "watch": Verb(
        "films of episodes with what rewards say of each picture",
        "robostack watch --data runs/exam --reward keypoints --reward runs/progress "
        "--out runs/watch.html",
        _config("footage", "WatchConfig"),
        judging.watch,
        needs=("--data", "--reward"),
        takes=("--demos",),
        out="the page (.html)",
        forces=False,
    ),
    "imagine": Verb(
        "what a world model imagines beside what became of it",
        "robostack imagine --data runs/exam --reward runs/world --out runs/imagined.html",
        _config("imagination", "ImagineConfig"),
        judging.imagine,
        needs=("--data", "--reward"),
        out="the page (.html)",
        forces=False,
    ),
    "propose": Verb(
        "a keypoint reward from marked pictures and a vision-language model",
        "robostack propose --data runs/demos --out runs/keypoints "
        "endpoint=http://127.0.0.1:8000/v1 model=NAME cameras=runs/demos/store/cameras.json",
        _config("rewards.keypoints.propose", "ProposeConfig"),
        judging.propose,
        needs=("--data",),
        out="the folder of the reward and its pictures",
    ),
    "prefer": Verb(
        "scores to preferences",
        "robostack prefer --data runs/tries --reward keypoints --reward runs/progress "
        "--out runs/pairs.jsonl weights='{outcome: 1, keypoints: 1, progress: 0.5}'\n"
        "robostack prefer --data runs/demos --policy runs/bc --reward runs/world "
        "--out runs/chunks.jsonl source=demonstrations "
        "weights='{world_model.rank: 1, demonstrated: 0.5}'",
        _config("prefer.compare", "PreferConfig"),
        actions.prefer,
        needs=("--data",),
        takes=("--reward", "--demos", "--policy", "--labels", "--exam", "--strict"),
        out="the preference set (.jsonl)",
    ),
    "label": Verb(
        "ask people which of two tries was better, on a local page",
        "robostack label --data runs/tries --out runs/labels.jsonl\n"
        "robostack prefer --data runs/tries --labels runs/labels.jsonl --out runs/ours.jsonl "
        "source=people",
        _config("labelling", "LabelConfig"),
        actions.label,
        needs=("--data",),
        out="the ledger of answers (.jsonl), gone on with where it is there",
        forces=False,
    ),
    "report": Verb(
        "one HTML file of a demo's results",
        "robostack report --data runs/demo --out runs/demo/report.html",
        None,
        actions.report,
        needs=("--data",),
        out="the page (.html)",
    ),
    "demo": Verb(
        "the whole ring: demonstrations to a policy improved by its rewards",
        "robostack demo --out runs/demo\n"
        "robostack demo --config configs/demo-full.yaml --out runs/demo-full",
        _config("demo", "DemoConfig"),
        actions.demo,
    ),
    "tasks": Verb(
        "every simulated task, what it asks, the suites, the perturbations",
        "robostack tasks",
        None,
        actions.tasks,
        out=None,
    ),
    "doctor": Verb(
        "what this machine has and lacks", "robostack doctor", None, actions.doctor, out=None
    ),
}
