"""The lines of an order at one time, 7 ms apart or 2 s apart are one log to labels and outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.dataset import DatasetConfig
from models.history import PURCHASE, REFUND
from models.log.eventlog import EventLog
from models.targets import shop_targets
from models.training.gather import gather
from schemas.events import EventType
from stream.outcomes.joiner import OutcomeJoiner
from stream.outcomes.order_times import Line
from stream.outcomes.rules import OutcomeRules
from tests.models.shop import DAY, START, orders_log
from tests.stream.outcomes.tools import prediction

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 7 * DAY, 28 * DAY)
CONFIG = DatasetConfig(history_length=16, event_points=6, silence_points=2, min_points=10)
USERS, DAYS = 250, 160


def shop(apart: int, *, named: bool = False) -> EventLog:
    """Orders at random times, of 1 to 4 lines that lie so many ms apart."""
    rng, ids = np.random.default_rng(4), np.random.default_rng(5)
    rows = []
    for user in range(USERS):
        rate = rng.gamma(1.0, 0.12)
        moment = rng.uniform(0, 30)
        while moment < DAYS:
            time, code = START + int(moment * DAY), int(ids.integers(1, 2**32)) if named else 0
            rows.append((user, time - 60_000, int(EventType.VIEW), 0))
            lines = range(int(rng.integers(1, 5)))
            rows += [(user, time + line * apart, PURCHASE, code) for line in lines]
            moment += rng.exponential(1 / max(rate, 0.02))
    return orders_log(rows, rng)


def trained_shares(log: EventLog) -> list[float]:
    examples = gather(log, TARGETS, CONFIG, drop_late=True, now=START + 300 * DAY).examples
    at_lines = examples.now == examples.time[examples.event]
    return np.nanmean(examples.labels[at_lines], axis=0).tolist()


def outcome_shares(log: EventLog) -> list[float]:
    joiner = OutcomeJoiner(OutcomeRules(TARGETS, 28 * DAY))
    events = log.events
    for i in range(len(log)):
        time, kind = int(events.time[i]), int(events.type[i])
        user = str(log.users[i])
        line = Line(time, kind, int(events.id[i]), int(events.order[i]), int(events.item[i]), 10.0)
        joiner.event(user, time, kind, line=line if kind == PURCHASE else None)
        joiner.prediction(prediction(user, (time - 1_600_000_000_000) / DAY, offset=i))
    joiner.event("clock", START + 300 * DAY, EventType.VIEW)
    joiner.prediction(prediction("clock", (START + 300 * DAY - 1_600_000_000_000) / DAY))
    figures = [joiner.figures(target.name) for target in TARGETS]
    return [one.base_rate for one in figures if one is not None]


@pytest.fixture(scope="module")
def together() -> tuple[list[float], list[float]]:
    log = shop(0)
    return trained_shares(log), outcome_shares(log)


@pytest.mark.parametrize(
    "changes",
    [
        {"apart": 7},
        {"apart": 2_000},
        {"apart": 0, "named": True},
        {"apart": 7, "named": True},
        {"apart": 2_000, "named": True},
    ],
    ids=["7 ms", "2 s", "ids", "ids, 7 ms", "ids, 2 s"],
)
def test_shares_do_not_depend_on_how_lines_are_timed(
    together: tuple[list[float], list[float]], changes: dict[str, int]
) -> None:
    log = shop(**changes)  # type: ignore[arg-type]
    assert trained_shares(log) == pytest.approx(together[0], abs=0.03)
    assert outcome_shares(log) == pytest.approx(together[1], abs=0.03)


def test_everything_given_back_leaves_no_buyer() -> None:
    log = shop(7, named=True)
    bought = log.where(log.events.type == PURCHASE)
    back = bought.take(np.arange(len(bought)))
    back.events.time[:] += 600_000
    back.events.type[:] = REFUND
    back.events.id[:] += np.uint64(10**9)
    joiner = OutcomeJoiner(OutcomeRules(TARGETS, 28 * DAY, cancel_window_ms=DAY))
    both = EventLog.join([log, back])
    both = both.take(np.argsort(both.events.time, kind="stable"))
    events = both.events
    for i in range(len(both)):
        time, kind, user = int(events.time[i]), int(events.type[i]), str(both.users[i])
        line = Line(time, kind, int(events.id[i]), int(events.order[i]), int(events.item[i]), 10.0)
        joiner.event(user, time, kind, line=line if kind in (PURCHASE, REFUND) else None)
        joiner.prediction(prediction(user, (time - 1_600_000_000_000) / DAY, offset=i))
    joiner.event("clock", START + 300 * DAY, EventType.VIEW)
    joiner.prediction(prediction("clock", (START + 300 * DAY - 1_600_000_000_000) / DAY))
    purchase = joiner.figures("purchase")
    assert purchase is not None
    assert purchase.base_rate == 0
    assert purchase.matured > 100
    churn = joiner.figures("churn")  # of moments before the refunds of two orders came
    assert churn is None or churn.matured < 0.05 * purchase.matured
