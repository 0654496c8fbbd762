"""Events in several currencies through the pipeline: state, alerts, counters and restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET

from models.history import AMOUNT_UNIT
from models.serving.scorer import Scorer
from schemas.events import Purchase
from stream.errors import StoreForeign
from stream.pipeline.state import USER_PREFIX
from stream.testing import PipelineDriver
from tests.stream.pipeline.test_pipeline import DAY, START, TARGETS, settings

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.outputs import ChurnAlert

WALL = {
    "worker": {"clock": "wall"},
    "churn": {"raise_at": 0.3, "raise_untrained": True, "resolve_at": 0.1},
}


@pytest.fixture
def euros(tmp_path: Path) -> dict[str, Any]:
    """Settings of money: 150 JPY are an EUR."""
    path = tmp_path / "rates.csv"
    path.write_text(f"date,currency,rate\n1990-01-01,JPY,{1 / 150!r}\n")
    return {"currency": "EUR", "rates": path}


def bought(user: str, price: float, currency: str | None, n: int) -> Purchase:
    return Purchase(
        event_id=f"{user}-{n}",
        user_id=user,
        event_time=START + n * DAY,
        price=price,
        currency=currency,
    )


def customers() -> list[Purchase]:
    """Two who buy as much as often."""
    prices = (("ann", 10, "EUR"), ("bob", 1500, "JPY"))
    return [bought(user, price, currency, n) for n in range(3) for user, price, currency in prices]


def raised(driver: PipelineDriver) -> list[ChurnAlert]:
    """The alerts that are raised within a month without an event."""
    for day in range(3, 33):
        driver.advance(START + day * DAY)
    return [alert for alert in driver.alerts() if alert.state == "raised"]


def spend(driver: PipelineDriver, user: str) -> float:
    (row,) = driver.pipeline._table.rows([USER_PREFIX + user.encode()])
    return float(driver.pipeline._table.records[row]["spend"]) / AMOUNT_UNIT


def test_euros_and_yen_add_up_in_euros(euros: dict[str, Any]) -> None:
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings(**WALL, money=euros))
    driver.pipe([bought("ann", 100, "EUR", 0), bought("ann", 15_000, "jpy ", 1)])
    driver.pipe([bought("ann", 50, None, 2), bought("ann", 7, "CHF", 3)])
    assert spend(driver, "ann") == 250
    counters = driver.pipeline.counters
    assert counters.accepted == 4
    assert (counters.currencies, counters.unpriced) == ({"JPY": 1}, {"CHF": 1})


def test_equal_customers_have_equal_values_at_risk(euros: dict[str, Any]) -> None:
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings(**WALL, money=euros))
    driver.pipe(customers())
    ann, bob = sorted(raised(driver), key=lambda alert: alert.user_id)
    assert ann.value_at_risk == pytest.approx(bob.value_at_risk)
    assert ann.value_at_risk > 0
    assert (ann.currency, bob.currency) == ("EUR", "EUR")


def test_without_a_currency_a_mixture_is_counted() -> None:
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings(**WALL))
    driver.pipe(customers())
    assert driver.pipeline.counters.currencies == {"EUR": 3, "JPY": 3}
    assert {alert.currency for alert in raised(driver)} == {UNSET}


def test_another_currency_is_refused_and_another_table_noted(euros: dict[str, Any]) -> None:
    driver = PipelineDriver(Scorer.rhythm(TARGETS), settings(**WALL, money=euros))
    driver.pipe([bought("ann", 100, "EUR", 0)])
    store = driver.store
    for money in ({"currency": "USD"}, {}):
        with pytest.raises(StoreForeign, match=r"holds amounts in EUR, and money\.currency is"):
            PipelineDriver(Scorer.rhythm(TARGETS), settings(**WALL, money=money), store)
    again = PipelineDriver(
        Scorer.rhythm(TARGETS), settings(**WALL, money={"currency": "EUR"}), store
    )
    again.pipe([bought("ann", 15_000, "JPY", 1)])
    assert spend(again, "ann") == 100
    assert again.pipeline.counters.unpriced == {"JPY": 1}
