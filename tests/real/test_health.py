"""Rates, ages and what follows from them."""

from dataclasses import replace

import numpy as np
import pytest
from arms import jointed

from robostack.real.health import ERROR, OK, STALE, WARN, Health, Pulse, doubts, summary
from robostack.real.robot import Timeouts


def heard(hz, seconds=5.0, age=0.01, **kinds):
    """A pulse of 20 Hz, expected, that came at `hz`."""
    pulse = Pulse(20.0, max_age=0.2, **kinds)
    for i in range(int(hz * seconds)):
        pulse.tick(i / hz, age)
    return pulse, (int(hz * seconds) - 1) / hz


@pytest.mark.parametrize(("hz", "level"), [(20, OK), (17, OK), (15, WARN), (60, OK)])
def test_a_stream_is_well_while_it_comes_at_its_rate(hz, level):
    pulse, end = heard(hz)
    found = pulse.health(end)
    assert found.level == level and found.values["hz"] == pytest.approx(hz, rel=0.02)
    assert found.values["age_ms_median"] == pytest.approx(10)


def test_silence_is_stale_and_old_messages_are_an_error():
    pulse, end = heard(20)
    assert pulse.health(end + 0.2).level == OK
    found = pulse.health(end + 3.5)
    assert found.level == STALE and found.message == "silent for 3.5 s"
    assert Pulse(20.0).health(0.0).message == "nothing came, expected 20 Hz"
    late, end = heard(20, age=0.4)
    assert late.health(end).level == ERROR and "at most 200 ms" in late.health(end).message


def test_what_is_not_expected_is_never_bad():
    assert Pulse().health(0.0) == Health(OK, "nothing came", Pulse().health(0.0).values)
    pulse = Pulse()
    pulse.tick(0.0, 0.1)
    assert pulse.health(100.0).level == OK


def test_the_summary_is_the_worst_and_names_every_one_that_is_bad():
    parts = {"a": Health(OK, "1"), "b": Health(WARN, "slow"), "c": Health(STALE, "silent")}
    assert summary(parts) == Health(STALE, "c: silent; b: slow")
    assert summary(parts | {"d": Health(ERROR, "old")}).level == ERROR
    assert summary({"a": Health(OK, "1")}) == Health(OK, "1 are well")


def test_the_median_age_decides_and_one_late_message_does_not():
    pulse = Pulse(20.0, max_age=0.2)
    ages = np.full(100, 0.05)
    ages[50] = 2.0
    for i, age in enumerate(ages):
        pulse.tick(i / 20, age)
    assert pulse.health(99 / 20).level == OK


def test_what_a_file_allows_that_a_careful_one_would_not_is_said():
    robot = jointed()
    assert doubts(robot, 0.14) == [
        "timeouts.estop is 0: an emergency stop that is unplugged is not noticed"
    ]
    careless = replace(robot, timeouts=Timeouts(alive=5.0, estop=0.5))
    slow, late = doubts(careless, 0.3)
    assert "up to 0.30 s to come to rest" in slow and "timeouts.alive is 5 s" in late
