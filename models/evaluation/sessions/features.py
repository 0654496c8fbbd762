"""Features of a session by hand, for the baselines: written without the product's own.

One pass over the events of each user in the order of time; a feature at an event knows that event
and earlier ones only. Nothing here is shared with `models.inputs`, so that a mistake or a gap there
is not repeated in what the networks are compared with.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.log.eventlog import OrderedLog
from schemas.events import EventType

F64 = NDArray[np.float64]

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
CATEGORIES: Final = 62
"""Categories that are told apart, the most frequent ones; all others count as one."""
_TYPES: Final = 8
_VIEW, _SEARCH = int(EventType.VIEW), int(EventType.SEARCH)
_CART, _REMOVE = int(EventType.CART_ADD), int(EventType.CART_REMOVE)
_PURCHASE = int(EventType.PURCHASE)

CATEGORICAL: Final = ("type", "type_before", "type_2_before", "category")
NAMES: Final = (
    *CATEGORICAL,
    "position",
    "minutes_in_session",
    "gap_minutes",
    "mean_gap_minutes",
    *(f"in_session_{kind}" for kind in range(1, _TYPES)),
    "items",
    "categories",
    "same_item_as_before",
    "same_category_as_before",
    "item_seen_in_session",
    "category_seen_in_session",
    "item_seen_ever",
    "repeats",
    "most_of_one_item",
    "run_of_category",
    "item_in_cart",
    "cart",
    "search_then_view",
    "view_then_cart",
    "events_since_cart",
    "minutes_since_cart",
    "bought_in_session",
    "past_sessions",
    "past_purchases",
    "past_carts",
    "purchases_per_session",
    "days_since_purchase",
    "days_since_session",
    "hour",
)


@dataclass
class _Session:
    begin: int
    position: int = 0
    kinds: Counter[int] = field(default_factory=Counter)
    items: Counter[int] = field(default_factory=Counter)
    categories: Counter[int] = field(default_factory=Counter)
    repeats: int = 0
    run: int = 0
    search_view: int = 0
    view_cart: int = 0
    cart_at: tuple[int, int] | None = None
    """Place and time of the last addition to the cart."""


@dataclass
class _User:
    sessions: int = 0
    purchases: int = 0
    carts: int = 0
    last_purchase: int | None = None
    last_time: int | None = None
    before_session: int | None = None
    """Time of the last event of the session before."""
    seen: set[int] = field(default_factory=set)
    cart: Counter[int] = field(default_factory=Counter)
    kinds: tuple[int, int] = (0, 0)
    item: int = 0
    category: int = 0


def session_features(ordered: OrderedLog, gap_ms: int) -> F64:
    """The features [N,F] of all events, `NAMES` by column; NaN where there is nothing to tell."""
    events = ordered.log.events
    out = np.full((len(ordered.log), len(NAMES)), np.nan)
    codes, counts = np.unique(events.category, return_counts=True)
    frequent = codes[np.argsort(-counts, kind="stable")][:CATEGORIES].tolist()
    ranks = {code: rank + 1 for rank, code in enumerate(frequent)}
    ends = np.append(ordered.starts[1:], len(ordered.log))
    times, kinds = events.time.tolist(), events.type.tolist()
    items, categories = events.item.tolist(), events.category.tolist()
    for begin, end in zip(ordered.starts.tolist(), ends.tolist(), strict=True):
        user, session = _User(), _Session(times[begin])
        for i in range(begin, end):
            time = times[i]
            gap = 0 if user.last_time is None else time - user.last_time
            if user.last_time is None or gap > gap_ms:
                session = _Session(time)
                user.sessions += 1
                user.before_session, user.kinds = user.last_time, (0, 0)
                user.item = user.category = -1
            event = (time, kinds[i], items[i], categories[i])
            out[i] = _row(user, session, event, gap, ranks.get(categories[i], 0))
            _enter(user, event)
    return out


def _row(
    user: _User, session: _Session, event: tuple[int, int, int, int], gap: int, rank: int
) -> list[float]:
    """The features at an event; the session takes it in."""
    time, kind, item, category = event
    first = session.position == 0
    item_seen, category_seen = session.items[item], session.categories[category]
    session.position += 1
    session.kinds[kind] += 1
    session.items[item] += 1
    session.categories[category] += 1
    session.repeats += item_seen > 0
    session.run = session.run + 1 if category == user.category else 1
    session.search_view += (user.kinds[0], kind) == (_SEARCH, _VIEW)
    session.view_cart += (user.kinds[0], kind) == (_VIEW, _CART)
    if kind == _CART:
        session.cart_at = session.position, time
    since = session.cart_at
    minutes = (time - session.begin) / MINUTE
    return [
        kind,
        *user.kinds,
        rank,
        session.position,
        minutes,
        math.nan if first else gap / MINUTE,
        math.nan if first else minutes / (session.position - 1),
        *(session.kinds[each] for each in range(1, _TYPES)),
        len(session.items),
        len(session.categories),
        item == user.item,
        category == user.category,
        item_seen,
        category_seen,
        item in user.seen,
        session.repeats,
        max(session.items.values()),
        session.run,
        user.cart[item] > 0,
        user.cart.total() + (kind == _CART),
        session.search_view,
        session.view_cart,
        math.nan if since is None else session.position - since[0],
        math.nan if since is None else (time - since[1]) / MINUTE,
        session.kinds[_PURCHASE],
        user.sessions - 1,
        user.purchases,
        user.carts,
        user.purchases / user.sessions,
        math.nan if user.last_purchase is None else (time - user.last_purchase) / DAY,
        math.nan if user.before_session is None else (time - user.before_session) / DAY,
        time % DAY / HOUR,
    ]


def _enter(user: _User, event: tuple[int, int, int, int]) -> None:
    """The user takes in an event, after its features were made."""
    time, kind, item, category = event
    user.last_time, user.item, user.category = time, item, category
    user.kinds = kind, user.kinds[0]
    user.seen.add(item)
    if kind == _CART:
        user.carts += 1
        user.cart[item] += 1
    elif kind == _REMOVE and user.cart[item] > 0:
        user.cart[item] -= 1
    elif kind == _PURCHASE:
        user.purchases += 1
        user.last_purchase = time
        user.cart.clear()
