"""The real Taobao file through the pipeline: final state equals a plain-Python serial replay."""

from __future__ import annotations

import pytest

from models.serving.scorer import Scorer
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import TARGETS, disordered, duplicated, judged_by_oracle
from tests.stream.replay.files import TAOBAO, needs_taobao, replayed
from tests.stream.replay.test_taobao import SINCE, UNTIL
from tests.told import told

pytestmark = [needs_taobao, pytest.mark.slow]

EVENT_CLOCK = Settings(worker={"clock": "event"})


@pytest.mark.full
@pytest.mark.parametrize("order", ["time", "file"])
def test_the_state_of_all_users_equals_the_oracle(order: str) -> None:
    log, _ = replayed(TAOBAO, "taobao", since=SINCE, until=UNTIL, order=order)
    driver = PipelineDriver(Scorer.rhythm(TARGETS), EVENT_CLOCK)
    driver.pipe(log)
    users, totals = judged_by_oracle(log, EVENT_CLOCK.state)
    counters = driver.pipeline.counters
    assert counters.consumed == 84_440
    assert {name: getattr(counters, name) for name in totals} == totals
    if order == "time":
        assert totals["accepted"] == 84_440
    records = driver.records()
    assert len(records) == 815
    for user, record in records.items():
        assert told(record) == users[user].aggregates(), user


def test_shuffled_within_the_grace_and_duplicated_it_ends_in_the_same_bytes() -> None:
    log, _ = replayed(TAOBAO, "taobao", since=SINCE, until=UNTIL)
    scorer = Scorer.rhythm(TARGETS)
    straight, messy = (PipelineDriver(scorer, EVENT_CLOCK) for _ in range(2))
    straight.pipe(log)
    messy.pipe(duplicated(disordered(log, 1, EVENT_CLOCK.state.grace_ms), 1, 0.1))
    counters = messy.pipeline.counters
    assert (counters.accepted, counters.late) == (84_440, 0)
    assert counters.duplicate == 8_444
    assert messy.histories() == straight.histories()
