"""A history of years ago, loaded into real workers: restarts, a second worker and live events
change nobody, and nobody is alerted of the past."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from schemas.events import Event, Purchase, View
from schemas.outputs import ChurnAlert
from stream.config.durations import DAY_MS, MINUTE_MS
from tests.e2e.shop import put
from tests.e2e.world import World

pytestmark = pytest.mark.kafka


@pytest.mark.full
def test_an_old_history_survives_all_that_comes_after_it(world: Callable[..., World]) -> None:
    shop = world(churn={"raise_at": 0.3, "raise_untrained": True, "resolve_at": 0.1})
    now = time.time_ns() // 1_000_000
    begin = now - 1_800 * DAY_MS
    log: list[Event] = [
        Purchase(
            event_id=f"{user}-{n}",
            user_id=f"user-{user}",
            event_time=begin + 7 * n * DAY_MS + user * MINUTE_MS,
            price=10.0,
        )
        for n in range(20)
        for user in range(40)
    ]
    first = shop.start_worker()
    put(shop, log)
    shop.wait_committed(len(log))
    first.stop()
    before = set(shop.records())
    assert len(before) == 40

    workers = [shop.start_worker(), shop.start_worker(INTENTSTREAM_DATA_DIR=str(shop.folder / "b"))]
    live = [View(event_id=f"live-{n}", user_id=f"new-{n}", event_time=now) for n in range(8)]
    put(shop, live[:4])
    shop.wait_committed(len(log) + 4)
    workers[0].kill()
    put(shop, live[4:])
    shop.wait_committed(len(log) + 8)
    # One more commit per partition is behind timers that would have fired by now.
    workers[1].stop()

    changelog = [r for r in shop.raw(shop.settings.changelog) if r.key.startswith(b"u")]
    assert not [record.key for record in changelog if record.value is None]
    assert {record.key.decode()[1:] for record in changelog} == {
        *before,
        *(f"new-{n}" for n in range(8)),
    }
    assert shop.read(shop.settings.topics.churn, ChurnAlert) == []
