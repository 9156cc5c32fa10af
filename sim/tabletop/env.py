"""The tabletop tasks as environments: scenes from robostack.sim.tabletop.layout, and success."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np

from robostack.sim.env import EnvConfig
from robostack.sim.robosuite_env import RobosuiteEnv, make_suite, quiet_robosuite
from robostack.sim.scene import Scene
from robostack.sim.tabletop import expert
from robostack.sim.tabletop.layout import (
    SHAPES,
    TASKS,
    Layout,
    Request,
    Thing,
    aim,
    draw,
    holds,
    requests,
)
from robostack.sim.tasks.task import Task

LIFTED = 0.05  # [m] above where it stood
STILL = (0.02, 0.3)  # [m/s], [rad/s]
_LEVEL = 0.006  # [m] by which a thing at rest may seem to float or sink
_CENTRED = 0.025  # [m] between the axes of two stacked things
_HORIZONS = {"pick": 130, "place": 240, "stack": 210}  # 1.5 times the expert's slowest success


class TabletopEnv(RobosuiteEnv):
    """Who lifts a thing that was not asked for has failed, whatever follows."""

    layout: Layout  # of the present episode

    def __init__(self, config: EnvConfig):
        super().__init__(config)
        from robostack.sim.tabletop.suite import ORIGIN, POOL

        self.origin = ORIGIN
        model = self.model
        self._joints = {name: model.joint(f"{name}_joint0") for name in POOL}
        self._geoms = {name: model.geom(f"{name}_g0").id for name in POOL}
        self._coloured = [model.geom(f"{n}_g0{v}").id for n in POOL for v in ("", "_vis")]
        bodies = [model.body(i).name.startswith("gripper") for i in range(model.nbody)]
        self._is_gripper = np.array(bodies)[model.geom_bodyid]
        self._wrong = False

    # hooks ---------------------------------------------------------------------------------
    def _find_task(self, name: str) -> Task:
        env = weakref.proxy(self)  # which has the task, and would be kept by it
        return Task(
            name=name,
            instruction="",
            keypoints={},
            horizon=max(_HORIZONS[kind] for kind in TASKS[name][0]),
            expert=lambda scene: env.do_as_asked(scene),
            cameras=("tableview", "robot0_eye_in_hand"),
            support=lambda suite: env.origin,
        )

    def _make_suite(self, config: EnvConfig):
        with quiet_robosuite():
            import robostack.sim.tabletop.suite  # noqa: F401  robosuite finds it by name
        return make_suite("Tabletop", config.robot, config.controller)

    def _begin(self, seed: int) -> None:
        self._set_layout(draw(seed, self.task.name))
        self._suite.layout = self.layout
        super()._begin(seed)

    def _set_layout(self, layout: Layout, wrong: bool = False) -> None:
        self.layout, self.instruction, self._wrong = layout, layout.instruction, wrong
        self._offsets: dict[Request, np.ndarray] = {}  # of goals from their references
        # what is parked has neither weight nor contacts, which would cost a third of the speed
        used = {thing.body for thing in layout.things}
        for name, geom in self._geoms.items():
            self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = name in used
            self.model.body_gravcomp[self.model.geom_bodyid[geom]] = name not in used

    def _advance(self, action: np.ndarray) -> None:
        super()._advance(action)
        self._wrong = self._wrong or any(
            self._risen(thing) > LIFTED
            for thing in self.layout.things
            if thing != self.layout.mover
        )

    def _keypoints(self) -> dict[str, np.ndarray]:
        points = super()._keypoints()
        request = self.layout.request
        points |= {f"thing:{t.name}": self._position(t) for t in self.layout.things}
        points["object"] = self._position(self.layout.mover)
        if request.kind == "place":
            rest = self.origin[2] + SHAPES[self.layout.mover.shape][2]
            points["target"] = np.array([*self._goal(request), rest])
        elif request.kind == "stack":
            points["target"] = self._position(self.layout.reference)
        return points

    def _match_looks(self) -> None:
        super()._match_looks()
        if self.renderer is not None:
            self.renderer.model.geom_rgba[self._coloured] = self.model.geom_rgba[self._coloured]

    def _save(self) -> tuple:
        return super()._save(), self.layout, self._wrong

    def _load(self, saved: tuple) -> None:
        base, layout, wrong = saved
        super()._load(base)
        self._set_layout(layout, wrong)

    # where things are ----------------------------------------------------------------------
    def _position(self, thing: Thing) -> np.ndarray:
        start = self._joints[thing.body].qposadr[0]
        return self.data.qpos[start : start + 3].copy()

    def _risen(self, thing: Thing) -> float:
        """Height [m] above where it stood on the table."""
        return self._position(thing)[2] - self.origin[2] - SHAPES[thing.shape][2]

    def _left_alone(self, thing: Thing) -> bool:
        """Whether it is at rest and no part of the gripper touches it."""
        start = self._joints[thing.body].dofadr[0]
        velocity = self.data.qvel[start : start + 6]
        if np.linalg.norm(velocity[:3]) > STILL[0] or np.linalg.norm(velocity[3:]) > STILL[1]:
            return False
        pairs = self.data.contact.geom
        ours = pairs[(pairs == self._geoms[thing.body]).any(axis=1)]
        return not self._is_gripper[ours].any()

    def _touch(self, first: Thing, second: Thing) -> bool:
        pair = {self._geoms[first.body], self._geoms[second.body]}
        return any(set(found) == pair for found in self.data.contact.geom.tolist())

    def _goal(self, request: Request) -> np.ndarray:
        """Where f64[2] in the world to put the mover; it goes along if the reference is pushed."""
        if request not in self._offsets:  # it is asked for many times a step, and never changes
            spots = np.array([(thing.x, thing.y) for thing in self.layout.things])
            place = aim(spots, request.mover, request.reference, request.relation)
            self._offsets[request] = place - spots[request.reference]
        return self._offsets[request] + self._position(self.layout.things[request.reference])[:2]

    # success -------------------------------------------------------------------------------
    def _success(self) -> bool:
        if self._wrong:
            return False
        layout = self.layout
        mover = layout.mover
        if layout.request.kind == "pick":
            return self._risen(mover) >= LIFTED
        if not self._left_alone(mover):
            return False
        offset = self._position(mover) - self._position(layout.reference)
        if layout.request.kind == "place":
            on_table = abs(self._risen(mover)) <= _LEVEL
            return on_table and holds(layout.request.relation, offset[:2])
        height = SHAPES[mover.shape][2] + SHAPES[layout.reference.shape][2]
        above = abs(offset[2] - height) <= _LEVEL and np.linalg.norm(offset[:2]) <= _CENTRED
        return above and self._touch(mover, layout.reference)

    def _truth(self, success: bool) -> float | None:
        """Reach, raise, bring: 0 from the moment that a wrong thing was lifted."""
        if success or self._wrong:
            return float(success)
        points, risen = self._keypoints(), self._risen(self.layout.mover)
        reach = 1 - np.tanh(10 * np.linalg.norm(points["gripper"] - points["object"]))
        raised = np.clip(risen / LIFTED, 0, 1)
        if self.layout.request.kind == "pick":
            return float(0.4 * reach + 0.5 * raised)
        bring = 1 - np.tanh(5 * np.linalg.norm(points["object"] - points["target"]))
        return float(0.2 * reach + 0.2 * raised + 0.5 * bring)

    # experts -------------------------------------------------------------------------------
    @property
    def handled(self) -> str:
        return f"{self.layout.mover.body}_main"

    def other_requests(self) -> list[Request]:
        """Requests that move another thing than the one that was asked for."""
        asked, held_out = self.layout.request, TASKS[self.task.name][1]
        fitting = requests(self.layout.things, asked.kind, held_out)
        return [request for request in fitting if request.mover != asked.mover]

    def do_as_asked(self, scene: Scene) -> Iterator[np.ndarray]:
        """Looks up what is asked when the first action is wanted: before the first episode there is
        nothing yet, and a plan that is never begun only says that there is an expert."""
        yield from self.carry_out(self.layout.request, scene)

    def carry_out(self, request: Request, scene: Scene | None = None) -> Iterator[np.ndarray]:
        """Actions f32[7] that do what `request` says, be it what the instruction asks or not."""
        scene, things = scene or self.scene, self.layout.things
        mover = things[request.mover]
        if request.kind == "pick":
            return expert.pick(scene, mover)
        reference = things[request.reference]
        if request.kind == "stack":
            return expert.stack(scene, mover, reference)
        return expert.place(scene, mover, lambda: self._goal(request), self.origin[2])
