"""What dpo_gain.py plays: the tasks and how each is cloned and tried, and the arms."""

from __future__ import annotations

from dataclasses import dataclass

from robostack.prefer.terms import OUTCOME
from robostack.sim.arena import BranchConfig


@dataclass(frozen=True)
class Setting:
    """How a task is cloned to between 30 and 70 %, and where its tries begin."""

    demos: int
    cloning: int  # steps
    branch: BranchConfig
    starts: int = 40  # rollouts along which tries begin
    keep: float = 0.7  # of the comparisons, those of largest margin
    seeds: int = 2
    openings: float = 0.0  # of the cloning, to learn what the instruction means


def branch(points: int, every: int, span: int) -> BranchConfig:
    """Tries cut off after some 2 s: what a chunk has done shows, and what came later does not."""
    return BranchConfig(points=points, every=every, span=span)


TASKS = {
    "Lift": Setting(8, 1200, branch(points=5, every=8, span=32), seeds=3),
    # to the grasp; two thirds of the comparisons are between tries that both grasp, or both do not
    "PickPlaceCan": Setting(16, 2000, branch(points=5, every=10, span=48), 80, 0.35),
    "tabletop/pick": Setting(
        1000, 2500, branch(points=5, every=15, span=32), 120, 0.5, openings=0.3
    ),
}
TOLD = {"weights": {OUTCOME: 1.0, "keypoints": 1.0}}  # what differs of all preferences
ALL_TERMS = {
    OUTCOME: 1.0,
    "keypoints": 1.0,
    "progress": 0.5,
    "world_model": 0.5,
    "world_model.rank": 0.25,
    "success": 0.25,
    "deviation.rank": 0.25,
}


@dataclass(frozen=True)
class Arm:
    """One way to go on from the cloned policy, or from that of another arm."""

    prefer: dict | None = None  # what differs of the preferences; None: there are none
    learn: dict | None = None  # what differs of learning from them; None: nothing is learned
    best_of: int = 1  # chunks at inference
    judge: str = ""  # of these: an arm (implicit reward against the cloned policy), or a reward
    guide: str = ""  # the arm from whose pairs a reward of noisy chunks learns, which guides
    acts: str = ""  # the arm whose policy acts, where nothing is learned
    start: str = "bc"  # the arm whose policy tries and goes on learning
    led: int = 0  # of the tries of a state, those that the keypoint program leads


MAIN = {
    "dpo": Arm({}, {}),
    "dpo twice": Arm({}, {}, start="dpo"),
    "dpo best of 8": Arm(best_of=8, judge="world_model", acts="dpo"),
}
INFERENCE = {
    "cloned best of 8": Arm(best_of=8, judge="world_model", acts="bc"),
    "cloned best of 8 by dpo": Arm(best_of=8, judge="dpo", acts="bc"),
    "cloned guided": Arm(guide="dpo", acts="bc"),
    "dpo guided": Arm(guide="dpo", acts="dpo"),
}
CONTROLS = {
    "more cloning": Arm(),
    "shuffled": Arm({"shuffle": True}, {}),
    "winners": Arm({}, {"objective": "rwr"}),
}
SOURCES = {
    f"by {name}": Arm({"weights": {name: 1.0}}, {})
    for name in (OUTCOME, "keypoints", "progress", "world_model", "success")
} | {
    "by deviation": Arm({"weights": {"deviation.rank": 1.0}}, {}),
    "by imagination": Arm({"weights": {"world_model.rank": 1.0}}, {}),
    "by all": Arm({"weights": ALL_TERMS}, {}),
}
PAIRS = {f"{share:.0%} of the pairs": Arm({"keep": share}, {}) for share in (0.09, 0.18, 0.35)}
LED = {
    "led": Arm({}, {}, led=2),
    "led winners": Arm({}, {"objective": "rwr"}, led=2),
    "led twice": Arm({}, {}, start="led", led=2),
    "led shuffled": Arm({"shuffle": True}, {}, led=2),
    "led best of 8": Arm(best_of=8, judge="world_model", acts="led"),
}
METHOD = {
    "first chunk only": Arm({"clip": 0}, {}),
    "frozen backbone": Arm({}, {"freeze": True}),
    "soft labels": Arm({}, {"temperature": 1.0}),
    "no safeguard": Arm({}, {"safeguard": 0.0}),
    "no anchor": Arm({}, {"anchor": 0.0}),
}
SETS = {
    "main": MAIN,
    "inference": INFERENCE,
    "controls": CONTROLS,
    "led": LED,
    "sources": SOURCES,
    "pairs": PAIRS,
    "method": METHOD,
}
ARMS = {name: arm for arms in SETS.values() for name, arm in arms.items()}
