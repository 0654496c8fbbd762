"""Discounts of orders: each counts once, whatever comes in which order, and what they tell."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.history import SessionRules, history_bytes, history_dtype
from models.inputs import features
from models.overflow import Held
from schemas.events import Event, Purchase, View
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import gru_scorer
from tests.models.profiles import profile_of
from tests.models.test_history import RING, feed_serially
from tests.oracle import PURCHASE, REFUND, Ev

START, DAY = 1_600_000_000_000, 86_400_000
NAMES = ("has_discount", "discount_share")
COLUMNS = [features.PROFILE_FEATURES.index(name) for name in NAMES]


def record_of(events: list[Ev], grace: int = 300) -> tuple[np.ndarray, Held]:
    records = np.zeros(1, history_dtype(RING))
    return records, feed_serially(records[0], records, events, grace)


def told(events: list[Ev]) -> tuple[int, list[float]]:
    """The discounts of a user, 1 / AMOUNT_UNIT, and the features of them."""
    records, _ = record_of(events)
    row = profile_of(records, np.zeros(1, np.intp), records["last_time"] + DAY)[0]
    return int(records["discount"][0]), row[COLUMNS].tolist()


def buy(time: int, order: int = 0, discount: int = 0, kind: int = PURCHASE) -> Ev:
    return Ev(time, time, kind, amount=100_000, order=order, discount=discount)


def test_the_discount_of_an_order_counts_once_for_all_its_lines() -> None:
    lines = [buy(1000, 5, 60_000), buy(1001, 5, 60_000), buy(1002, 5, 60_000)]
    assert told(lines) == (60_000, [1.0, pytest.approx(0.2)])


def test_a_line_that_tells_no_discount_takes_none_away() -> None:
    assert told([buy(1000, 5), buy(1001, 5, 50_000), buy(1002, 5)])[0] == 50_000


def test_of_lines_that_tell_different_discounts_the_largest_counts() -> None:
    assert told([buy(1000, 5, 20_000), buy(1001, 5, 50_000), buy(1002, 5, 30_000)])[0] == 50_000


def test_lines_without_ids_are_one_order_within_the_session_gap() -> None:
    assert told([buy(1000, 0, 20_000), buy(1050, 0, 20_000), buy(2000, 0, 20_000)])[0] == 40_000


def test_a_refund_leaves_the_discount_as_it_was() -> None:
    back = Ev(1500, 2, REFUND, amount=100_000, order=5, discount=20_000)
    assert told([buy(1000, 5, 20_000), back]) == (20_000, [1.0, pytest.approx(0.2)])


def test_discounts_of_anything_but_purchases_do_not_count() -> None:
    assert told([buy(1000), buy(1001, 5, 90_000, kind=4)]) == (0, [0.0, 0.0])


def test_without_a_known_price_the_share_is_not_known() -> None:
    assert told([Ev(1000, 1, PURCHASE, discount=90_000)]) == (90_000, [1.0, 0.0])
    whole = Ev(1000, 1, PURCHASE, amount=10_000, discount=90_000)
    assert told([whole]) == (90_000, [1.0, 1.0])


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_arrival_counts_each_discount_once(seed: int) -> None:
    """Lines of up to 8 orders, beyond the ring, out of order and twice."""
    rng = random.Random(seed)
    events = [
        buy(time, rng.randrange(1, 9), rng.choice([0, 10_000, 70_000, 123_456_789_012]))
        for time in sorted(rng.sample(range(1, 5_000), 60))
    ]
    arrived = sorted(events, key=lambda e: e.time + rng.randrange(290)) + events[-3:]
    largest: dict[int, int] = {}
    for e in events:
        largest[e.order] = max(largest.get(e.order, 0), e.discount)
    records, held = record_of(arrived)
    straight, other = record_of(events)
    assert int(records["discount"][0]) == sum(largest.values())
    assert history_bytes(records[0], held.entries) == history_bytes(straight[0], other.entries)


def shop(*, sales: bool) -> list[Event]:
    """A year of sales on every fifth day: users 0 to 9 buy at sales alone, 10 to 19 on any day."""
    rng = random.Random(3)
    out: list[Event] = []
    for day in range(365):
        sale = day % 5 == 0
        for user in range(20):
            time = START + day * DAY + user * 1000
            mark = f"{day}-{user}"
            wanted = rng.random() < (0.5 if user < 10 else 0.1)
            out.append(View(event_id=f"v{mark}", user_id=f"user-{user}", event_time=time))
            if not wanted or (user < 10 and not sale):
                continue
            price = rng.randrange(10, 90)
            out += [
                Purchase(
                    event_id=f"b{mark}-{line}",
                    user_id=f"user-{user}",
                    event_time=time + 60_000 * (1 + line),
                    price=float(price),
                    order_id=mark,
                    order_discount=0.6 * price if sale and sales else None,
                )
                for line in range(2)
            ]
    return sorted(out, key=lambda e: e.event_time)


def profiles(log: list[Event]) -> np.ndarray:
    driver = PipelineDriver(
        gru_scorer(), Settings(worker={"clock": "event"}, state={"hidden_size": 64})
    )
    driver.pipe(log, batch=500)
    records = driver.records()
    now = np.array([START + 366 * DAY])
    rows = [
        features.profile_of(
            np.array([records[f"user-{user}"]]), np.zeros(1, np.intp), now, SessionRules()
        )
        for user in range(20)
    ]
    return np.concatenate(rows)


@pytest.mark.slow
def test_bargain_hunters_are_told_from_those_who_buy_any_day() -> None:
    with_sales, without = (profiles(shop(sales=sales)) for sales in (True, False))
    share = with_sales[:, COLUMNS[1]]
    assert share[:10] == pytest.approx(0.3, abs=1e-6)  # 0.6 of one of two equal prices
    assert share[10:].max() < 0.15
    assert share[10:].min() > 0
    assert not without[:, COLUMNS].any()
    others = np.delete(np.arange(with_sales.shape[1]), COLUMNS)
    assert with_sales[:, others].tobytes() == without[:, others].tobytes()
