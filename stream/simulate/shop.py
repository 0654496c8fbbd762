"""Draws a shop's events, all users at once.

Purchases come first, from the true hazards; each has a session that leads up to it. Browsing
sessions then fill up to the planned number of events.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.events import EventType
from stream.simulate.plan import DAY_MS, Plan
from stream.simulate.truth import Truth, draw_truth

__all__ = ["Shop", "simulate"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BROWSING: Final = {
    EventType.VIEW: 0.84,
    EventType.SEARCH: 0.06,
    EventType.FAVOURITE: 0.04,
    EventType.CART_ADD: 0.05,
    EventType.CART_REMOVE: 0.01,
}
_VIEWS_BEFORE_PURCHASE: Final = 3.0
_EVENTS_PER_SESSION: Final = 6.0
_GAP_MS: Final = 45_000.0
"""Mean time between two events of a session."""
_POPULARITY: Final = 3.0
"""Exponent of item popularity: the larger, the more do a few items dominate."""


@dataclass(frozen=True)
class Shop:
    """N events in order of time; the arrays have shape [N].

    Attributes:
        truth: the users behind them.
        time: milliseconds since the epoch, UTC.
        user: index of the user.
        kind: `EventType` code.
        item: item number; its category is item % categories.
        session: session number.
        quantity: units, 1 unless bought.
        prices: price by item number, shape [items].
    """

    truth: Truth
    time: Ints
    user: Ints
    kind: Ints
    item: Ints
    session: Ints
    quantity: Ints
    prices: Floats


@dataclass(frozen=True)
class _Sessions:
    """Events of sessions, of equal length each; `session` counts from 0 within."""

    time: Ints
    user: Ints
    kind: Ints
    item: Ints
    session: Ints

    def where(self, keep: npt.NDArray[np.bool_] | Ints) -> "_Sessions":
        return _Sessions(
            self.time[keep], self.user[keep], self.kind[keep], self.item[keep], self.session[keep]
        )


def simulate(plan: Plan) -> Shop:
    """Draw the users and exactly `plan.events` events.

    Should a small plan draw more purchase sessions than it has events, the earliest are kept.
    """
    random = np.random.default_rng([plan.seed, 0])
    truth = draw_truth(plan, random)
    buying = _buying(truth, random)
    browsing = _browsing(truth, plan.events - len(buying.time), random)
    after = int(buying.session.max(initial=-1)) + 1
    time = np.concatenate([buying.time, browsing.time])
    order = np.argsort(time, kind="stable")[: plan.events]
    kind = np.concatenate([buying.kind, browsing.kind])[order]
    several = random.geometric(0.7, len(order))
    return Shop(
        truth=truth,
        time=time[order],
        user=np.concatenate([buying.user, browsing.user])[order],
        kind=kind,
        item=np.concatenate([buying.item, browsing.item])[order],
        session=np.concatenate([buying.session, browsing.session + after])[order],
        quantity=np.where(kind == EventType.PURCHASE, several, 1),
        prices=random.lognormal(3.0, 0.8, plan.items).round(2) + 0.01,
    )


def _stays(truth: Truth) -> Ints:
    """Milliseconds each user is there inside the period."""
    return np.minimum(truth.left, truth.plan.end) - truth.first


def _items(truth: Truth, user: Ints, random: np.random.Generator) -> Ints:
    """One item per entry: half the time from the user's favourite category."""
    plan = truth.plan
    favourite = (user * 2_654_435_761) % plan.categories
    per_category = plan.items // plan.categories
    rank = (per_category * random.random(len(user)) ** _POPULARITY).astype(np.int64)
    category = np.where(
        random.random(len(user)) < 0.5,  # noqa: PLR2004
        favourite,
        random.integers(0, plan.categories, len(user)),
    )
    return rank * plan.categories + category


def _buying(truth: Truth, random: np.random.Generator) -> _Sessions:
    """Purchases of the Poisson processes, each after some views and a cart_add of its item."""
    stay = _stays(truth)
    counts = random.poisson(truth.purchase_per_day * stay / DAY_MS)
    user = np.repeat(np.arange(len(stay)), counts)
    time = truth.first[user] + (random.random(len(user)) * stay[user]).astype(np.int64)
    item = _items(truth, user, random)
    before = random.geometric(1 / (_VIEWS_BEFORE_PURCHASE + 1), len(user)) - 1
    lengths = before + 2
    session = np.repeat(np.arange(len(user)), lengths)
    last = np.cumsum(lengths) - 1
    gaps = random.exponential(_GAP_MS, len(session)).astype(np.int64) + 1
    gaps[last] = 0
    elapsed = np.cumsum(gaps[::-1])[::-1]
    elapsed -= np.repeat(elapsed[last], lengths)
    kind = np.full(len(session), EventType.VIEW.value)
    kind[last] = EventType.PURCHASE.value
    kind[last - 1] = EventType.CART_ADD.value
    browsed = _items(truth, user[session], random)
    sessions = _Sessions(
        time=time[session] - elapsed,
        user=user[session],
        kind=kind,
        item=np.where(kind == EventType.VIEW, browsed, item[session]),
        session=session,
    )
    return sessions.where(sessions.time >= truth.first[sessions.user])


def _browsing(truth: Truth, events: int, random: np.random.Generator) -> _Sessions:
    """Sessions without a purchase, `events` events in all; the last session may be cut short."""
    events = max(events, 0)
    lengths = np.empty(0, np.int64)
    while lengths.sum() < events:
        more = int((events - lengths.sum()) / _EVENTS_PER_SESSION * 1.05) + 16
        lengths = np.concatenate([lengths, random.geometric(1 / _EVENTS_PER_SESSION, more)])
    stay = _stays(truth)
    share = np.cumsum(truth.activity * stay)
    drawn = np.searchsorted(share, random.random(len(lengths)) * share[-1], side="right")
    owner = np.minimum(drawn, len(stay) - 1)
    begin = truth.first[owner] + (random.random(len(owner)) * stay[owner]).astype(np.int64)
    session = np.repeat(np.arange(len(lengths)), lengths)[:events]
    gaps = random.exponential(_GAP_MS, events).astype(np.int64) + 1
    starts = (np.cumsum(lengths) - lengths)[: int(session.max(initial=-1)) + 1]
    gaps[starts] = 0
    elapsed = np.cumsum(gaps)
    elapsed -= elapsed[starts][session]
    user = owner[session]
    codes = np.array([int(code) for code in _BROWSING])
    kind = random.choice(codes, events, p=list(_BROWSING.values()))
    return _Sessions(
        time=np.minimum(begin[session] + elapsed, truth.first[user] + stay[user] - 1),
        user=user,
        kind=np.where(truth.bot[user], EventType.VIEW.value, kind),
        item=_items(truth, user, random),
        session=session,
    )
