"""Tasks for two Pandas: lift a pot, put a peg in a hole, hand a hammer over, carry a payload."""

from robostack.sim.tasks.task import Task

_HANDS = ("agentview", "robot0_eye_in_hand", "robot1_eye_in_hand")

TASKS = [
    Task(
        name="TwoArmLift",
        instruction="lift the pot by both handles",
        keypoints={"object": "site:pot_handle0", "target": "site:pot_handle1"},
        horizon=250,
        arms=2,
        cameras=_HANDS,
    ),
    Task(
        name="TwoArmPegInHole",
        instruction="put the peg into the hole",
        keypoints={"object": "peg_main", "target": "hole_main"},
        horizon=250,
        support=None,
        arms=2,
        cameras=_HANDS,
    ),
    Task(
        name="TwoArmHandover",
        instruction="hand the hammer over to the other arm",
        keypoints={"object": "hammer_root"},
        horizon=250,
        arms=2,
        cameras=_HANDS,
    ),
    Task(
        name="TwoArmTransport",
        instruction="bring the payload to the target bin and the trash to the trash bin",
        keypoints={
            "object": "payload_root",
            "target": "transport_target_bin_root",
            "trash": "trash_main",
        },
        horizon=500,
        support=lambda suite: suite.table_offsets[0],
        spacious=False,
        arms=2,
        cameras=("shouldercamera0", "shouldercamera1", *_HANDS[1:]),
    ),
]
