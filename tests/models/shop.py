"""A small shop with known behaviour, as an event log for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.encoding import category_code, item_code
from models.history import Events, SessionRules
from models.log.eventlog import EventLog, OrderedLog
from models.log.names import Names, catalogue

DAY = 86_400_000
START = 1_600_000_000_000
VIEW, SEARCH, CART, PURCHASE = 1, 2, 4, 6
CIRCLED = 40
"""Categories, and items, of `circling`."""


def shop_log(users: int = 300, days: int = 60, seed: int = 1) -> EventLog:
    """Users with purchase rates of their own, two views before each purchase; some leave."""
    rng = np.random.default_rng(seed)
    times, types, who = [], [], []
    for user in range(users):
        rate = rng.gamma(1.0, 0.25)
        stays = rng.exponential(40) if rng.random() < 0.5 else days
        moment = rng.uniform(0, days / 3)
        while moment < min(days, stays):
            purchase = START + int(moment * DAY)
            times += [purchase - 120_000, purchase - 60_000, purchase]
            types += [VIEW, VIEW, PURCHASE]
            who += [user] * 3
            moment += rng.exponential(1 / max(rate, 0.02))
    return log_of(who, times, types, seed)


def carts_log(users: int = 300, days: int = 60, seed: int = 2) -> EventLog:
    """Users whose next purchase depends on the order of their last two events.

    A session is a view and an addition to the cart; only where the cart comes last a purchase
    follows. Counts, sums and times tell nothing about it; what the last event was does.
    """
    return _carts((VIEW, CART), (CART, VIEW), users, days, seed)


def searched_carts_log(users: int = 300, days: int = 60, seed: int = 2) -> EventLog:
    """As `carts_log`, but searches follow the two events, so that the last ones tell nothing."""
    searches = (SEARCH,) * 4
    return _carts((VIEW, CART, *searches), (CART, VIEW, *searches), users, days, seed)


def _carts(
    bought: tuple[int, ...], left: tuple[int, ...], users: int, days: int, seed: int
) -> EventLog:
    """Sessions of one kind that a purchase follows, and of another that it seldom follows."""
    rng = np.random.default_rng(seed)
    times, types, who = [], [], []
    for user in range(users):
        for moment in np.sort(rng.uniform(0, days, 12)):
            start = START + int(moment * DAY)
            wanted = rng.random() < 0.5
            kinds = bought if wanted else left
            times += [start + 60_000 * place for place in range(len(kinds))]
            types += kinds
            who += [user] * len(kinds)
            if rng.random() < (0.9 if wanted else 0.05):
                times.append(start + DAY // 3)
                types.append(PURCHASE)
                who.append(user)
    return log_of(who, times, types, seed)


def log_of(who: list[int], times: list[int], types: list[int], seed: int = 0) -> EventLog:
    """Events in order of time."""
    rng = np.random.default_rng(seed)
    size = len(times)
    order = np.argsort(times, kind="stable")
    events = Events(
        np.array(times, np.int64),
        rng.permutation(np.arange(1, size + 1)).astype(np.uint64),
        np.array(types, np.uint8),
        rng.integers(1, 50, size).astype(np.uint32),
        rng.integers(0, 5, size).astype(np.uint16),
        rng.integers(0, 500_000, size),
        np.zeros(size, np.uint32),
        np.ones(size, np.uint32),
        np.arange(size) % 3 * 20_000,
    )
    return EventLog(np.array(who, np.uint64) + np.uint64(1), events).take(order)


def orders_log(rows: list[tuple[int, int, int, int]], rng: np.random.Generator) -> EventLog:
    """Events (user, time, type, hash of the order id) in order of time, all of one price."""
    rows = sorted(rows, key=lambda row: row[1])
    users, times, kinds, codes = (np.array(column) for column in zip(*rows, strict=True))
    size = len(rows)
    events = Events(
        times.astype(np.int64),
        rng.permutation(np.arange(1, size + 1)).astype(np.uint64),
        kinds.astype(np.uint8),
        np.arange(size, dtype=np.uint32) % 40 + 1,
        np.ones(size, np.uint16),
        np.full(size, 100_000),
        codes.astype(np.uint32),
        np.ones(size, np.uint32),
    )
    return EventLog(users.astype(np.uint64) * np.uint64(10**15) + np.uint64(7), events)


def circling(log: EventLog, length: int = 3, seed: int = 5) -> tuple[EventLog, dict[str, Names]]:
    """The same events, of named categories and items: each user goes round circles of their own.

    What comes next is what was there `length` events ago; what was there last never is.
    """
    rng = np.random.default_rng(seed)
    turn: dict[int, int] = {}
    own: dict[int, list[int]] = {}
    places = []
    for user in log.users.tolist():
        if user not in own:
            own[user] = rng.choice(CIRCLED, length, replace=False).tolist()
        places.append(own[user][turn.get(user, 0) % length])
        turn[user] = turn.get(user, 0) + 1
    categories, items = ([f"{kind} {place}" for place in places] for kind in ("category", "item"))
    events = replace(
        log.events,
        category=np.array([category_code(name) for name in categories], np.uint16),
        item=np.array([item_code(name) for name in items], np.uint32),
    )
    names = catalogue(("category", "item"))
    names["category"].add(events.category, categories.__getitem__)
    names["item"].add(events.item, items.__getitem__)
    return EventLog(log.users, events), names


def order_starts(ordered: OrderedLog) -> np.ndarray:
    """Which purchases begin an order: those more than the session gap after the user's last one."""
    begins = np.zeros(len(ordered.log), bool)
    last: dict[int, int] = {}
    events = ordered.log.events
    for i in np.flatnonzero(events.type == PURCHASE).tolist():
        user, time = int(ordered.log.users[i]), int(events.time[i])
        begins[i] = user not in last or time - last[user] > SessionRules().gap
        last[user] = time
    return begins
