"""Meta-World's fifty tasks by name, and what is asked for in each: no simulator is imported here.

Coloured balls are Meta-World's own goal markers, which its pictures show. Where nothing else in
the scene tells the goal (reach, push, pick-place), the instruction names the ball. Left, right and
forward are the robot's.
"""

from __future__ import annotations

PREFIX = "metaworld/"

INSTRUCTIONS: dict[str, str] = {  # in the order of MT50
    "assembly-v3": "put the ring with the green handle over the peg",
    "basketball-v3": "drop the basketball into the hoop",
    "bin-picking-v3": "move the green cube from the red bin to the blue bin",
    "box-close-v3": "put the lid on the box",
    "button-press-topdown-v3": "press the red button down",
    "button-press-topdown-wall-v3": "reach over the wall and press the red button down",
    "button-press-v3": "push the red button in",
    "button-press-wall-v3": "reach over the wall and push the red button in",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull the mug away from the coffee machine to the green ball",
    "coffee-push-v3": "push the mug under the coffee machine",
    "dial-turn-v3": "turn the dial",
    "disassemble-v3": "lift the ring with the green handle off the peg",
    "door-close-v3": "close the door",
    "door-lock-v3": "lock the door",
    "door-open-v3": "open the door",
    "door-unlock-v3": "unlock the door",
    "hand-insert-v3": "put the gripper into the hole in the table",
    "drawer-close-v3": "push the drawer shut",
    "drawer-open-v3": "pull the drawer open",
    "faucet-open-v3": "turn the faucet's handle to the right",
    "faucet-close-v3": "turn the faucet's handle to the left",
    "hammer-v3": "drive the nail in with the hammer",
    "handle-press-side-v3": "press down the red handle that lies sideways",
    "handle-press-v3": "press the red handle down",
    "handle-pull-side-v3": "pull up the red handle that lies sideways",
    "handle-pull-v3": "pull the red handle up",
    "lever-pull-v3": "pull the lever up",
    "pick-place-wall-v3": "lift the red puck over the wall to the blue ball",
    "pick-out-of-hole-v3": "lift the red puck out of the hole to the blue ball",
    "pick-place-v3": "pick up the red puck and hold it at the blue ball",
    "plate-slide-v3": "slide the black plate forward into the goal",
    "plate-slide-side-v3": "slide the black plate to the left into the goal",
    "plate-slide-back-v3": "slide the black plate back out of the goal",
    "plate-slide-back-side-v3": "slide the black plate to the right out of the goal",
    "peg-insert-side-v3": "insert the green peg into the hole in the side of the block",
    "peg-unplug-side-v3": "pull the plug out of the socket",
    "soccer-v3": "push the soccer ball into the goal",
    "stick-push-v3": "push the thermos to the green ball with the blue stick",
    "stick-pull-v3": "pull the thermos to the green ball with the blue stick",
    "push-v3": "push the red puck to the green ball",
    "push-wall-v3": "push the red puck around the wall to the green ball",
    "push-back-v3": "pull the brown cube back to the green ball",
    "reach-v3": "move the gripper to the red ball",
    "reach-wall-v3": "move the gripper over the wall to the red ball",
    "shelf-place-v3": "put the blue cube on the shelf",
    "sweep-into-v3": "sweep the brown cube into the hole in the table",
    "sweep-v3": "sweep the brown cube to the right side of the table",
    "window-open-v3": "slide the window open",
    "window-close-v3": "slide the window closed",
}

MT10 = (
    "reach-v3",
    "push-v3",
    "pick-place-v3",
    "door-open-v3",
    "drawer-open-v3",
    "drawer-close-v3",
    "button-press-topdown-v3",
    "peg-insert-side-v3",
    "window-open-v3",
    "window-close-v3",
)
