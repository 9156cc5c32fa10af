"""One control period of operational-space control and physics in one compiled call.

robosuite computes OSC_POSE torques in Python at every physics substep, 25 times a control step,
which takes several times as long as the physics. Here the same law (Khatib 1987, doi
10.1109/JRA.1987.1087068, as robosuite 1.5 configures it: delta commands in the base frame, fixed
gains, position and orientation decoupled, posture kept in the nullspace) and MuJoCo's two half
steps run without Python and without the global lock. robostack.sim.control binds it to a robosuite
environment and says which ones fit.

Arrays are filled number by number: numba writes its messages about shapes that do not fit for every
assignment of a whole array, which would double the time that compiling takes.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding
import mujoco
import numpy as np
from numba import njit, types

POSTURE_KP = 10.0  # of the nullspace task, as in robosuite's nullspace_torques
POSTURE_KV = 2 * math.sqrt(POSTURE_KP)


def _library() -> ctypes.CDLL:
    folder = Path(mujoco.__file__).parent
    found = sorted([*folder.glob("libmujoco.so*"), *folder.glob("libmujoco*.dylib")])
    if not found:
        raise ImportError(f"no MuJoCo library in {folder}; reinstall mujoco")
    return ctypes.CDLL(str(found[0]))


_mujoco = _library()


def _function(name: str, *arguments: types.Type) -> types.ExternalFunction:
    """A MuJoCo function by name: called this way, the compiled code can be cached on disk."""
    address = ctypes.cast(getattr(_mujoco, name), ctypes.c_void_p).value
    llvmlite.binding.add_symbol(name, address)
    return types.ExternalFunction(name, types.void(*arguments))


_pointer = types.intp
mj_step1 = _function("mj_step1", _pointer, _pointer)
mj_step2 = _function("mj_step2", _pointer, _pointer)
mj_jac_site = _function("mj_jacSite", _pointer, _pointer, _pointer, _pointer, types.int32)
mj_full_m = _function("mj_fullM", _pointer, _pointer, _pointer)  # of mujoco < 3.10


class State(NamedTuple):
    """Views into MjData: they stay where they are for the life of the object."""

    qpos: np.ndarray
    qvel: np.ndarray
    ctrl: np.ndarray
    qM: np.ndarray
    qfrc_bias: np.ndarray
    site_xpos: np.ndarray
    site_xmat: np.ndarray


class Arms(NamedTuple):
    """Constants of R arms with n joints each."""

    qpos: np.ndarray  # i64[R, n] addresses
    dof: np.ndarray  # i64[R, n]
    actuator: np.ndarray  # i64[R, n]
    torque: np.ndarray  # f64[R, n, 2] limits [N m]
    site: np.ndarray  # i64[R] the controlled point
    base: np.ndarray  # f64[R, 3, 3] rotation of the base
    posture: np.ndarray  # f64[R, n] [rad] that the nullspace leans to
    slot: np.ndarray  # i64[R] where the arm's six numbers begin in the action
    limit: np.ndarray  # f64[R, 6, 2] of the action
    gain: np.ndarray  # f64[R, 6] action to metres and radians
    offset: np.ndarray  # f64[R, 6]
    kp: np.ndarray  # f64[R, 6]
    kd: np.ndarray  # f64[R, 6]
    stale: np.ndarray  # f64[R, n, n] inertia that robosuite uses in the first instant after a reset


class Fingers(NamedTuple):
    """Constants of G gripper actuators, and their ramp, which is state."""

    actuator: np.ndarray  # i64[G]
    slot: np.ndarray  # i64[G] in the action
    speed: np.ndarray  # f64[G] signed, a control step
    centre: np.ndarray  # f64[G] of the control range
    half: np.ndarray  # f64[G]
    ramp: np.ndarray  # f64[G] in [-1, 1], written


class Work(NamedTuple):
    """Memory that one call needs."""

    jacp: np.ndarray  # f64[3, nv]
    jacr: np.ndarray  # f64[3, nv]
    inertia: np.ndarray  # f64[nv, nv]
    goal: np.ndarray  # f64[R, 3]
    turn: np.ndarray  # f64[R, 3, 3]
    first: np.ndarray  # bool[1] whether no control step was made since the reset


@njit(nogil=True, cache=True)
def solve(a, b):
    """x of a x = b for symmetric positive definite a f64[n, n] and b f64[n, k].

    A singular a (an arm at full stretch) falls to the pseudo-inverse, which robosuite always uses.
    """
    n, k = b.shape
    low = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for q in range(j):
                s -= low[i, q] * low[j, q]
            if i > j:
                low[i, j] = s / low[j, j]
            elif s > 1e-14 * a[i, i]:
                low[i, i] = math.sqrt(s)
            else:
                return np.linalg.pinv(a) @ b
    x = b.copy()
    for c in range(k):
        for i in range(n):
            for q in range(i):
                x[i, c] -= low[i, q] * x[q, c]
            x[i, c] /= low[i, i]
        for i in range(n - 1, -1, -1):
            for q in range(i + 1, n):
                x[i, c] -= low[q, i] * x[q, c]
            x[i, c] /= low[i, i]
    return x


@njit(nogil=True, cache=True)
def rotation(vector):
    """Rotation matrix of a rotation vector f64[3], by way of a unit quaternion.

    robosuite rounds that quaternion to single precision. So does this: the 1e-7 rad between them
    would otherwise grow to millimetres once something is touched.
    """
    angle = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
    if angle <= 1e-12:
        return np.eye(3)
    q = np.empty(4, np.float32)
    q[0] = math.cos(angle / 2)
    for i in range(3):
        q[1 + i] = vector[i] / angle * math.sin(angle / 2)
    norm = np.dot(q, q)
    scale = math.sqrt(2.0 / norm)
    for i in range(4):
        q[i] = q[i] * scale
    square = np.empty((4, 4), np.float32)
    for i in range(4):
        for j in range(4):
            square[i, j] = q[i] * q[j]
    out = np.empty((3, 3))
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        out[i, i] = 1.0 - square[1 + a, 1 + a] - square[1 + b, 1 + b]
        out[i, a] = square[1 + i, 1 + a] - square[1 + b, 0]
        out[a, i] = square[1 + i, 1 + a] + square[1 + b, 0]
    return out


@njit(nogil=True, cache=True)
def _set_goals(action, state, arms, fingers, work):
    """New targets relative to the poses just reached, and one notch of the grippers' ramps."""
    for r in range(arms.site.shape[0]):
        delta = np.empty(6)
        for i in range(6):
            low, high = arms.limit[r, i, 0], arms.limit[r, i, 1]
            asked = min(max(action[arms.slot[r] + i], low), high)
            delta[i] = asked * arms.gain[r, i] + arms.offset[r, i]
        base = arms.base[r]
        here = state.site_xmat[arms.site[r]].reshape(3, 3)
        moved, turn = base @ delta[:3], base @ (rotation(delta[3:]) @ (base.T @ here))
        for i in range(3):
            work.goal[r, i] = state.site_xpos[arms.site[r], i] + moved[i]
            for j in range(3):
                work.turn[r, i, j] = turn[i, j]
    for g in range(fingers.actuator.shape[0]):
        sign = np.sign(action[fingers.slot[g]])
        fingers.ramp[g] = min(max(fingers.ramp[g] + fingers.speed[g] * sign, -1.0), 1.0)


@njit(nogil=True, cache=True)
def _torques(model, data, r, state, arms, work):
    """Joint torques f64[n] [N m] of arm r at this instant, before limits."""
    dof = arms.dof[r]
    n = dof.shape[0]
    site = arms.site[r]
    mj_jac_site(model, data, work.jacp.ctypes.data, work.jacr.ctypes.data, np.int32(site))
    jacobian, inertia = np.empty((6, n)), np.empty((n, n))
    for j in range(n):
        for i in range(3):
            jacobian[i, j], jacobian[3 + i, j] = work.jacp[i, dof[j]], work.jacr[i, dof[j]]
        for i in range(n):
            inertia[i, j] = arms.stale[r, i, j] if work.first[0] else work.inertia[dof[i], dof[j]]
    force = np.empty((6, 1))
    here, wanted = state.site_xmat[site].reshape(3, 3), work.turn[r]
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        twist = 0.0  # half the sum of the cross products of present and wanted axes
        for c in range(3):
            twist += 0.5 * (here[a, c] * wanted[b, c] - here[b, c] * wanted[a, c])
        linear = angular = 0.0
        for v in range(work.jacp.shape[1]):
            linear += work.jacp[i, v] * state.qvel[v]
            angular += work.jacr[i, v] * state.qvel[v]
        error = work.goal[r, i] - state.site_xpos[site, i]
        force[i, 0] = arms.kp[r, i] * error - arms.kd[r, i] * linear
        force[3 + i, 0] = arms.kp[r, 3 + i] * twist - arms.kd[r, 3 + i] * angular
    compliance = jacobian @ solve(inertia, jacobian.T.copy())
    linearly = solve(compliance[:3, :3].copy(), force[:3].copy())
    turning = solve(compliance[3:, 3:].copy(), force[3:].copy())
    lean = np.empty((n, 1))  # acceleration towards the posture
    for j in range(n):
        off = arms.posture[r, j] - state.qpos[arms.qpos[r, j]]
        lean[j, 0] = POSTURE_KP * off - POSTURE_KV * state.qvel[dof[j]]
    wrench, leaning = np.empty((6, 1)), solve(compliance, jacobian @ lean)
    for i in range(3):
        wrench[i, 0] = linearly[i, 0] - leaning[i, 0]
        wrench[3 + i, 0] = turning[i, 0] - leaning[3 + i, 0]
    torque, posed = jacobian.T @ wrench, inertia @ lean
    for j in range(n):
        torque[j, 0] = torque[j, 0] + posed[j, 0] + state.qfrc_bias[dof[j]]
    return torque[:, 0]


@njit(nogil=True, cache=True)
def control_step(model, data, substeps, action, state, arms, fingers, work):
    """Advance MuJoCo by `substeps` under one action. `model` and `data` are addresses."""
    for substep in range(substeps):
        mj_step1(model, data)
        if substep == 0:
            _set_goals(action, state, arms, fingers, work)
        mj_full_m(model, work.inertia.ctypes.data, state.qM.ctypes.data)
        for r in range(arms.site.shape[0]):
            torque = _torques(model, data, r, state, arms, work)
            for j in range(torque.shape[0]):
                low, high = arms.torque[r, j, 0], arms.torque[r, j, 1]
                state.ctrl[arms.actuator[r, j]] = min(max(torque[j], low), high)
        for g in range(fingers.actuator.shape[0]):
            asked = fingers.centre[g] + fingers.half[g] * fingers.ramp[g]
            state.ctrl[fingers.actuator[g]] = asked
        work.first[0] = False
        mj_step2(model, data)
