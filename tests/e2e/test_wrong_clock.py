"""A worker on a machine whose clock is three days ahead of the broker's ends, and says why."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from schemas.events import View
from tests.e2e.shop import put
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.world import World

pytestmark = pytest.mark.kafka

AHEAD = """
import time
real, real_ns, ahead = time.time, time.time_ns, 3 * 86_400
time.time = lambda: real() + ahead
time.time_ns = lambda: real_ns() + ahead * 10**9
from stream.cli.main import main
main()
"""


@pytest.mark.full
def test_a_worker_three_days_ahead_names_its_clock(world: Callable[..., World]) -> None:
    shop = world()
    now = time.time_ns() // 1_000_000
    put(shop, [View(event_id=f"v-{n}", user_id=f"u-{n}", event_time=now) for n in range(20)])
    worker = shop.start_worker([sys.executable, "-c", AHEAD])
    assert worker.process.wait(PATIENCE_S) == 1, worker.said()[-3000:]
    last = worker.said().strip().splitlines()[-1]
    (told,) = re.findall(r"the clock of this machine says (\S+) \S+ UTC", last)
    days = datetime.strptime(told, "%Y-%m-%d").replace(tzinfo=UTC) - datetime.now(UTC)
    assert 1.9 < days / timedelta(days=1) < 3.1
    assert "message.timestamp.after.max.ms" in last
    assert "3.0 days ahead of the broker's, which says " in last
    assert "opened anew" not in worker.said()
    assert shop.committed() == 0

    right = shop.start_worker()
    shop.wait_committed(20)
    right.stop()
