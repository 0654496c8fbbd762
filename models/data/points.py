"""Points in time: moments at which a user is looked at, and what a worker would have seen then.

A point lies just after one of its user's events, or at a random time in the silence after it, so
that a model learns what silence means. All choices are hashes of user, event and seed: the points
do not depend on how a log is cut into pieces, and a log that goes on keeps those it has drawn.

The work is incremental: `draw` takes the histories as they were, applies the next events, and draws
the points of that stretch of time. A whole log is one stretch, from empty histories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.data.following import EventKeys
from models.data.timers import AT_TIMERS, TimerRules, timer_moments
from models.history import Events, Records, SessionRules, Snapshot, snapshot
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.inputs.reach import Reach, used_events
from models.inputs.recent import recent_along
from models.log.automation import automated
from models.log.orders import Deciding
from models.memory import give_back
from models.targets import Target

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Index = NDArray[np.intp]

_EVENT_SALT: Final = 0x65
_SILENCE_SALT: Final = 0x73


@dataclass(frozen=True)
class Drawing:
    """How many points are drawn, and through which window they look."""

    history_length: int
    """Events that a network is shown before a point, at most."""
    event_points: int
    """Points per user just after an event, at most."""
    session_points: int
    """The same where a target applies at events only; those beyond `event_points` are of such
    targets alone, so that the points of the others do not depend on them."""
    silence_points: int
    """Points per user at random times of their life so far."""
    min_orders: int
    """Orders that a user must have had for their absence to mean anything."""
    bot_session_events: int
    """See `models.log.automation`; such users give no points."""
    sessions: SessionRules
    seed: int
    timers: TimerRules | None = None
    """Points also where timers would have evaluated users; None: none."""

    def most_at_events(self, targets: tuple[Target, ...]) -> int:
        """Points per user just after an event, at most, where these targets are predicted."""
        at_events = any(target.at_events for target in targets)
        return max(self.event_points, self.session_points if at_events else 0)


@dataclass(slots=True)
class Points:
    """Q points over N events. C, F, P: see `models/networks/base.py`; K targets."""

    ids: I64
    """[N,C] events, user by user in their order."""
    nums: F32
    """[N,F] of the same events."""
    time: I64
    """[N] when they happened, ms."""
    event: Index
    """[Q] last event that the point has seen."""
    start: Index
    """[Q] first event of the window that the point looks through."""
    now: I64
    """[Q] ms."""
    profile: F32
    """[Q,P]."""
    user: U64
    """[Q] hash of the user."""
    seen: I64
    """[Q] events of the user before the last one that the point has seen."""
    slot: I64
    """[Q] which of its user's places the point holds: an event's hash, -1 - k for silence k, or
    less than `AT_TIMERS` at a timer."""
    horizon: I64
    """[Q,K] length of the label window, ms: the target's, or the user's own as known at `now`."""
    following: I64
    """[Q,K] time of the first event after `now` that decides the target, 0: none so far."""
    spent: I64
    """[Q,S] amounts of the events so far that decide each of the S targets that are amounts, within
    their horizon, in 1 / AMOUNT_UNIT."""
    session_end: I64
    """[Q] time of the last event so far of the session that goes on at `now`; `now` if none
    followed within the session gap."""
    eligible: Bools
    """[Q,K] whether the target applies at that point."""

    def __len__(self) -> int:
        return len(self.event)

    def take(self, kept: Index) -> Points:
        """The points `kept` in that order, and of the events only those they look through."""
        events, moved = used_events(self.start[kept], self.event[kept], len(self.ids))
        rest = {name: getattr(self, name)[kept] for name in _PER_POINT}
        return Points(
            ids=self.ids[events],
            nums=self.nums[events],
            time=self.time[events],
            event=moved[self.event[kept]],
            start=moved[self.start[kept]],
            **rest,
        )


T = TypeVar("T")


def join(parts: list[T]) -> T:
    """Points or examples of all parts, one after the other.

    Empties the list and the parts as it goes, so that memory holds little more than the sum.
    """
    kind: Any = type(parts[0])
    sizes = [len(part.ids) for part in parts]  # type: ignore[attr-defined]
    for part, offset in zip(parts, np.cumsum([0, *sizes[:-1]]), strict=True):
        part.event = part.event + offset  # type: ignore[attr-defined]
        part.start = part.start + offset  # type: ignore[attr-defined]
    columns: dict[str, Any] = {}
    for name in kind.__slots__:
        first = getattr(parts[0], name)
        size = sum(len(getattr(part, name)) for part in parts)
        column = columns[name] = np.empty((size, *first.shape[1:]), first.dtype)
        filled = 0
        for part in parts:
            piece = getattr(part, name)
            column[filled : filled + len(piece)] = piece
            filled += len(piece)
            setattr(part, name, None)
            del piece
        del first
        give_back()
    parts.clear()
    joined: T = kind(**columns)
    return joined


_PER_POINT: Final = (
    "now",
    "profile",
    "user",
    "seen",
    "slot",
    "horizon",
    "following",
    "spent",
    "session_end",
    "eligible",
)


def mix(values: U64 | int, salt: U64 | int = 0) -> U64:
    """64 random-looking bits of each value (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = np.asarray(values, np.uint64) + np.uint64(0x9E3779B97F4A7C15) * (
            np.asarray(salt, np.uint64) + np.uint64(1)
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: U64 = z ^ (z >> np.uint64(31))
    return mixed


def uniform(bits: U64) -> NDArray[np.float64]:
    """Hashes as numbers in [0, 1)."""
    numbers: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def window_start(position: Index, length: int) -> Index:
    """First event, counted from the user's first, of the window that shows a position.

    Windows begin at multiples of half their length, so that neighbouring points share one and every
    point beyond the first window sees at least half a window.
    """
    stride = max(length // 2, 1)
    return np.maximum(-(-(position + 1 - length) // stride), 0) * stride


def draw(
    records: Records,
    users: U64,
    rows: Index,
    events: Events,
    decides: Deciding,
    since: int | None,
    until: int,
    targets: tuple[Target, ...],
    config: Drawing,
) -> Points:
    """Apply the next N events to histories and draw the points of that stretch of time.

    Args:
        records: [U] histories, changed in place; their ring holds `config.history_length` events.
        users: [U] hash of each one's user.
        rows: [N] record of each event, ascending.
        events: in order of row, time and id; later than `since` and at most `until`.
        decides: [N] which events decide labels, and what amounts.
        since: end of the stretch before, ms; None: there was none.
        until: end of this stretch, ms.
        targets: what is predicted.
        config: see there.
    """
    old = snapshot(records)
    keys = EventKeys.of(rows, events.time, since, until, len(records))
    most = config.most_at_events(targets)
    event, event_slot, place = _event_points(users[rows], rows, events.id, most, config.seed)
    who, moment, silence_slot = _silence_points(
        users, old, _first_times(old, rows, events.time), since, until, config
    )
    seen = keys.last_at(who, moment)
    row = np.concatenate([rows[event], who])
    now = np.concatenate([events.time[event], moment])
    slot = np.concatenate([event_slot, silence_slot])
    extra = np.concatenate([place >= config.event_points, np.zeros(len(who), np.bool_)])
    seen = np.concatenate([event, seen])
    before = records if config.timers is None else records.copy()
    recent = recent_along(before, rows, events, config.sessions, seen, row, now)

    reach = Reach.of(records, config.history_length)
    trace = apply_in_order(records, rows, events, config.sessions)
    states = Snapshot.join([old, trace.snapshot])
    if config.timers is not None:
        state, when = timer_moments(
            states,
            since or 0,
            _ends(rows, events.time, until, len(old.n)),
            config.min_orders,
            config.timers,
        )
        inside = state - len(old.n)
        late = np.where(inside < 0, -1, inside)
        of = np.where(inside < 0, state, np.append(rows, 0)[late])
        more = recent_along(before, rows, events, config.sessions, late, of, when)
        seen, row, now = (np.concatenate(pair) for pair in ((seen, late), (row, of), (now, when)))
        slot = np.concatenate([slot, AT_TIMERS - when])
        extra = np.concatenate([extra, np.zeros(len(when), np.bool_)])
        recent = np.concatenate([recent, more])
    # States: first those before this stretch, then those after each of its events.
    state = np.where(seen < 0, row, len(records) + seen)
    kept = ~automated(snapshot(records), config.bot_session_events)[row]
    state, row, now, slot, extra = (part[kept] for part in (state, row, now, slot, extra))
    recent = recent[kept]
    at = states.take(state)
    position = at.n - 1
    new = (*features.event_inputs(trace), events.time)
    (ids, nums, time), base, first_rank = reach.sequences(new, rows)
    last = base[row] + position - first_rank[row]
    start = last - position + window_start(position, config.history_length)
    used, moved = used_events(start, last, len(ids))
    return Points(
        ids=ids[used],
        nums=nums[used],
        time=time[used],
        event=moved[last],
        start=moved[start],
        now=now,
        profile=features.profile(at, recent, now),
        user=users[row],
        seen=position,
        slot=slot,
        horizon=features.own_horizons(targets, at),
        following=keys.deciding(row, now, events, decides, targets),
        spent=keys.spent(row, now, events, decides, targets),
        session_end=keys.session_ends(row, now, config.sessions.gap),
        eligible=np.stack(
            [_eligible(target, at, slot, extra, config.min_orders) for target in targets], axis=1
        ),
    )


def _eligible(
    target: Target, at: Snapshot, slot: I64, extra: Bools, min_orders: int
) -> NDArray[np.bool_]:
    """At which of Q points a target applies."""
    if target.at_events:
        return slot >= 0
    if not target.needs_orders:
        # Timers evaluate the churn of users, so their moments are of that alone.
        return ~extra & (slot > AT_TIMERS)
    return ~extra & (at.orders >= min_orders)


def follow(
    points: Points,
    row: Index,
    rows: Index,
    events: Events,
    decides: Deciding,
    targets: tuple[Target, ...],
    sessions: SessionRules,
) -> None:
    """Fill in what followed points of earlier stretches: their `row` [Q] (-1: none) and events."""
    keys = EventKeys.of(rows, events.time, None, None, int(max(row.max(initial=0), 0)) + 1)
    known = np.flatnonzero(row >= 0)
    if not len(known):
        return
    at, now = row[known], points.now[known]
    found = keys.deciding(at, now, events, decides, targets)
    earlier = points.following[known]
    points.following[known] = np.where(earlier == 0, found, earlier)
    points.spent[known] += keys.spent(at, now, events, decides, targets)
    points.session_end[known] = keys.session_ends(at, points.session_end[known], sessions.gap)


def _ends(rows: Index, times: I64, until: int, users: int) -> I64:
    """When the silences end that follow U states and then those after each of N events, ms."""
    ends = np.full(users + len(rows), until + 1, np.int64)
    first = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])[: len(rows)])
    ends[rows[first]] = times[first]
    same = np.flatnonzero(rows[1:] == rows[:-1])
    ends[users + same] = times[same + 1]
    return ends


def _event_points(
    users: U64, rows: Index, ids: U64, most: int, seed: int
) -> tuple[Index, I64, Index]:
    """Of each user the `most` events with the smallest hashes: (event, slot, rank of the hash)."""
    bits = mix(users ^ mix(ids), seed * 256 + _EVENT_SALT)
    order = np.lexsort((bits, rows))
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])) if len(rows) else rows
    sizes = np.diff(starts, append=len(rows))
    place = np.arange(len(rows)) - np.repeat(starts, sizes)
    drawn = np.flatnonzero(place < most)
    drawn = drawn[np.argsort(order[drawn])]
    chosen = order[drawn]
    return chosen, (bits[chosen] >> np.uint64(1)).astype(np.int64), place[drawn]


def _first_times(old: Snapshot, rows: Index, times: I64) -> I64:
    """[U] time of each record's first event, of those to come too, 0 where it has none."""
    first = np.where(old.n > 0, old.first_time, 0)
    known, at = np.unique(rows, return_index=True)
    first[known] = np.where(old.n[known] > 0, first[known], times[at])
    return first


def _silence_points(
    users: U64, old: Snapshot, first: I64, since: int | None, until: int, config: Drawing
) -> tuple[Index, I64, I64]:
    """(row, moment, slot) of random times in this stretch.

    Each user has `silence_points` places, uniform over the life so far: a stretch takes over each
    place with the probability that is its share of that life (reservoir sampling), so that places
    of a log read in stretches are spread like those of one read at once.
    """
    known = first > 0
    begun = np.where((old.n > 0) & (since is not None), since or 0, first)
    stretch, life = until - begun, np.maximum(until - first, 1)
    places = np.arange(config.silence_points, dtype=np.uint64)
    bits = mix(users, config.seed * 256 + _SILENCE_SALT)[:, None] ^ mix(places)[None, :]
    takes = uniform(mix(bits, until % (1 << 62))) < (stretch / life)[:, None]
    takes &= (known & (stretch > 0))[:, None]
    row, place = np.nonzero(takes)
    share = uniform(mix(bits[row, place], begun[row].astype(np.uint64)))
    moment = begun[row] + np.floor(share * stretch[row]).astype(np.int64)
    return row, moment, -1 - place.astype(np.int64)
