"""Late purchases and refunds: training knows of each when serving did, and of no other."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.encoding import columns, encode_event, hash64
from models.history import SessionRules, history_dtype
from models.inputs.apply import apply_in_order
from models.log.arrival import Corrections
from models.log.eventlog import EventLog, in_order
from models.serving.scorer import Scorer
from schemas.events import Event, Purchase, Refund, View
from stream.config.settings import Settings
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
