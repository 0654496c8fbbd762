"""Bounds of event times, and wrong clocks seen by the broker's timestamps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.events import Purchase, View
from stream.config.durations import DAY_MS, HOUR_MS, MINUTE_MS
from stream.config.settings import Settings
from stream.pipeline.event_times import EventTimes, zone_faults
from stream.testing import PipelineDriver
from tests.logs import START, TARGETS

RULES = EventTimes(earliest=START - DAY_MS, ahead=600_000, future=DAY_MS)

around = st.one_of(
    st.sampled_from([-1, 0, 1, START]), st.integers(START - 3 * DAY_MS, START + 3 * DAY_MS)
)


REPLAY = EventTimes(RULES.earliest, None, None)


@pytest.mark.slow
@given(
    st.lists(st.tuples(around, around), min_size=1, max_size=30), st.sampled_from([RULES, REPLAY])
)
def test_columns_follow_the_rules_of_one_event(
    pairs: list[tuple[int, int]], rules: EventTimes
) -> None:
    times, stamps = np.array(pairs, np.int64).T
    bad = [rules.fault(*pair) is not None for pair in pairs]
    assert rules.faulty(times, stamps).tolist() == bad
    good = ~np.array(bad)
    taken, skews = rules.take(times[good], stamps[good])
    want = [rules.taken(*pair) for pair in pairs if rules.fault(*pair) is None]
    assert taken.tolist() == want
    assert skews.ahead == sum(a != b for a, b in zip(want, times[good].tolist(), strict=True))


@pytest.mark.parametrize(
    ("hours", "zone"),
    [
        (8, "UTC+8"),
        (-5, "UTC-5"),
        (5.5, "UTC+5:30"),
        (14, "UTC+14"),
        (5.75, "UTC+5:45"),
        (8.75, "UTC+8:45"),
        (12.75, "UTC+12:45"),
        (13.75, "UTC+13:45"),
        (-3.5, "UTC-3:30"),
    ],
)
def test_local_time_written_as_utc_is_named(hours: float, zone: str) -> None:
    rng = np.random.default_rng(1)
    arrived = START + np.arange(200) * MINUTE_MS
    times = arrived - rng.integers(0, 3_000, 200)
    times[::2] += int(hours * HOUR_MS)
    _, skews = RULES.take(times, arrived)
    (told,) = zone_faults(skews.ahead, skews.behind, skews.offsets)
    assert told.startswith(f"100 events have times {abs(hours):g} h")
    assert f"({zone})" in told


@pytest.mark.parametrize("minutes", [15, 45, -15, -345])
def test_quarters_of_hours_that_are_no_time_zone(minutes: int) -> None:
    arrived = START + np.arange(200) * MINUTE_MS
    _, skews = RULES.take(arrived + minutes * MINUTE_MS, arrived)
    assert zone_faults(skews.ahead, skews.behind, skews.offsets) == []


def test_devices_that_send_hours_later_are_no_time_zone() -> None:
    rng = np.random.default_rng(2)
    arrived = START + np.arange(2_000) * MINUTE_MS
    _, skews = RULES.take(arrived - rng.integers(0, 12 * HOUR_MS, 2_000), arrived)
    assert skews.behind > 1_900
    assert zone_faults(skews.ahead, skews.behind, skews.offsets) == []


@pytest.mark.parametrize("clock", ["auto", "wall"])
@pytest.mark.parametrize("batch", [1, 4096])
@pytest.mark.parametrize("ahead", [10 * HOUR_MS, 8 * HOUR_MS, 30 * MINUTE_MS])
def test_a_clock_ahead_makes_no_right_event_late(clock: str, batch: int, ahead: int) -> None:
    """A front end writes views in local time, the till writes the purchases of the same users."""
    driver = PipelineDriver(Scorer.rhythm(TARGETS), Settings(worker={"clock": clock}))
    records = []
    for i in range(20):
        now = START + i * HOUR_MS
        view = View(event_id=f"v{i}", user_id="ann", event_time=now + ahead)
        bought = Purchase(event_id=f"p{i}", user_id="ann", event_time=now + 1_000, price=1.0)
        records += [(b"ann", encode(view), now), (b"ann", encode(bought), now + 1_000)]
    driver.pipe_raw(records, batch)
    counters = driver.pipeline.counters
    assert (counters.accepted, counters.late, counters.ahead) == (40, 0, 20)
    record = driver.records()["ann"]
    assert int(record["orders"]) == 20
    assert int(record["last_time"]) == START + 19 * HOUR_MS + 1_000
    zones = zone_faults(counters.ahead, counters.behind, counters.offsets)
    assert len(zones) == 1
    # Which producer it is: the front end sends views, and here is one of them.
    assert (counters.skewed, counters.skewed_at) == ({"view": 20}, 38)
    driver.restart()
    assert driver.pipeline.counters.offsets == counters.offsets
    assert driver.pipeline.counters.skewed == {"view": 20}
