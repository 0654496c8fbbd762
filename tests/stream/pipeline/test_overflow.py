"""More events of a user within the grace than the ring has slots: none is lost, one state."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from schemas.events import Event, Purchase, Refund, View
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import START, duplicated, gru_scorer, judged_by_oracle, raw
from tests.told import told

MINUTE = 60_000
HOUR = 60 * MINUTE
SCORER = gru_scorer()


def on(**state: int) -> Settings:
    return Settings(worker={"clock": "event", "emit": "every"}, state=state)


def event(n: int, time: int, rng: random.Random, user: str = "ann") -> Event:
    kind = rng.choice([View, View, Purchase, Refund])
    return kind(
        event_id=f"e-{n}",
        user_id=user,
        event_time=START + time,
        item_id=f"item-{rng.randrange(50)}",
        price=round(rng.random() * 50, 2),
    )


def order_lines(count: int) -> list[Event]:
    """One order whose lines all have the same time."""
    return [
        Purchase(event_id=f"line-{n}", user_id="ann", event_time=START, item_id=f"i{n}", price=2.5)
        for n in range(count)
    ]


def fed(log: list[Event], rules: Settings, batch: int = 512) -> PipelineDriver:
    driver = PipelineDriver(SCORER, rules)
    driver.pipe(log, batch)
    return driver


def score_after(driver: PipelineDriver, time: int) -> object:
    driver.pipe([View(event_id="later", user_id="ann", event_time=START + time)])
    return driver.predictions()[-1].targets


@pytest.mark.slow
@pytest.mark.parametrize("count", [65, 100, 200, 500])
def test_any_order_of_many_events_gives_one_state(count: int) -> None:
    rng = random.Random(count)
    log = [event(n, rng.randrange(9 * MINUTE), rng) for n in range(count)]
    straight = fed(sorted(log, key=lambda e: e.event_time), on())
    rng.shuffle(log)
    shuffled = fed(duplicated(log, count, 0.3, within=count), on(), batch=97)
    backwards = fed(sorted(log, key=lambda e: -e.event_time), on(), batch=31)
    for driver in (straight, shuffled, backwards):
        counters = driver.pipeline.counters
        assert (counters.accepted, counters.late) == (count, 0)
        assert driver.histories() == straight.histories()
    assert shuffled.pipeline.counters.duplicate == int(count * 0.3)
    scores = [score_after(d, HOUR) for d in (straight, shuffled, backwards)]
    assert scores == [scores[0]] * 3
    users, _ = judged_by_oracle(log, on().state)
    assert told(straight_records(log)["ann"]) == users["ann"].aggregates()


def straight_records(log: list[Event]) -> dict[str, object]:
    return fed(log, on()).records()


@pytest.mark.slow
def test_200_lines_of_one_order_all_count() -> None:
    log = order_lines(200)
    drivers = [fed(log, on()), fed(log[::-1], on()), fed(random.Random(1).sample(log, 200), on())]
    for driver in drivers:
        record = driver.records()["ann"]
        assert (record["n"], record["orders"], record["spend"]) == (200, 1, 200 * 25_000)
        assert driver.pipeline.counters.late == 0
        assert driver.histories() == drivers[0].histories()


def test_80_events_of_20_hours_backwards_in_a_day_of_grace() -> None:
    rng = random.Random(3)
    log = [event(n, n * 15 * MINUTE, rng) for n in range(80)]
    rules = on(grace_ms=24 * HOUR)
    assert fed(log[::-1], rules).histories() == fed(log, rules).histories()


@pytest.mark.slow
@tries(max_examples=25, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([1, 2, 8, 64]),
    st.sampled_from([0, 1, 5 * MINUTE, 24 * HOUR]),
    st.integers(1, 64),
)
def test_any_shuffle_and_any_batches_give_the_same_bytes(
    rng: random.Random, ring: int, grace: int, batch: int
) -> None:
    log, time = [], 0
    for n in range(150):
        time += rng.choice((0, 0, 1, grace // 40, grace // 10, grace and 40 * MINUTE))
        log.append(event(n, time, rng, user=f"user-{rng.randrange(2)}"))
    rules = on(grace_ms=grace, ring=ring)
    moved = sorted(log, key=lambda e: e.event_time + rng.randint(0, grace))
    straight = fed(log, rules)
    other = PipelineDriver(SCORER, rules)
    half = rng.randrange(150)
    other.pipe(duplicated(moved[:half], 1, 0.1), batch)
    other.restart()
    other.pipe(moved[half:], batch)
    assert other.histories() == straight.histories()
    users, totals = judged_by_oracle(log, rules.state)
    # A copy that comes after the grace may be late, the event itself never is.
    assert totals["accepted"] == other.pipeline.counters.accepted == 150
    for user, record in other.records().items():
        assert told(record) == users[user].aggregates()


def test_a_duplicate_is_found_beyond_the_ring() -> None:
    log = order_lines(300)
    driver = fed([*log, *log[:100], *log[250:]], on())
    counters = driver.pipeline.counters
    assert (counters.accepted, counters.duplicate, counters.late) == (300, 150, 0)


def test_what_belongs_before_a_full_overflow_is_late() -> None:
    rng = random.Random(5)
    log = [event(n, n * 1000, rng) for n in range(100)]
    driver = fed(log[50:], on(ring=8, overflow=16))
    driver.pipe(log[:50])
    counters = driver.pipeline.counters
    assert counters.late == 50
    assert counters.consumed == counters.accepted + counters.late
    assert int(driver.records()["ann"]["overflow"]) == 16


def test_a_late_event_tells_grace_from_a_full_overflow() -> None:
    rng = random.Random(5)
    log = [event(n, n * 1000, rng) for n in range(100)]
    driver = fed([*log[50:], *log[:50]], on(ring=8, overflow=16))
    late = driver.late()
    assert {one.reason for one in late} == {"overflow"}
    assert all(one.late_by_ms <= 10 * MINUTE for one in late)
    driver.pipe(
        [
            View(event_id=f"v-{n}", user_id="ann", event_time=START + time)
            for n, time in enumerate([HOUR, 0, 50 * MINUTE - 1])
        ]
    )
    assert [one.reason for one in driver.late()[50:]] == ["late", "late"]
    driver.restart()
    counters = driver.pipeline.counters
    assert (counters.late, counters.overflow) == (52, 50)


def test_up_to_the_overflow_any_order_gives_one_state() -> None:
    """And beyond it not: which events are refused depends on what came before."""
    rng = random.Random(8)
    log = [event(n, n * 1000, rng) for n in range(80)]
    held = on(ring=8, overflow=72)
    assert fed(log[::-1], held).histories() == fed(log, held).histories()
    too_few = on(ring=8, overflow=71)
    refused = fed(log[::-1], too_few)
    assert refused.pipeline.counters.overflow == 1
    assert refused.histories() != fed(log, too_few).histories()


@pytest.mark.slow
def test_without_a_crowd_a_record_has_the_bytes_it_had() -> None:
    rng = random.Random(6)
    log = [event(n, n * HOUR, rng) for n in range(100)]
    driver = fed(log, on())
    assert int(driver.records()["ann"]["overflow"]) == 0
    crowded = fed([event(n, n * 1000, rng) for n in range(100)], on())
    sizes = [len(d.store.get(b"uann") or b"") for d in (driver, crowded)]
    assert sizes[0] < sizes[1]
    crowded.pipe([event(n, 9 * HOUR + n * HOUR, rng) for n in range(100, 200)])
    assert abs(len(crowded.store.get(b"uann") or b"") - sizes[0]) < 200


def test_the_time_to_live_clears_the_overflow_too() -> None:
    rules = on(ttl_ms=48 * HOUR)
    again = [
        View(event_id=f"new-{n}", user_id="ann", event_time=START + 100 * HOUR) for n in range(70)
    ]
    driver = fed([*order_lines(200), *again], rules)
    assert driver.histories() == fed(again, rules).histories()


def test_an_erased_user_leaves_no_overflow() -> None:
    driver = fed(order_lines(200), on())
    driver.erase("ann", START + HOUR)
    assert driver.store.get(b"uann") is None
    driver.pipe_raw(raw(order_lines(3)))
    assert int(driver.records()["ann"]["n"]) == 3
