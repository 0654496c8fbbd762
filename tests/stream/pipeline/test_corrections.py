"""Late purchases and refunds: training knows of each when serving did, and of no other."""

from __future__ import annotations

import random

import numpy as np
import pytest
from msgspec.structs import replace

from models.encoding import columns, encode_event, hash64
from models.history import HISTORY, SessionRules, chronological, history_dtype
from models.inputs.apply import apply_in_order
from models.log.arrival import Corrections
from models.log.eventlog import EventLog, in_order
from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.events import Event, Purchase, Refund, View
from stream.config.durations import DAY_MS
from stream.config.settings import Settings
from stream.outcomes.arrivals import Arrivals
from stream.outcomes.order_times import OrderTimes, line_of
from stream.testing import PipelineDriver
from tests.logs import START, TARGETS, judged_by_oracle
from tests.told import told

MINUTE = 60_000
HOUR = 60 * MINUTE


def shop(seed: int) -> list[Event]:
    """Views as they happen; purchases and refunds from a till that is up to two days behind."""
    rng = random.Random(seed)
    arrivals = []
    for n in range(400):
        kind = rng.choice([View, View, View, Purchase, Purchase, Refund])
        time = START + n * 20 * MINUTE
        delay = rng.choice([0, 5 * MINUTE, HOUR, 2 * HOUR, 30 * HOUR, 60 * HOUR])
        user = f"user-{rng.randrange(4)}"
        event = kind(event_id=f"e-{n}", user_id=user, event_time=time, price=float(n))
        arrivals += [(time + delay, event)] * rng.choice([1, 1, 1, 2])
    return [event for _, event in sorted(arrivals, key=lambda pair: pair[0])]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ring", [8, 64])
def test_training_and_serving_agree_on_late_events(seed: int, ring: int) -> None:
    log = shop(seed)
    settings = Settings(
        worker={"clock": "event"}, state={"ring": ring, "correction_ms": 40 * HOUR, "ttl_ms": 0}
    )
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings)
    driver.pipe(log, batch=37)
    records = driver.records()

    users = np.array([hash64(e.user_id) for e in log], np.uint64)
    arrived = EventLog(users, columns([encode_event(e) for e in log]))
    ordered = in_order(arrived, settings.state.grace_ms, Corrections(40 * HOUR, ring))
    assert ordered.corrected > 10
    learned = np.zeros(len(ordered.starts), history_dtype(ring))
    rows = np.repeat(np.arange(len(ordered.starts)), ordered.sizes)
    apply_in_order(learned, rows, ordered.log.events, SessionRules())
    who = {hash64(user): user for user in records}
    for row, start in enumerate(ordered.starts.tolist()):
        served = records[who[int(ordered.log.users[start])]]
        for name in ("n", "spend", "orders", "sessions", "first_purchase", "last_purchase"):
            assert served[name] == learned[name][row], name
        assert served["counts"].tolist() == learned["counts"][row].tolist()


def late_orders(count: int, lines: int, apart: int, *, named: bool = False) -> list[Event]:
    """A view; then orders of the hours before it come all at once, each of some lines."""
    log: list[Event] = [View(event_id="seen", user_id="ann", event_time=START + 40 * HOUR)]
    return log + [
        Purchase(
            event_id=f"{count}-{order}-{line}",
            user_id="ann",
            event_time=START + order * apart + line * 2_000,
            price=10.0,
            order_id=f"o-{order}" if named else None,
        )
        for order in range(count)
        for line in range(lines)
    ]


def orders_of(log: list[Event]) -> tuple[int, int, int]:
    """The orders of one user to serving, training and outcomes."""
    settings = Settings(worker={"clock": "event"})
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings)
    driver.pipe(log)
    (record,) = driver.records().values()

    users = np.array([hash64(e.user_id) for e in log], np.uint64)
    arrived = EventLog(users, columns([encode_event(e) for e in log]))
    rules = Corrections(settings.state.correction_ms, settings.state.ring)
    ordered = in_order(arrived, settings.state.grace_ms, rules)
    learned = np.zeros(1, history_dtype(settings.state.ring))
    rows = np.zeros(len(ordered.log), np.intp)
    apply_in_order(learned, rows, ordered.log.events, SessionRules())
    entries = chronological(record)["order"].tolist()
    assert entries == chronological(learned[0])["order"].tolist()

    arrivals = Arrivals.of(settings)
    times = OrderTimes(settings.state.session_gap_ms, 0)
    for event in log:
        time = arrivals.taken(event.user_id, event.event_time, event.code)
        assert time is not None
        own = None if time == event.event_time else event.event_time
        line = line_of(replace(event, event_time=time), own)
        if line is not None:
            times.add(line)
    standing = times.standing(START + 99 * HOUR)
    return int(record["orders"]), int(learned["orders"][0]), standing


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("named", [True, False])
def test_five_late_orders_that_come_together_are_five(lines: int, *, named: bool) -> None:
    log = late_orders(5, lines, 2 * HOUR, named=named)
    for arrived in (log, [log[0], *log[:0:-1]]):
        assert orders_of(arrived) == (5, 5, 5)


def test_late_lines_of_one_order_are_one() -> None:
    assert orders_of(late_orders(1, 40, HOUR)) == (1, 1, 1)
    # And where its first line came in time.
    first = Purchase(event_id="p", user_id="ann", event_time=START, price=5.0)
    assert orders_of([first, *late_orders(1, 3, HOUR)]) == (1, 1, 1)


def test_what_is_bought_now_is_no_line_of_a_late_order() -> None:
    now = Purchase(event_id="p", user_id="ann", event_time=START + 40 * HOUR + MINUTE, price=5.0)
    assert orders_of([*late_orders(2, 2, 3 * HOUR), now]) == (3, 3, 3)


@pytest.mark.parametrize("between", [0, MINUTE])
@pytest.mark.parametrize("refund_first", [True, False])
def test_a_late_order_and_its_late_refund_net(between: int, *, refund_first: bool) -> None:
    """In whichever order they come, and whether the user was there in between or not."""
    seen, bought = late_orders(1, 1, HOUR, named=True)
    back = Refund(event_id="r", user_id="ann", event_time=START + HOUR, price=10.0, order_id="o-0")
    again = View(event_id="again", user_id="ann", event_time=START + 40 * HOUR + between)
    pair = [back, bought] if refund_first else [bought, back]
    assert orders_of([seen, pair[0], again, pair[1]]) == (0, 0, 0)


def test_late_purchases_are_judged_as_by_the_oracle() -> None:
    log = shop(9)
    settings = Settings(worker={"clock": "event"}, state={"ring": 8})
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings)
    driver.pipe(log, batch=50)
    users, totals = judged_by_oracle(log, settings.state)
    counters = driver.pipeline.counters
    assert (counters.accepted, counters.duplicate, counters.late) == (
        totals["accepted"],
        totals["duplicate"],
        totals["late"],
    )
    for user, record in driver.records().items():
        assert told(record) == users[user].aggregates()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_training_and_serving_agree_on_loaded_history(seed: int) -> None:
    """Live events, then years of history out of order and with repeats, then live events."""
    rng = random.Random(seed)
    now = START + 1_000 * DAY_MS
    live = [
        View(event_id=f"v{n}", user_id=f"user-{n % 5}", event_time=now + n * 20 * MINUTE)
        for n in range(rng.choice((20, 200, 500)))
    ]
    old: list[Event] = [
        Purchase(
            event_id=f"p{n}",
            user_id=f"user-{rng.randrange(5)}",
            event_time=START + (n * 40 - rng.choice((0, 0, 0, 600))) * HOUR,
            price=1.0,
        )
        for n in range(400)
    ]
    old += rng.sample(old[-60:], 20)
    half = len(live) // 2
    sent = [(e, e.event_time) for e in live[:half]]
    sent += [(e, live[half].event_time) for e in old]
    sent += [(e, e.event_time) for e in live[half:]]
    driver = PipelineDriver(Scorer.rhythm(TARGETS), Settings(state={"ttl_ms": 0}))
    driver.pipe_raw([(e.user_id.encode(), encode(e), stamp) for e, stamp in sent], batch=37)

    log, stamps = [e for e, _ in sent], np.array([stamp for _, stamp in sent])
    users = np.array([hash64(e.user_id) for e in log], np.uint64)
    events = columns([encode_event(e) for e in log])
    came = (stamps - events.time > DAY_MS) * np.uint8(HISTORY)
    arrived = EventLog(users, events, came)
    state = driver.settings.state
    ordered = in_order(arrived, state.grace_ms, Corrections(state.correction_ms, state.ring))
    kept = dict(zip(ordered.log.users[ordered.starts].tolist(), ordered.sizes, strict=True))
    served = {hash64(user): int(record["n"]) for user, record in driver.records().items()}
    assert kept == served
    counters = driver.pipeline.counters
    assert counters.late + counters.duplicate == ordered.late + ordered.duplicates
    assert counters.late > 0
    assert sum(served.values()) > len(live)
