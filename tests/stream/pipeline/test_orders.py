"""Orders in serving: what was given back makes no buyer, a further line is no return."""

from __future__ import annotations

import random

import pytest

from schemas.events import Event, Purchase, Refund, View
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import DAY, START, gru_scorer, passers_by

pytestmark = pytest.mark.slow

HOUR = 3_600_000
SETTINGS = Settings(
    worker={"clock": "event", "emit": "every"},
    churn={
        "tick_ms": HOUR,
        "prior_gap_ms": DAY,
        "raise_at": 0.01,
        "raise_untrained": True,
        "resolve_at": 0.0005,
    },
)


def bought(number: int, at: float, **fields: object) -> Purchase:
    return Purchase(
        event_id=f"p{number}-{at}",
        user_id="ann",
        event_time=START + round(at * DAY),
        item_id=f"item-{number}",
        price=20.0,
        **fields,  # type: ignore[arg-type]
    )


def given_back(number: int, at: float, **fields: object) -> Refund:
    return Refund(
        event_id=f"r{number}-{at}",
        user_id="ann",
        event_time=START + round(at * DAY),
        price=20.0,
        **fields,  # type: ignore[arg-type]
    )


def after(log: list[Event], days: float = 60) -> PipelineDriver:
    driver = PipelineDriver(gru_scorer(), SETTINGS)
    driver.pipe(log)
    for day in range(int(log[-1].event_time - START) // DAY + 1, int(days)):
        driver.pipe(passers_by(day))
    return driver


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("returned", "raised"), [(0, True), (6, True), (7, False), (8, False)])
def test_who_gave_orders_back_is_raised_as_a_buyer_of_the_rest(
    *, named: bool, returned: int, raised: bool
) -> None:
    order = [{"order_id": f"o{n}"} if named else {} for n in range(8)]
    log: list[Event] = [bought(n, n, **order[n]) for n in range(8)]
    for n in range(returned):
        item = {} if named else {"item_id": f"item-{n}"}
        log.append(given_back(n, 8 + n / 100, **order[n], **item))
    driver = after(log)
    assert int(driver.records()["ann"]["orders"]) == 8 - returned
    alerts = [alert for alert in driver.alerts() if alert.user_id == "ann"]
    assert (alerts != []) == raised
    assert all(alert.value_at_risk > 0 for alert in alerts if alert.state == "escalated")


@pytest.mark.parametrize("orders", [3, 8, 12])
@pytest.mark.parametrize("late", [False, True])
def test_an_open_alert_ends_when_everything_is_given_back(orders: int, *, late: bool) -> None:
    """With more orders than are told apart, and by a till that is a day behind, too."""
    log: list[Event] = [bought(n, n, order_id=f"o{n}") for n in range(orders)]
    driver = after(log, 40)
    open_alerts = [alert for alert in driver.alerts() if alert.user_id == "ann"]
    assert [alert.state for alert in open_alerts][:1] == ["raised"]
    if late:
        driver.pipe([View(event_id="seen", user_id="ann", event_time=START + 41 * DAY)])
        open_alerts = [alert for alert in driver.alerts() if alert.user_id == "ann"]
    driver.pipe([given_back(n, 40.5 + n / 1000, order_id=f"o{n}") for n in range(orders)])
    for day in range(41, 90):
        driver.pipe(passers_by(day))
    alerts = [alert for alert in driver.alerts() if alert.user_id == "ann"]
    ended = alerts[len(open_alerts) :]
    assert [(alert.state, alert.cause) for alert in ended] == [("resolved", "behaviour")]
    assert ended[0].episode == open_alerts[0].episode


def test_a_second_shipment_of_an_order_is_no_return() -> None:
    log: list[Event] = [bought(n, n, order_id=f"o{n}") for n in range(4)]
    driver = after(log, 30)
    assert next(alert.state for alert in driver.alerts() if alert.user_id == "ann") == "raised"
    record = driver.records()["ann"]
    driver.pipe([bought(9, 30, order_id="o3")])
    again = driver.records()["ann"]
    assert int(again["orders"]) == int(record["orders"]) == 4
    assert int(again["last_order"]) == START + 3 * DAY
    driver.pipe([bought(10, 30.1, order_id="o4")])
    assert int(driver.records()["ann"]["orders"]) == 5


@pytest.mark.parametrize(("order", "state"), [("o3", None), ("o4", "resolved")])
def test_a_late_line_ends_an_alert_if_it_begins_an_order(order: str, state: str | None) -> None:
    log: list[Event] = [bought(n, n, order_id=f"o{n}") for n in range(4)]
    driver = after(log, 30)
    driver.pipe([View(event_id="seen", user_id="ann", event_time=START + 31 * DAY)])
    before = [alert.state for alert in driver.alerts() if alert.user_id == "ann"]
    assert before[0] == "raised"
    assert "resolved" not in before
    driver.pipe([bought(9, 30.5, order_id=order)])
    ended = [alert.state for alert in driver.alerts() if alert.user_id == "ann"][len(before) :]
    assert ended == ([state] if state else [])


@pytest.mark.parametrize("named", [True, False])
def test_a_refund_in_the_millisecond_of_its_purchase_counts(*, named: bool) -> None:
    """Whatever the ids hash to, and whichever comes first."""
    for trial in range(6):
        order = {"order_id": f"o{trial}"} if named else {}
        log: list[Event] = [bought(n, n) for n in range(3)]
        pair: list[Event] = [bought(90 + trial, 5, **order)]
        pair.append(given_back(90 + trial, 5, **order, item_id=f"item-{90 + trial}"))
        states = []
        for last in (pair, pair[::-1]):
            driver = PipelineDriver(gru_scorer(), SETTINGS)
            driver.pipe([*log, *last])
            assert int(driver.records()["ann"]["orders"]) == 3
            states.append(driver.histories())
        assert states[0] == states[1]


@pytest.mark.parametrize("ahead", [1, 5 * 60_000, 2 * DAY])
def test_a_refund_that_comes_before_its_order_takes_it_back(ahead: int) -> None:
    """The till's clock is ahead of the warehouse's, or the order comes days after."""
    log: list[Event] = [bought(n, n) for n in range(3)]
    log.append(given_back(8, 8 - ahead / DAY, order_id="o"))
    log += [bought(8, 8, order_id="o"), bought(9, 20, order_id="p")]
    driver = after(log, 20)
    assert int(driver.records()["ann"]["orders"]) == 4


@pytest.mark.parametrize("seed", range(3))
def test_lines_and_refunds_in_any_order_end_the_same(seed: int) -> None:
    """Lines over midnight and refunds that come before their purchases, within the grace."""
    midnight = -(START % DAY) / DAY
    log: list[Event] = [bought(n, n, order_id=f"o{n % 3}") for n in range(3)]
    last: list[Event] = [
        bought(10 + n, 5 + midnight + n / 86_400 - 0.00002, order_id=f"x{n % 4}") for n in range(12)
    ]
    last += [given_back(10 + n, 5.001 + midnight, order_id=f"x{n % 4}") for n in range(6)]
    straight, shuffled = (PipelineDriver(gru_scorer(), SETTINGS) for _ in range(2))
    straight.pipe([*log, *sorted(last, key=lambda event: event.event_time)])
    random.Random(seed).shuffle(last)
    shuffled.pipe([*log, *last])
    assert shuffled.histories() == straight.histories()
    assert int(straight.records()["ann"]["orders"]) == 7 - 0
