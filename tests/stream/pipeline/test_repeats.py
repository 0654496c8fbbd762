"""One event_id again: the same event counts once, another one is refused by name."""

from __future__ import annotations

import msgspec
import pytest

from models.serving.scorer import Scorer
from schemas.codec import decode_event, encode
from schemas.errors import Reason
from schemas.events import Event, Purchase, Refund, View
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import DAY, START, TARGETS

MINUTE = 60_000
SCORER = Scorer.rhythm(TARGETS)
BOUGHT = Purchase(
    event_id="o-1",
    user_id="ann",
    event_time=START,
    item_id="shoe",
    category_id="shoes",
    price=10.0,
    quantity=2,
    order_id="A",
    order_discount=3.0,
)


def driver(clock: str = "event", **state: int) -> PipelineDriver:
    return PipelineDriver(SCORER, Settings(worker={"clock": clock}, state=state))


def changed(**fields: object) -> Event:
    return msgspec.structs.replace(BOUGHT, **fields)


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (changed(event_time=START + MINUTE), "event_time"),
        (changed(event_time=START - MINUTE), "event_time"),
        (changed(item_id="hat"), "item_id"),
        (changed(category_id="hats"), "category_id"),
        (changed(price=10.01), "price"),
        (changed(order_id="B"), "order_id"),
        (changed(order_discount=3.01), "order_discount"),
        (changed(price=20.0, quantity=1), "quantity"),
        (
            Refund(
                event_id="o-1",
                user_id="ann",
                event_time=START + DAY,
                item_id="shoe",
                category_id="shoes",
                price=10.0,
                quantity=2,
            ),
            "event_time, type",
        ),
    ],
)
@pytest.mark.parametrize("clock", ["event", "wall"])
def test_another_event_of_the_same_id_is_refused(other: Event, names: str, clock: str) -> None:
    piped = driver(clock)
    piped.pipe([BOUGHT])
    before = piped.histories()
    piped.pipe([other])
    (letter,) = piped.dead_letters()
    assert letter.reason == Reason.ID_REUSED
    assert letter.field == "event_id"
    assert (
        f"'o-1' is the id of an earlier event of this user with another {names}:" in letter.detail
    )
    assert letter.value == encode(other)
    assert piped.histories() == before
    counters = piped.pipeline.counters
    assert (counters.consumed, counters.accepted, counters.invalid) == (2, 1, 1)


def test_three_lines_of_an_order_with_one_id_are_seen() -> None:
    lines = [changed(item_id=name) for name in ("shoe", "hat", "coat")]
    piped = driver()
    piped.pipe([*lines, *lines])
    assert len(piped.dead_letters()) == 4
    counters = piped.pipeline.counters
    assert (counters.accepted, counters.duplicate, counters.invalid) == (1, 1, 4)
    repaired = [
        msgspec.structs.replace(decode_event(letter.value), event_id=f"o-1-{n}")
        for n, letter in enumerate(piped.dead_letters()[:2])
    ]
    piped.pipe(repaired)
    assert int(piped.records()["ann"]["spend"]) == 3 * 200_000


def test_the_same_event_again_is_a_duplicate_whatever_is_not_kept() -> None:
    piped = driver()
    piped.pipe([BOUGHT, BOUGHT, changed(session_id="another", properties={"try": 2})])
    piped.pipe([changed(order_discount=None)])
    assert piped.pipeline.counters.duplicate == 3
    assert piped.dead_letters() == []


def test_an_id_is_told_apart_beyond_the_ring_too() -> None:
    piped = driver()
    crowd = [changed(event_id=f"line-{n}") for n in range(300)]
    piped.pipe([*crowd, *crowd, changed(event_id="line-0", price=1.0)])
    counters = piped.pipeline.counters
    assert (counters.accepted, counters.duplicate, counters.invalid) == (300, 300, 1)


def test_a_retry_by_a_clock_that_runs_ahead_is_a_duplicate() -> None:
    piped = driver("wall")
    ahead = changed(event_time=START + 10 * 60 * MINUTE)
    value, key = encode(ahead), b"ann"
    piped.pipe_raw([(key, value, START), (key, value, START + 5_000)])
    counters = piped.pipeline.counters
    assert (counters.accepted, counters.duplicate, counters.invalid) == (1, 1, 0)


def test_users_do_not_share_ids() -> None:
    piped = driver()
    piped.pipe([BOUGHT, changed(user_id="bob", price=1.0)])
    assert piped.pipeline.counters.accepted == 2


def views(count: int, first: int = START) -> list[Event]:
    return [
        View(event_id=f"v-{n}", user_id="ann", event_time=first + n * MINUTE) for n in range(count)
    ]


@pytest.mark.parametrize("kind", [Purchase, Refund])
def test_a_purchase_two_hours_late_counts_when_it_comes(kind: type) -> None:
    piped = driver()
    till = kind(event_id="till", user_id="ann", event_time=START - 110 * MINUTE, price=30.0)
    piped.pipe([*views(10), till, till])
    record = piped.records()["ann"]
    assert abs(int(record["spend"])) == 300_000
    assert int(record["last_time"]) == START + 9 * MINUTE
    if kind is Purchase:
        assert int(record["last_purchase"]) == START + 9 * MINUTE
    counters = piped.pipeline.counters
    assert (counters.accepted, counters.duplicate, counters.late) == (11, 1, 0)
    assert piped.late() == []


def test_a_late_purchase_whose_repeat_could_not_be_known_is_late() -> None:
    till = Purchase(event_id="till", user_id="ann", event_time=START - MINUTE, price=30.0)
    piped = driver(ring=8)
    piped.pipe([*views(20), till])
    assert piped.pipeline.counters.late == 1
    again = driver(ring=8)
    again.pipe([till, *views(20), till])
    assert int(again.records()["ann"]["spend"]) == 300_000
    assert again.pipeline.counters.late == 1


def test_beyond_the_bound_and_other_events_stay_late() -> None:
    piped = driver(correction_ms=60 * MINUTE)
    old = Purchase(event_id="old", user_id="ann", event_time=START - 61 * MINUTE, price=30.0)
    view = View(event_id="seen", user_id="ann", event_time=START - 30 * MINUTE)
    piped.pipe([*views(1), old, view])
    assert [late.event_id for late in piped.late()] == ["old", "seen"]
    assert [late.late_by_ms for late in piped.late()] == [61 * MINUTE, 30 * MINUTE]
