"""The event log that everybody reads: drawn from a seed, produced once per broker."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.events import TYPE_NAMES
from stream.replay.order import Row

SIGMA = 1.5
_KINDS = (1, 2, 3, 4, 5, 6)
_SHARES = (0.80, 0.06, 0.04, 0.06, 0.01, 0.03)
_ITEMS = 10_000
_CATEGORIES = 200
_CHUNK = 1 << 15
SPAN_MS = 3_600_000
"""Of event time that a log covers."""
_SESSION_MS = 1_200_000


@dataclass(frozen=True)
class LogPlan:
    """An event log. Equal plans give equal users, types and items in the same order.

    Attributes:
        events: number of events.
        users: number of users; each has one event at least, the others are drawn.
        partitions: of the topic.
        hot_share: share of the events that one user sends beside their own.
        seed: of all randomness.
    """

    events: int
    users: int
    partitions: int = 4
    hot_share: float = 0.0
    seed: int = 5

    @property
    def topic(self) -> str:
        """Name of the topic that holds this log."""
        hot = f".hot{round(100 * self.hot_share)}" if self.hot_share else ""
        return f"bench.{self.events}-{self.users}-{self.partitions}{hot}.s{self.seed}"


def users_of(plan: LogPlan) -> npt.NDArray[np.int64]:
    """User of each event, shape [events]: log-normal activity with sigma 1.5.

    Raises:
        ValueError: there are fewer events than users.
    """
    if plan.users > plan.events:
        raise ValueError(f"{plan.users} users need as many events, but there are {plan.events}")
    random = np.random.default_rng([plan.seed, 0])
    activity = random.lognormal(0.0, SIGMA, plan.users)
    drawn = random.choice(plan.users, plan.events - plan.users, p=activity / activity.sum())
    users = np.concatenate([np.arange(plan.users), drawn])
    random.shuffle(users)
    users[random.random(plan.events) < plan.hot_share] = 0
    return users


def rows(plan: LogPlan, end_ms: int | None = None) -> Iterator[Row]:
    """Yield the log's records, JSON as the schemas have it, in order of event time.

    Args:
        plan: what to draw.
        end_ms: time of the last event; now unless given. The log covers the hour before.
    """
    end = end_ms if end_ms is not None else time.time_ns() // 1_000_000
    users = users_of(plan)
    random = np.random.default_rng([plan.seed, 1])
    kinds = random.choice(_KINDS, plan.events, p=_SHARES)
    items = (_ITEMS * random.random(plan.events) ** 3).astype(np.int64)
    times = end - SPAN_MS + np.sort(random.integers(0, SPAN_MS, plan.events))
    prices = random.lognormal(3.0, 0.8, _ITEMS).round(2)
    names = {code: TYPE_NAMES[code] for code in _KINDS}
    for start in range(0, plan.events, _CHUNK):
        part = slice(start, start + _CHUNK)
        columns = (users[part], kinds[part], items[part], times[part])
        lists = (column.tolist() for column in columns)
        for number, (user, kind, item, at) in enumerate(zip(*lists, strict=True), start):
            who = f"u{user}"
            value = (
                f'{{"type":"{names[kind]}","event_id":"b{plan.seed}-{number}","user_id":"{who}",'
                f'"event_time":{at},"session_id":"s{user}-{at // _SESSION_MS}",'
                f'"item_id":"i{item}","category_id":"c{item % _CATEGORIES}",'
                f'"price":{prices[item]:.2f},"quantity":1}}'
            )
            yield Row(at, number, who.encode(), value.encode())
