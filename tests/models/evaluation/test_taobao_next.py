"""What comes next, on users with habits."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.contest import ContestConfig
from models.evaluation.taobao_next import next_task
from models.history import Events
from models.log.eventlog import EventLog

pytestmark = pytest.mark.slow

CONFIG = ContestConfig(seeds=(0, 1), networks=("gru", "blend"))


def habits(users: int = 60, length: int = 30) -> EventLog:
    """Everybody goes round a circle of items of their own, and now and then elsewhere."""
    rng = np.random.default_rng(0)
    who, items = [], []
    for user in range(users):
        circle = rng.choice(200, 4, replace=False) + 1
        for place in range(length):
            who.append(user + 1)
            stray = rng.random() < 0.15
            items.append(int(rng.integers(1, 201)) if stray else int(circle[place % 4]))
    size = len(who)
    events = Events(
        np.arange(size, dtype=np.int64) + 1_000_000,
        np.arange(1, size + 1, dtype=np.uint64),
        np.ones(size, np.uint8),
        np.array(items, np.uint32),
        (np.array(items) % 20 + 1).astype(np.uint16),
        np.zeros(size, np.int64),
        np.zeros(size, np.uint32),
        np.ones(size, np.uint32),
    )
    return EventLog(np.array(who, np.uint64), events)


@pytest.mark.parametrize("what", ["item", "category"])
def test_the_model_learns_the_habit(what: str) -> None:
    result = next_task(f"next_{what}", "next", habits(), what, CONFIG, lambda _: None)
    assert set(result.models) == {
        "popularity",
        "last_category",
        "recent",
        "co_occurrence",
        "log_linear",
        "gru",
    }
    assert set(result.curves) == {"gru"}
    assert result.models["gru"].mean("ndcg_10") > result.models["recent"].mean("ndcg_10")
    for name, model in result.models.items():
        assert 0 <= model.mean("ndcg_10") <= model.mean("hr_10") <= 1, name
    assert result.models["log_linear"].mean("ndcg_10") > 0.5


def test_the_last_event_is_not_known() -> None:
    """With last events that nobody ever had before, nothing can be right."""
    log = habits()
    last = np.flatnonzero(np.append(np.diff(log.users.astype(np.int64)) != 0, True))
    log.events.item[last] = 1000 + np.arange(len(last))
    result = next_task("next_item", "next", log, "item", CONFIG, lambda _: None)
    assert all(model.mean("hr_10") == 0 for model in result.models.values())
