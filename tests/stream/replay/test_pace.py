import math

import pytest

from stream.replay.errors import ReplayError
from stream.replay.pace import Pace, parse_speed


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_parse_speed():
    assert parse_speed("max") == math.inf
    assert parse_speed("3600") == parse_speed("3600x") == 3600
    for text in ("", "fast", "0", "-1", "nan"):
        with pytest.raises(ReplayError, match="--speed"):
            parse_speed(text)


def test_event_time_falls_on_the_wall_clock():
    clock = Clock()
    pace = Pace(3600, clock)
    assert pace.wait(1_000_000) == 0
    assert pace.wait(1_000_000 + 3_600_000) == pytest.approx(1)
    clock.now += 3
    assert pace.wait(1_000_000 + 3_600_000) == pytest.approx(-2)
    assert pace.wait(0) < 0


def test_a_new_speed_starts_from_the_next_event():
    clock = Clock()
    pace = Pace(1, clock)
    pace.wait(0)
    clock.now += 500
    pace.speed = 10
    assert pace.wait(7_000) == 0
    assert pace.wait(17_000) == pytest.approx(1)
    pace.speed = math.inf
    assert pace.unlimited
    assert pace.wait(10**15) == 0
