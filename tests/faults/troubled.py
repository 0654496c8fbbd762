"""Event logs with all that goes wrong with event logs, and what plain Python makes of them.

Drawn from any `random.Random`: hypothesis passes one that it can shrink, a seed gives the same log
to a real worker.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from models.encoding import encode_event
from schemas.codec import encode
from schemas.events import CartAdd, CartRemove, Event, Favourite, Purchase, Refund, Search, View
from tests.logs import DAY, START
from tests.oracle import Ev, UserHistory

if TYPE_CHECKING:
    from stream.config.settings import StateSettings

GAP: Final = 1_800_000
GRACE: Final = 600_000
POISON: Final = (
    b"",
    b"null",
    b"{",
    b'{"type":"view"}',
    b"\xff\xfe",
    b'{"type":"dance","event_id":"1","user_id":"user-0","event_time":1}',
    b'{"type":"view","event_id":"1","user_id":"user-0","event_time":NaN}',
    b"[" * 5000,
    None,
)


@dataclass(frozen=True)
class Sent:
    """A record, and the event that it is, if it is one."""

    key: bytes | None
    value: bytes | None
    event: Event | None


def troubled_log(
    rng: random.Random, count: int, users: int = 5, silence: int = 40 * DAY
) -> list[Sent]:
    """Draw `count` records.

    One hot user, ties, pauses on both sides of every limit, events that come late by less and by
    more than the grace, repeats near and far (the same id also with other contents, or of another
    user), records that are no events, and silences as long as `silence`.
    """
    log: list[Sent] = []
    events: list[Event] = []
    now = START
    for i in range(count):
        now += rng.choice((0, 1, 999, 60_000, GAP, GAP + 1, DAY // 3, DAY, DAY + 1, silence))
        dice = rng.randrange(20)
        if dice == 0:
            log.append(Sent(b"user-0", rng.choice(POISON), None))
            continue
        if dice == 1 and events:
            event = rng.choice(events[-6:])
        elif dice == 2 and events:
            event = _event(rng, rng.choice(events).event_id, now, users)
        else:
            event = _event(rng, f"e{i}", now, users)
            events.append(event)
        key = event.user_id.encode()
        if dice == 3:
            log.append(Sent(b"someone-else", encode(event), None))
        else:
            log.append(Sent(key, encode(event), event))
    return log


def _event(rng: random.Random, event_id: str, now: int, users: int) -> Event:
    behind = rng.choice((0, 0, 0, 0, 1, GRACE // 2, GRACE, GRACE + 1, 3 * GRACE, DAY))
    user = 0 if rng.randrange(2) else rng.randrange(users)
    kind = rng.choice((View, Search, Favourite, CartAdd, CartRemove, Purchase, Purchase, Refund))
    return kind(
        event_id=event_id,
        user_id=f"user-{user}",
        event_time=now - behind,
        item_id=rng.choice((None, "item-1", "item-2")),
        category_id=rng.choice((None, "category-1")),
        price=rng.choice((None, 0.01, 9.99, 120.0)),
        quantity=rng.choice((1, 1, 3)),
    )


@dataclass
class Judgement:
    """What plain Python says of a log."""

    users: dict[str, UserHistory] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    accepted: list[int] = field(default_factory=list)
    """Places in the log of the events that count."""


def judged_plainly(log: list[Sent], state: StateSettings) -> Judgement:
    """Judge record after record."""
    out = Judgement()
    for place, sent in enumerate(log):
        if sent.event is None:
            out.totals["invalid"] += 1
            continue
        user = out.users.setdefault(
            sent.event.user_id,
            UserHistory(
                state.ring,
                state.session_gap_ms,
                state.session_max_ms,
                state.grace_ms,
                state.ttl_ms or None,
                state.correction_ms,
            ),
        )
        verdict = user.offer(Ev(*encode_event(sent.event)))
        out.totals["invalid" if verdict == "reused" else verdict] += 1
        if verdict == "accepted":
            out.accepted.append(place)
    return out
