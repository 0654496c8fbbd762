"""Windows, gaps, cart and session: what a history written by hand must give, and in any order."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import (
    PURCHASE,
    REFUND,
    STARTS_KEPT,
    Events,
    Records,
    SessionRules,
    history_dtype,
    order_of,
)
from models.inputs.apply import apply_in_order
from models.inputs.recent import recent, recent_along, recent_reference
from models.kernels.columns import EventColumns, Limits
from models.kernels.history import ACCEPTED, take_events
from models.kernels.recent import RECENT_FEATURES, SESSION_SPAN, SPAN
from models.overflow import Overflow
from schemas.events import TYPE_CODES
from stream.pipeline.layout import LAYOUT_VERSION, Layout
from tests.models.test_history import columns
from tests.oracle import Ev

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = 1_600_000_000_000
RULES = SessionRules()
VIEW, SEARCH, CART, OUT = (TYPE_CODES[n] for n in ("view", "search", "cart_add", "cart_remove"))


def told(events: list[Ev], now: int, ring: int = 64) -> dict[str, float]:
    """Feature -> its value, counts and hours as such, after events in order."""
    records = np.zeros(1, history_dtype(ring))
    apply_in_order(records, np.zeros(len(events), np.intp), columns(events), RULES)
    row = recent(records, np.zeros(1, np.intp), np.array([now]), RULES)[0].astype(np.float64)
    values = zip(RECENT_FEATURES, row.tolist(), strict=True)
    return {n: round(float(np.expm1(v)), 2) if n.startswith("log_") else v for n, v in values}


def on(*days: float, kind: int = PURCHASE, **fields: int) -> list[Ev]:
    return [Ev(START + round(day * DAY), round(day * 1e6) + 1, kind, **fields) for day in days]


def numbered(events: list[Ev]) -> list[Ev]:
    """Each of an order of its own."""
    return [replace(event, order=number + 1) for number, event in enumerate(events)]


@pytest.mark.parametrize(("days", "name"), [(7, "7d"), (14, "14d"), (30, "30d"), (90, "90d")])
def test_a_window_ends_when_the_order_is_as_old_as_it(days: int, name: str) -> None:
    events = on(0)
    assert told(events, START + days * DAY - 1000)[f"log_orders_{name}"] == 1
    assert told(events, START + days * DAY)[f"log_orders_{name}"] == 0


def test_gaps_and_how_overdue_a_user_is() -> None:
    found = told(on(0, 10, 30, 33), START + 63 * DAY)
    assert found["has_order_gap"] == 1
    assert found["log_median_order_gap_hours"] == 240
    assert found["log_longest_order_gap_hours"] == 480
    assert found["log_overdue_median"] == 3
    assert found["log_overdue_longest"] == 1.5
    counts = [found[f"log_orders_{days}d"] for days in (7, 14, 30, 60, 90)]
    assert counts == [0, 0, 0, 3, 4]  # the third is just 30 days old
    one = told(on(0), START + 63 * DAY)
    assert [one[name] for name in RECENT_FEATURES[5:10]] == [0] * 5


def test_an_order_that_was_given_back_counts_no_more() -> None:
    """From its refund on, also in the gaps; another line of it makes it count again."""
    lines = numbered(on(0, 10, 20, amount=50_000))
    back = Ev(START + 21 * DAY, 99, REFUND, amount=50_000, order=2)
    before, after = (told(lines + more, START + 22 * DAY) for more in ([], [back]))
    assert (before["log_orders_30d"], after["log_orders_30d"]) == (3, 2)
    assert (before["log_median_order_gap_hours"], after["log_median_order_gap_hours"]) == (240, 480)
    again = [*lines, back, Ev(START + 22 * DAY, 100, PURCHASE, amount=50_000, order=2)]
    assert told(again, START + 22 * DAY)["log_orders_30d"] == 3
    assert told(again, START + 22 * DAY)["log_orders_7d"] == 1  # as of its first line


@pytest.mark.parametrize("back", [False, True])
def test_orders_are_remembered_when_their_lines_have_left_the_ring(*, back: bool) -> None:
    orders = numbered(on(0, 5, 10, 15, amount=70_000))
    views = [Ev(START + 16 * DAY + n * MINUTE, 1000 + n, VIEW) for n in range(200)]
    refund = [Ev(START + 17 * DAY, 5, REFUND, amount=70_000, order=2)] if back else []
    found = told([*orders, *views, *refund], START + 18 * DAY)
    assert found["log_orders_14d"] == (2 if back else 3)
    assert found["log_orders_30d"] == (3 if back else 4)
    assert found["log_longest_order_gap_hours"] == (240 if back else 120)


def test_more_orders_than_are_kept_are_counted_up_to_the_bound() -> None:
    found = told(on(*np.arange(40.0)), START + 40 * DAY - HOUR)
    assert found["log_orders_7d"] == 7
    assert found["log_orders_90d"] == STARTS_KEPT
    assert found["log_median_order_gap_hours"] == 24


def test_events_of_the_last_days_and_of_the_session() -> None:
    events = [
        *on(0, kind=VIEW),
        *on(9, kind=CART, amount=10_000),
        Ev(START + 15 * DAY, 1, SEARCH),
        Ev(START + 15 * DAY + 1, 2, VIEW, item=7, category=3),
        Ev(START + 15 * DAY + 2, 3, VIEW, item=8, category=3),
        Ev(START + 15 * DAY + 3, 4, CART, item=8, category=3, amount=30_000),
        Ev(START + 15 * DAY + 4, 5, VIEW, item=7, category=3),
    ]
    now = START + 15 * DAY + 4
    found = told(events, now)
    expected = {
        "log_events_1d": 5,
        "log_events_7d": 6,
        "log_events_30d": 7,
        "log_views_1d": 3,
        "log_views_30d": 4,
        "log_cart_adds_7d": 2,
        "log_sessions_7d": 2,
        "log_sessions_30d": 3,
        "cart_filled": 1,
        "log_cart_value": 4,
        "last_is_view": 1,
        "last_is_cart_add": 0,
        "log_session_events": 5,
        "log_session_views": 3,
        "log_session_searches": 1,
        "log_session_cart_adds": 1,
        "log_session_items": 2,
        "log_session_categories": 1,
        "log_repeated_views": 1,
        "log_searched_views": 1,
        "log_same_item": 1,
        "same_item_1_ago": 0,
        "same_item_2_ago": 0,
        "same_item_3_ago": 1,
        "same_category_1_ago": 1,
    }
    assert {name: found[name] for name in expected} == expected
    session = [n for n in RECENT_FEATURES if "session_" in n or n.startswith("same_")]
    over = told(events, now + RULES.gap + 1)
    assert [over[name] for name in session] == [0] * len(session)
    assert over["cart_filled"] == 1
    assert told(events, now + RULES.gap)["log_session_events"] == 5


def test_a_cart_ends_with_a_purchase_and_by_what_is_taken_out() -> None:
    filled = [Ev(START + n, n + 1, CART, item=n, amount=20_000) for n in range(2)]
    assert told(filled, START + 9)["log_cart_value"] == 4
    less = [*filled, Ev(START + 5, 9, OUT, item=1, amount=20_000)]
    assert told(less, START + 9)["log_cart_value"] == 2
    none = [*less, Ev(START + 6, 10, OUT, item=0, amount=20_000)]
    assert told(none, START + 9)["cart_filled"] == 0
    bought = [*filled, Ev(START + 5, 9, PURCHASE, amount=1)]
    assert told(bought, START + 9)["cart_filled"] == 0
    assert told(bought, START + 9)["last_is_purchase"] == 1


def test_a_session_that_lasts_too_long_is_another_one() -> None:
    apart = RULES.gap - 1
    views = [Ev(START + n * apart, n + 1, VIEW) for n in range(60)]
    inside = RULES.longest // apart + 1
    assert inside > SESSION_SPAN
    assert told(views[:inside], views[inside - 1].time)["log_session_events"] == SESSION_SPAN
    assert told(views[: inside + 1], views[inside].time)["log_session_events"] == 1


def shopping(rng: random.Random, count: int, grace: int) -> list[Ev]:
    """Events of one user, each within the grace of all that come before it as they are drawn."""
    time, found = START, []
    for n in range(count):
        time += rng.choice((0, 1, MINUTE, 10 * MINUTE, HOUR, DAY, 9 * DAY))
        kind = rng.choice((VIEW, VIEW, SEARCH, CART, OUT, PURCHASE, PURCHASE, REFUND))
        found.append(
            Ev(
                time,
                rng.randrange(2**40) * 256 + n + 1,
                kind,
                rng.choice((0, 1, 2, 65, 2**32 - 1)),
                rng.choice((0, 1, 2)),
                rng.choice((0, 10_000, 20_000)),
                rng.choice((0, 0, 1, 2, 3, rng.randrange(1, 40))),
            )
        )
    return found


def served(events: list[Ev], order: list[int], ring: int, limits: Limits) -> tuple[Records, ...]:
    records, overflow = np.zeros(1, Layout(ring, 1).dtype), Overflow(1)
    records["layout"], records["ring_size"], records["hidden_size"] = LAYOUT_VERSION, ring, 1
    for offset, place in enumerate(order):
        taken = take_events(
            records,
            overflow,
            np.array([offset - 1]),
            np.zeros(1, np.intp),
            np.array([offset]),
            EventColumns.of(columns([events[place]])),
            limits,
            np.zeros(1, np.int64),
            np.ones(1, np.bool_),
        )
        assert taken.verdict.tolist() == [ACCEPTED]
    return records, overflow


@pytest.mark.full
@settings(max_examples=150, deadline=None, database=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 120),
    st.sampled_from([2, 5, 64, SPAN + 6]),
)
def test_any_order_of_arrival_gives_the_bits_of_training(
    rng: random.Random, count: int, ring: int
) -> None:
    """Also from what is stored, and as the reference says in plain Python."""
    grace = 10 * MINUTE
    events = shopping(rng, count, grace)
    # An event that comes later, but within the grace of what came before it.
    arrival = [event.time + rng.randrange(grace + 1) for event in events]
    order = sorted(range(count), key=arrival.__getitem__)
    limits = Limits(RULES.gap, RULES.longest, grace, 0, 0, False)
    records, overflow = served(events, order, ring, limits)
    now = int(records["last_time"][0]) + rng.choice((0, 1, MINUTE, RULES.gap + 1, 40 * DAY))
    at, row = np.array([now]), np.zeros(1, np.intp)
    from_record = recent(records, row, at, RULES, overflow)

    log = columns(events)
    log = log.take(np.lexsort(order_of(log.time, log.type, log.id)))
    nothing = np.zeros(1, history_dtype(ring))
    rows = np.zeros(count, np.intp)
    whole = recent_along(nothing, rows, log, RULES, np.array([count - 1]), row, at)
    assert from_record.tobytes() == whole.tobytes()

    # As a log that goes on: some of it has entered the histories before.
    begun = rng.randrange(count + 1)
    apply_in_order(nothing, rows[:begun], log.take(slice(0, begun)), RULES)
    rest = log.take(slice(begun, count))
    wanted = np.array([count - begun - 1])
    assert recent_along(nothing, rows[begun:], rest, RULES, wanted, row, at).tobytes() == (
        whole.tobytes()
    )

    layout = Layout(ring, 1)
    table = records.view(np.uint8).reshape(1, -1)
    (value,) = layout.packed(table, row, overflow=overflow)
    record, held = layout.whole(b"uann", value)
    again, beyond = np.array([record]), Overflow(1)
    beyond.put(again, 0, held)
    assert recent(again, row, at, RULES, beyond).tobytes() == whole.tobytes()
    assert recent_reference(record, held, now, RULES).tobytes() == whole.tobytes()


@pytest.mark.slow
def test_times_of_many_users_at_once() -> None:
    """In blocks, before, between and after the events of each."""
    rng = random.Random(3)
    users, parts = 50, []
    for _ in range(users):
        log = columns(shopping(rng, rng.randrange(0, 30), 0))
        parts.append(log.take(np.lexsort(order_of(log.time, log.type, log.id))))
    sizes = np.array([len(part) for part in parts])
    rows = np.repeat(np.arange(users), sizes)
    joined = [np.concatenate([getattr(p, name) for p in parts]) for name in Events.__slots__]
    events, records = Events(*joined), np.zeros(users, history_dtype(8))
    order = rng.sample(range(len(rows)), len(rows))
    wanted, row = np.array([*order, *[-1] * users]), np.array([*rows[order], *range(users)])
    now = np.where(wanted < 0, START, events.time[wanted])
    found = recent_along(records, rows, events, RULES, wanted, row, now)
    assert not records["n"].any()
    for q in range(len(wanted)):
        own = np.zeros(1, history_dtype(8))
        seen = (rows == row[q]) & (np.arange(len(rows)) <= wanted[q])
        mine = events.take(np.flatnonzero(seen))
        apply_in_order(own, np.zeros(len(mine), np.intp), mine, RULES)
        one = recent(own, np.zeros(1, np.intp), now[q : q + 1], RULES)
        assert one.tobytes() == found[q : q + 1].tobytes()
