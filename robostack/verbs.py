"""The verbs of the `robostack` command: what each takes, and the function that does it. Those about
stores of episodes are in data_verbs.py."""

from __future__ import annotations

from robostack import actions, judging
from robostack.data_verbs import DATA
from robostack.robot_verbs import ROBOT
from robostack.verb import Verb, config_of

VERBS: dict[str, Verb] = {
    "collect": Verb(
        "episodes of a scripted expert or of a policy",
        "robostack collect --out runs/demos seeds=20 noise=0.15\n"
        "robostack collect --policy runs/bc --out runs/tries by=branch seeds=24 branch.tries=4",
        config_of("stages", "CollectCommand"),
        actions.collect,
        takes=("--policy",),
    ),
    "teleop": Verb(
        "demonstrations by a person, with a page in the browser, a gamepad, a keyboard, ...",
        "robostack teleop --out runs/mine env.task=Stack episodes=20\n"
        "robostack teleop --out runs/mine device=gamepad review=clean\n"
        "robostack teleop --out runs/mine device=keyboard page.on=false\n"
        "robostack teleop --out runs/arm env.real=configs/robot/sim.yaml task='lift the cube'\n"
        "robostack teleop --calibrate device=gamepad --out configs/teleop/my-pad.yaml\n"
        "robostack train bc --data runs/mine --out runs/bc",
        config_of("collecting.command", "TeleopConfig"),
        actions.teleop,
        takes=("--calibrate",),
        out="the folder of the session, gone on with where it is there; with --calibrate a file",
        forces=False,
    ),
    "cases": Verb(
        "scripted successes, near misses, failures, recoveries, hovering: for training and exams",
        "robostack cases --out runs/exam\n"
        "robostack cases --out runs/cases tasks='[Lift]' seeds=60 first_seed=30000 shifts='{}'",
        config_of("cases", "CasesCommand"),
        actions.cases,
    ),
    "train bc": Verb(
        "clone demonstrations",
        "robostack train bc --data runs/demos --out runs/bc steps=800",
        config_of("learn.bc", "BCConfig"),
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
        "--out runs/both kind=combined combined.pessimism=0.5\n"
        "robostack train reward --data runs/demos --out runs/keypoints kind=keypoints "
        "keypoints.cameras=runs/demos/store/cameras.json",
        config_of("learn.reward", "RewardConfig"),
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
        config_of("preferring", "TrainDPOCommand"),
        actions.train_dpo,
        needs=("--policy", "--preferences", "--demos"),
        takes=("--data",),
    ),
    "train guide": Verb(
        "a reward that steers a policy's sampler, from preferences",
        "robostack train guide --policy runs/bc --preferences runs/pairs.jsonl --out runs/guide\n"
        "robostack evaluate --policy runs/bc --out runs/steered runner.guide=runs/guide "
        "runner.guidance=2",
        config_of("learn.guide", "GuideConfig"),
        actions.train_guide,
        needs=("--policy", "--preferences"),
        takes=("--data",),
    ),
    "train rl": Verb(
        "improve a policy on its own rollouts",
        "robostack train rl --policy runs/dpo --demos runs/demos --reward keypoints "
        "--out runs/rl weights='{keypoints: 1}' rl.iterations=6\n"
        "robostack train rl --policy runs/bc --demos runs/demos --reward keypoints "
        "--out runs/ppo weights='{keypoints: 1}' rl.algorithm=ppo check=true --workers ray\n"
        "robostack train rl --policy runs/bc --demos runs/demos --out runs/arm weights='{}' "
        "rl.algorithm=filtered env.real=configs/robot/sim.yaml env.task='lift the red cube'",
        config_of("practising", "TrainRLCommand"),
        actions.train_rl,
        needs=("--policy", "--demos"),
        takes=("--reward", "--exam", "--strict"),
    ),
    "evaluate": Verb(
        "success rates with 95 % intervals, compared on the same starts",
        "robostack evaluate --policy runs/bc --policy runs/rl --out runs/compare\n"
        "robostack evaluate --suite metaworld-mt50 --policy expert --episodes 2\n"
        "robostack evaluate --policy runs/rl --against runs/bc-eval --out runs/rl-eval "
        "--require 0.7\n"
        "robostack evaluate --policy runs/rl --perturb light=1 --perturb camera=0.5 --out runs/odd",
        config_of("batch", "BatchConfig"),
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
        config_of("policy.serve", "ServeConfig"),
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
        config_of("exam.sheet", "ExamConfig"),
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
        config_of("footage", "WatchConfig"),
        judging.watch,
        needs=("--data", "--reward"),
        takes=("--demos",),
        out="the page (.html)",
        forces=False,
    ),
    "imagine": Verb(
        "what a world model imagines beside what became of it",
        "robostack imagine --data runs/exam --reward runs/world --out runs/imagined.html",
        config_of("imagination", "ImagineConfig"),
        judging.imagine,
        needs=("--data", "--reward"),
        out="the page (.html)",
        forces=False,
    ),
    "propose": Verb(
        "a keypoint reward from marked pictures and a vision-language model",
        "robostack propose --data runs/demos --out runs/keypoints "
        "endpoint=http://127.0.0.1:8000/v1 model=NAME cameras=runs/demos/store/cameras.json",
        config_of("rewards.keypoints.propose", "ProposeConfig"),
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
        config_of("prefer.compare", "PreferConfig"),
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
        config_of("labelling", "LabelConfig"),
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
        config_of("demo", "DemoConfig"),
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
    **DATA,
    **ROBOT,
}
