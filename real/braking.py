"""One axis that can always still stop: the arithmetic below robostack.real.safety.

Time is counted in steps of the command clock and everything in units of one step: a position x, a
velocity v = x - x_before, an acceleration a = v - v_before; the jerk is a - a_before. So limits on
them are limits on the differences of the numbers that are sent, with nothing approximated.

`brake` is a law that brings any (v, a) to rest. A state is `safe` when following that law from
it stays within every limit until it rests. Whoever only moves to safe states always has a legal
next step, the law's own, because what follows it is the rest of the same path, bit for bit.
`toward` takes the step that was wished for, cut back until the state it leads to is safe.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LONGEST = 100_000  # steps; a stop that takes longer is none
REST = 1e-9  # of the jerk limit: slower than this is at rest
HALVINGS = 40
SAME = 1e-9  # closer than this, relatively, is as wished for
ROUNDED = 1e-13  # closer than this differs only because it was multiplied and divided
SHOWN = 4.0  # an axis that is measured to move a quarter as far as it was told to follows
NEAR = 0.95  # of the largest distance from what is measured: something holds the axis back


@njit(cache=True)
def brake(v, a, A, J):
    """The next acceleration on the way to v = a = 0, within +-A and a +- J.

    The one from which an immediate ramp to 0, J a step, would end exactly at v = 0: with n whole
    steps of ramp after it, |v| = (n + 1) a - J n (n + 1) / 2. Out of reach, the nearest.
    """
    speed = abs(v)
    n = math.floor((math.sqrt(1 + 8 * speed / J) - 1) / 2)
    wanted = (speed + J * n * (n + 1) / 2) / (n + 1)
    if v > 0:
        wanted = -wanted
    return min(max(wanted, a - J, -A), a + J, A)


@njit(cache=True)
def rest(x, v, a, A, J):
    """Where `brake` comes to rest."""
    for _ in range(LONGEST):
        if abs(v) <= REST * J and abs(a) <= REST * J:
            return x
        a = brake(v, a, A, J)
        v += a
        x += v
    return x


@njit(cache=True)
def safe(x, v, a, low, high, V, A, J):
    """Whether the state, |a| <= A, and all that `brake` makes of it, is within the limits."""
    for _ in range(LONGEST):
        if not (low <= x <= high and abs(v) <= V):
            return False
        if abs(v) <= REST * J and abs(a) <= REST * J:
            return True
        a = brake(v, a, A, J)
        v += a
        x += v
    return False


@njit(cache=True)
def toward(wanted, x, v, a, low, high, V, A, J):
    """The acceleration nearest to `wanted` that leads to a safe state; else `brake`'s."""
    wanted = min(max(wanted, a - J, -A), a + J, A)
    if safe(x + (v + wanted), v + wanted, wanted, low, high, V, A, J):
        return wanted
    good = brake(v, a, A, J)
    for _ in range(HALVINGS):
        middle = (good + wanted) / 2
        if safe(x + (v + middle), v + middle, middle, low, high, V, A, J):
            good = middle
        else:
            wanted = middle
    return good


@njit(cache=True)
def pursue(x, v, a, r, rv, ra, A, J):
    """The acceleration that brings x to a moving target without overshoot.

    The target is at r after this step, with velocity rv and acceleration ra. Seen from it, `brake`
    shall come to rest at 0: that is one equation, increasing in the acceleration, solved by
    halving. Where x is on the target already and the target is legal, this is to follow it exactly.
    """
    low, high = max(a - J, -A), min(a + J, A)
    exact = rv - v
    if abs(x + rv - r) <= REST * J and abs(exact - ra) <= REST * J and low <= exact <= high:
        return exact
    if rest(x + v + low - r, v + low - rv, low - ra, A, J) >= 0:
        return low
    if rest(x + v + high - r, v + high - rv, high - ra, A, J) <= 0:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if rest(x + v + middle - r, v + middle - rv, middle - ra, A, J) > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


@njit(cache=True)
def match(v, a, rv, ra, A, J):
    """The acceleration that brings v to a target's velocity without overshoot.

    The target has velocity rv after this step, which it reaches with acceleration ra.
    """
    return ra + brake(v - (rv - ra), a - ra, 2 * A, J)


@njit(cache=True)
def narrowed(legal_low, legal_high, x, v, a, low, high, V, A, J):
    """The range that is legal: an axis that was found outside its limits and came in stays in."""
    wider = legal_low < low or legal_high > high
    if wider and safe(x, v, a, low, high, V, A, J):
        return low, high
    return legal_low, legal_high


@njit(cache=True)
def follow(state, limits, wish, at, stop):
    """One step of an axis that goes after a position, in place.

    `state` f64[9] and `limits` f64[7] as in `step`. The wish is held within `error` of what is
    measured, where that is known. The derivatives of a wish that jumps, or that is held back, are
    taken to be 0: no axis could follow them.
    """
    x, v, a, before, rv_before, legal_low, legal_high = state[:7]
    low, high, V, A, J, _, error = limits
    legal_low, legal_high = narrowed(legal_low, legal_high, x, v, a, low, high, V, A, J)
    r = rv = np.nan
    if stop:
        wanted = brake(v, a, A, J)
    else:
        r = wish if np.isnan(at) else min(max(wish, at - error), at + error)
        r = min(max(r, low), high)
        rv = r - before
        if np.isnan(rv) or abs(rv) > V or r != wish:
            rv = 0.0
        ra = rv - rv_before
        if np.isnan(ra) or abs(ra) > A or r != wish:
            ra = 0.0
        wanted = pursue(x, v, a, r, rv, ra, A, J)
    a = toward(wanted, x, v, a, legal_low, legal_high, V, A, J)
    state[:7] = x + (v + a), v + a, a, r, rv, legal_low, legal_high


@njit(cache=True)
def owed(x, before, at):
    """How far an axis may be from where it is measured, because it was told to and has not shown.

    x is where it may have been, `before` and `at` what was and is measured. Only motion in the
    commanded direction shows anything, so what is measured by a sensor that stands still, and told
    again and again, never counts.
    """
    ahead, moved = x - before, at - before
    if np.isnan(ahead):
        return 0.0
    if ahead * moved > 0:
        ahead -= math.copysign(min(abs(ahead), SHOWN * abs(moved)), ahead)
    return ahead


@njit(cache=True)
def flow(state, limits, wish, at, stop, integrates):
    """One step of an axis that goes after a velocity, in place, as `follow`.

    Where the robot integrates the velocity, x is what is measured and what is `owed` to it, and
    both ends of that stay within the limits. Where it is integrated here, x goes on from itself.
    Either way what is measured keeps x from running away from it.
    """
    x, v, a, before, rv_before, legal_low, legal_high = state[:7]
    low, high, V, A, J, gain, error = limits
    rv = wish * gain
    if integrates:
        legal_low, legal_high = narrowed(legal_low, legal_high, x, v, a, low, high, V, A, J)
        ahead = x - at
    elif np.isnan(at) and np.isnan(before):  # nothing measures it
        x = ahead = 0.0
        legal_low, legal_high = low, high
    else:
        if not np.isnan(at):
            x, before = at + owed(x, before, at), at
        ahead = x - before
        legal_low, legal_high = min(low + max(ahead, 0.0), x), max(high + min(ahead, 0.0), x)
    if ahead * rv > error * abs(rv):
        rv = 0.0
    if stop:
        wanted, rv = brake(v, a, A, J), np.nan
    else:
        ra = rv - rv_before
        if np.isnan(ra) or abs(ra) > A:
            ra = 0.0
        wanted = match(v, a, rv, ra, A, J)
    a = toward(wanted, x, v, a, legal_low, legal_high, V, A, J)
    state[:7] = x + (v + a), v + a, a, before, rv, legal_low, legal_high


@njit(cache=True)
def held_back(state, limits, direction, at, stop):
    """Counts the steps in which an axis is told to go on and is measured to stay, in place.

    It is as far ahead as it may be, and where it is measured has not come on since by a tenth of
    that.
    """
    ahead, error = state[0] - at, limits[6]
    if stop or not (ahead * direction > 0 and abs(ahead) >= NEAR * error):
        state[7] = 0.0
    elif state[7] == 0 or abs(at - state[8]) > 0.1 * error:
        state[7], state[8] = 1.0, at
    else:
        state[7] += 1


@njit(cache=True)
def step(moving, integrates, states, limits, wishes, at, stop, out, altered):
    """One step of every axis, in place.

    `states` f64[n, 9]: x, v, a; the last target's position (of a moving axis that the robot
    integrates: what was measured last) and velocity, NaN without one; the range that is legal,
    which is wider than the limits where the axis was found outside them; for how many steps it has
    been held back, and where it was measured then.
    `limits` f64[n, 7]: low, high, velocity, acceleration, jerk; what a wish of 1 is in a step,
    for axes that are `moving`, which may be integrated here (`integrates`); the largest distance
    from what is measured. `wishes` and what is measured, `at`, f64[n]. With `stop` every axis
    brakes. `out` f64[n] is in the units of wishes; `altered` i64[n] counts those not granted.
    """
    for i in range(len(states)):
        if moving[i]:
            flow(states[i], limits[i], wishes[i], at[i], stop, integrates[i])
            out[i] = states[i, 1] / limits[i, 5]
            held_back(states[i], limits[i], wishes[i], at[i], stop)
        else:
            follow(states[i], limits[i], wishes[i], at[i], stop)
            out[i] = states[i, 0]
            held_back(states[i], limits[i], wishes[i] - at[i], at[i], stop)
        if not stop:
            differs, size = abs(out[i] - wishes[i]), 1 + abs(wishes[i])
            if differs < ROUNDED * size:
                out[i] = wishes[i]
            altered[i] += differs > SAME * size


@njit(cache=True)
def stopping(V, A, J):
    """Steps that `brake` takes at most, from whatever state within the limits."""
    most = 0
    for i in range(101):
        a = A * (i / 50 - 1)
        v = V if a <= 0 else min(max(V - a * a / (2 * J) + a / 2, 0.0), V)  # more is not safe
        steps = 0
        while steps < LONGEST and not (abs(v) <= REST * J and abs(a) <= REST * J):
            a = brake(v, a, A, J)
            v += a
            steps += 1
        most = max(most, steps)
    return most
