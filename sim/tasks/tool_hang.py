"""ToolHang: put the hook frame into its stand, then hang the tool on it."""

from robostack.sim.tasks.task import Task

TASK = Task(
    name="ToolHang",
    instruction="put the frame into the stand and hang the tool on the frame",
    keypoints={
        "object": "site:frame_mount_site",
        "target": "site:stand_mount_site",
        "tool": "site:tool_hole1_center",
    },
    horizon=500,
)
