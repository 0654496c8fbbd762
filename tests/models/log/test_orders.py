"""Orders decide labels, not their lines; what was given back in time decides nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import AMOUNT_UNIT, PURCHASE, REFUND, Events, SessionRules, history_dtype
from models.inputs.apply import apply_in_order
from models.log.orders import Deciding, deciding
from models.orders import Order, OrderBook, late_code
from stream.outcomes.order_times import Line, OrderTimes

START = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
RULES = SessionRules()


def events_of(
    *lines: tuple[int, int, dict[str, float]], user: list[int] | None = None
) -> tuple[np.ndarray, Events]:
    """(ms after the start, type, fields): item, price, quantity, order."""
    fields = [line[2] for line in lines]
    quantity = np.array([f.get("quantity", 1) for f in fields])
    price = np.array([f.get("price", 10.0) for f in fields])
    events = Events(
        START + np.array([line[0] for line in lines], np.int64),
        np.arange(1, len(lines) + 1, dtype=np.uint64),
        np.array([line[1] for line in lines], np.uint8),
        np.array([f.get("item", 5) for f in fields], np.uint32),
        np.zeros(len(lines), np.uint16),
        np.rint(price * quantity * AMOUNT_UNIT).astype(np.int64),
        np.array([code_of(f) for f in fields], np.uint32),
        quantity.astype(np.uint32),
    )
    return np.array(user or [0] * len(lines)), events


def code_of(fields: dict[str, float]) -> int:
    """The code of a line; ``own``: when a late one happened, ms after the start."""
    order, own = int(fields.get("order", 0)), fields.get("own")
    return order if own is None else late_code(order, START + int(own))


def found(rows: np.ndarray, events: Events, window: int = DAY) -> Deciding:
    records = np.zeros(int(rows.max()) + 1, history_dtype(8))
    return deciding(records, rows, events, RULES, window)


def buy(at: int, **fields: float) -> tuple[int, int, dict[str, float]]:
    return at, PURCHASE, fields


def back(at: int, **fields: float) -> tuple[int, int, dict[str, float]]:
    return at, REFUND, fields


@pytest.mark.parametrize("apart", [0, 7, 2_000])
@pytest.mark.parametrize("order", [0, 9])
def test_further_lines_of_an_order_decide_nothing(apart: int, order: int) -> None:
    lines = [buy(line * apart, order=order, item=line + 1) for line in range(5)]
    decides = found(*events_of(*lines))
    assert decides.counts.tolist() == [True] + [False] * 4
    assert decides.amount.tolist() == [50 * AMOUNT_UNIT] + [0] * 4


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        # The same order two hours later, over midnight, and around another one.
        ([buy(0, order=1), buy(2 * HOUR, order=1)], [1, 0]),
        ([buy(0, order=1), buy(9 * HOUR, order=2), buy(18 * HOUR, order=1)], [1, 1, 0]),
        # Two orders within one session gap.
        ([buy(0, order=1), buy(MINUTE, order=2)], [1, 1]),
        # Ids on some purchases only.
        ([buy(0), buy(DAY, order=1), buy(2 * DAY)], [1, 1, 1]),
        ([buy(0), buy(MINUTE, order=1), buy(2 * MINUTE), buy(3 * MINUTE, order=1)], [1, 0, 0, 0]),
        ([buy(0, order=1), buy(MINUTE), buy(2 * MINUTE, order=2)], [1, 0, 1]),
        # Without ids the session gap tells.
        ([buy(0), buy(30 * MINUTE), buy(61 * MINUTE)], [1, 0, 1]),
    ],
)
def test_which_line_begins_an_order(
    lines: list[tuple[int, int, dict[str, float]]], counts: list[int]
) -> None:
    assert found(*events_of(*lines)).counts.tolist() == [bool(one) for one in counts]


def test_users_may_share_an_order_id() -> None:
    rows, events = events_of(buy(0, order=7), buy(5, order=7), user=[0, 1])
    assert found(rows, events).counts.tolist() == [True, True]


@pytest.mark.parametrize(
    ("lines", "gone"),
    [
        ([buy(0), back(10 * MINUTE)], True),
        ([buy(0), back(30 * HOUR)], False),
        ([buy(0), back(3 * HOUR, price=4)], False),
        ([buy(0), back(3 * HOUR, item=6)], False),
        ([buy(0, item=0), back(HOUR, item=0)], True),
        # Unit by unit, with and without item, id or price.
        ([buy(0, quantity=5), *(back(HOUR + n) for n in range(5))], True),
        ([buy(0, quantity=5), *(back(HOUR + n) for n in range(4))], False),
        ([buy(0, quantity=5), *(back(HOUR + n, item=0) for n in range(5))], True),
        ([buy(0, quantity=5, order=3), *(back(n, order=3, item=0) for n in range(5))], True),
        ([buy(0, quantity=5, price=0), *(back(n, price=0) for n in range(5))], True),
        ([buy(0, quantity=5), back(HOUR, price=0, quantity=5)], True),
        ([buy(0, quantity=2), back(HOUR, price=0)], False),
        # All at once, of lines with other items, and more than was paid.
        ([buy(0, order=3, item=1), buy(5, order=3, item=2), back(9, order=3, price=20)], True),
        ([buy(0, order=3, item=1), buy(5, order=3, item=2), back(9, order=3, item=1)], False),
        ([buy(0, order=3), back(HOUR, order=3, price=99)], True),
        ([buy(0), back(HOUR, price=99)], True),
        # Over days: the last part comes too late.
        ([buy(0, quantity=2), back(HOUR), back(2 * DAY)], False),
        # An order id that no purchase had: by item, as if there were none.
        ([buy(0), back(HOUR, order=8)], True),
        ([buy(0, order=7), back(HOUR, order=8)], False),
        # Another line instead of what was given back.
        ([buy(0, order=3), back(HOUR, order=3), buy(2 * HOUR, order=3)], False),
        # Refunds that come before their order, whole, unit by unit, or of its first line only.
        ([buy(DAY, order=9), back(2 * DAY, order=3), buy(2 * DAY + 5, order=3)], [0, 0, 1]),
        ([back(0, order=3), back(5, order=3), buy(9, order=3, quantity=2)], [0, 0, 1]),
        ([back(0, order=3, quantity=2), buy(5, order=3), buy(9, order=3)], [0, 1, 0]),
        ([back(0, order=3), buy(5, order=3, quantity=2)], False),
        ([back(0, order=3, price=0, quantity=2), buy(5, order=3, quantity=2)], [0, 1]),
        # A discount on the order: all units come back for less.
        ([buy(0, order=3), back(HOUR, order=3, price=8.5)], True),
    ],
)
def test_what_refunds_take_back(
    lines: list[tuple[int, int, dict[str, float]]], *, gone: bool | list[int]
) -> None:
    """``gone``: whether the first line's order is, or of each line the order that it begins."""
    decides = found(*events_of(*lines))
    each = gone if isinstance(gone, list) else [gone] + [False] * (len(lines) - 1)
    assert decides.gone.tolist() == [bool(one) for one in each]
    for place, (_, kind, fields) in enumerate(lines):
        if decides.counts[place] and kind == PURCHASE:
            assert not each[place]
            assert decides.amount[place] > 0 or fields.get("price") == 0
        elif kind == PURCHASE:
            assert decides.amount[place] == 0


def test_units_beyond_32_bits_are_not_counted_from_zero_again() -> None:
    lines = [buy(n, order=3, price=0, quantity=1_000_000) for n in range(4_295)]
    decides = found(*events_of(*lines, back(HOUR, order=3, price=0, quantity=40_000)))
    assert not decides.gone.any()


def test_four_refunds_are_owed_and_no_order_is_lost_for_them() -> None:
    """Of orders before the log, and of more orders than are told apart."""
    lines = [back(n, order=100 + n) for n in range(9)]
    lines += [buy(DAY + n * HOUR, order=1 + n) for n in range(8)]
    lines += [back(2 * DAY + n, order=200 + n) for n in range(9)]
    lines += [back(3 * DAY + n, order=1 + n) for n in range(8)]
    decides = found(*events_of(*lines), window=9 * DAY)
    assert decides.gone.tolist() == [False] * 9 + [True] * 8 + [False] * 17
    lines = [back(n, order=1 + n) for n in range(6)] + [buy(DAY + n, order=1 + n) for n in range(6)]
    assert found(*events_of(*lines)).gone.tolist() == [False] * 8 + [True] * 4


LATE = 5 * DAY


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        # Late orders without ids: an hour apart; of three lines each, in the order of their ids.
        ([buy(LATE, own=n * HOUR) for n in range(5)], [1] * 5),
        ([buy(LATE, own=(n % 2) * 5 * HOUR + n * 1000) for n in range(6)], [1, 1, 0, 0, 0, 0]),
        # A line of an order that came in time, and an order of before.
        ([buy(0), buy(15 * MINUTE, own=20 * MINUTE)], [1, 0]),
        ([buy(2 * HOUR), buy(3 * HOUR, own=0)], [1, 1]),
        # What is bought now is no line of what was bought earlier and came now.
        ([buy(LATE, own=DAY), buy(LATE + MINUTE)], [1, 1]),
        ([buy(LATE, own=DAY, order=7), buy(LATE + MINUTE)], [1, 1]),
        # But of the order that is under way, whatever came in between.
        (
            [buy(LATE), buy(LATE, own=DAY), buy(LATE, own=DAY, order=7), buy(LATE + 3)],
            [1, 1, 1, 0],
        ),
        # Ids join, late or not.
        ([buy(0, order=7), buy(LATE, own=DAY, order=7), buy(LATE + 1, own=0, order=7)], [1, 0, 0]),
    ],
)
def test_late_lines_are_told_apart_by_their_own_times(
    lines: list[tuple[int, int, dict[str, float]]], counts: list[int]
) -> None:
    assert found(*events_of(*lines)).counts.tolist() == [bool(one) for one in counts]


def test_a_late_refund_finds_a_late_order() -> None:
    lines = [buy(LATE, own=DAY, order=7), back(LATE, own=2 * DAY, order=7)]
    assert found(*events_of(*lines)).gone.tolist() == [True, False]
    lines = [back(LATE, own=2 * DAY, order=7), buy(LATE + HOUR, own=DAY, order=7)]
    assert found(*events_of(*lines)).gone.tolist() == [False, True]


def test_the_latest_order_is_taken_back_first() -> None:
    decides = found(*events_of(*(buy(n * HOUR) for n in range(3)), back(4 * HOUR), back(4 * HOUR)))
    assert decides.gone.tolist() == [False, True, True, False, False]


def test_a_refund_without_item_takes_the_order_of_its_amount() -> None:
    lines = [buy(n * HOUR, price=10.0 * (n + 1)) for n in range(3)]
    decides = found(*events_of(*lines, back(4 * HOUR, item=0, price=20)))
    assert decides.gone.tolist() == [False, True, False, False]


def test_of_another_user_nothing_is_taken_back() -> None:
    rows, events = events_of(buy(0), back(HOUR), user=[0, 1])
    assert not found(rows, events).gone.any()


def test_what_the_histories_hold_goes_on() -> None:
    lines = [buy(0, order=1), buy(MINUTE, order=2), buy(HOUR, order=1), back(2 * HOUR, order=1)]
    rows, events = events_of(*lines)
    whole = found(rows, events)
    records = np.zeros(1, history_dtype(1))
    apply_in_order(records, rows[:2], events.take(slice(0, 2)), RULES)
    rest = deciding(records, rows[2:], events.take(slice(2, 4)), RULES, DAY)
    assert rest.counts.tolist() == whole.counts[2:].tolist() == [False, True]


line = st.tuples(
    st.integers(0, 40),
    st.sampled_from([PURCHASE, PURCHASE, REFUND]),
    st.sampled_from([0, 1, 2, 65]),
    st.sampled_from([0.0, 10.0, 20.0, 12.34]),
    st.integers(1, 3),
    st.sampled_from([0, 0, *range(1, 13)]),
    st.sampled_from([None, None, None, 0, HOUR, 3 * HOUR, 3 * HOUR + MINUTE, 9 * HOUR]),
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(line, min_size=1, max_size=40), st.sampled_from([0, HOUR, DAY]))
def test_the_kernel_is_the_reference(lines: list[tuple[int, ...]], window: int) -> None:
    lines = sorted(lines, key=lambda one: (one[0], one[1] == REFUND))
    rows, events = events_of(
        *(
            (
                at * 20 * MINUTE,
                kind,
                {"item": item, "price": price, "quantity": units, "order": code}
                | ({} if late is None else {"own": at * 20 * MINUTE - late}),
            )
            for at, kind, item, price, units, code, late in lines
        )
    )
    decides = found(rows, events, window)
    book, begun, gone = OrderBook(RULES.gap), {}, {}
    times = OrderTimes(RULES.gap, window)
    for i, (_, kind, item, _, units, *_) in enumerate(lines):
        code = int(events.order[i])
        time, amount = int(events.time[i]), float(np.float32(events.amount[i] / AMOUNT_UNIT))
        if kind == PURCHASE:
            order, begins, change = book.buy(time, code, item, amount, units)
            if begins:
                begun[i] = order
            if begins and not order.units and window:
                gone[id(order)] = True
            if change and time - order.begun <= max(window, RULES.gap):
                gone[id(order)] = False
        else:
            taken: Order | None = book.give_back(code, item, amount, units)
            if taken is not None and window and time - taken.begun <= window:
                gone[id(taken)] = True
        times.add(Line(time, kind, i + 1, code, item, amount, units))
    counted = (decides.counts & (events.type == PURCHASE)).nonzero()
    assert times.times == events.time[counted].tolist()
    for i, (_, kind, *_) in enumerate(lines):
        back_ = i in begun and gone.get(id(begun[i]), False)
        assert bool(decides.gone[i]) == back_
        assert bool(decides.counts[i]) == (kind == REFUND or (i in begun and not back_))
