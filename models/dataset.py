"""Event log -> labelled points in time, each seeing only what a worker would have seen then.

A point is a user at a moment `now`: either just after one of the user's events, or at a random time
in the silence after it, so that a model learns what silence means. Its inputs come from
`models.history` and `models.features`, the code that serves; its label from what followed.
A label whose window is not over by the end of its slice is censored, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models import features
from models.apply import apply_in_order
from models.automation import automated
from models.errors import DatasetError
from models.eventlog import OrderedLog
from models.history import Events, SessionRules, Trace, history_dtype
from models.split import SLICES, TimeSplit
from models.targets import ABSENT, Target

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class DatasetConfig:
    """How points are drawn from an event log."""

    history_length: int = 64
    """Events that a network is shown before a point, at most."""
    event_points: int = 10
    """Points per user just after an event, at most; drawn at random."""
    silence_points: int = 10
    """Points per user at random times, most of them silent ones."""
    min_orders: int = 2
    """Orders that a user must have had for their absence to mean anything."""
    calibration_share: float = 0.2
    """Share of the usable time for calibration and early stopping."""
    validation_share: float = 0.2
    """Share of the usable time for judging."""
    grace_ms: int = 600_000
    """How late an event may arrive; a label waits this much longer."""
    bot_session_events: int = 1000
    """A user who ever had more events per session is no person and gives no points; 0: all do."""
    sessions: SessionRules = field(default_factory=SessionRules)
    """When a session and an order end; the same as in serving."""
    chunk_events: int = 200_000
    """Events featurised at a time, which bounds memory."""
    chunk_users: int = 10_000
    """Users featurised at a time, likewise."""
    min_points: int = 200
    """Labelled points per slice and target below which nothing is trained."""
    seed: int = 7
    """Of the draw."""


@dataclass(slots=True)
class Examples:
    """Q points over N events. C, F, P, K: see `models/networks/base.py`."""

    ids: I64
    """[N,C] events, user by user in their order."""
    nums: F32
    """[N,F] of the same events."""
    event: Index
    """[Q] last event that the point has seen."""
    start: Index
    """[Q] first event of the window that the point looks through."""
    now: I64
    """[Q] ms."""
    profile: F32
    """[Q,P]."""
    labels: F32
    """[Q,K] 1 or 0, NaN where censored or not applicable."""
    weight: F32
    """[Q] of the point in a loss: less for users of many points."""
    slice: NDArray[np.int8]
    """[Q] TRAIN, CALIBRATION or VALIDATION."""

    def __len__(self) -> int:
        return len(self.event)

    def of_slice(self, which: int) -> Index:
        """Points of one slice of the split."""
        return np.flatnonzero(self.slice == which)


def build_examples(
    ordered: OrderedLog, targets: tuple[Target, ...], split: TimeSplit, config: DatasetConfig
) -> Examples:
    """Draw and label points.

    Raises:
        DatasetError: a target has too few labels, or one class only, in a slice.
    """
    rng = np.random.default_rng(config.seed)
    parts, offset = [], 0
    for lo, hi in _chunks(ordered, config):
        part = _chunk_examples(ordered, lo, hi, targets, split, config, rng)
        part.event += offset
        part.start += offset
        offset += len(part.ids)
        parts.append(part)
    examples = Examples(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Examples.__slots__)
    )
    _check_classes(examples, targets, config)
    return examples


def _chunks(ordered: OrderedLog, config: DatasetConfig) -> Iterator[tuple[int, int]]:
    """Ranges of users with about `chunk_events` events each."""
    ends = np.append(ordered.starts[1:], len(ordered.log))
    lo = 0
    while lo < len(ends):
        limit = int(ordered.starts[lo]) + config.chunk_events
        hi = int(np.searchsorted(ends, limit, side="right"))
        hi = min(max(hi, lo + 1), lo + config.chunk_users)
        yield lo, hi
        lo = hi


def _chunk_examples(
    ordered: OrderedLog,
    lo: int,
    hi: int,
    targets: tuple[Target, ...],
    split: TimeSplit,
    config: DatasetConfig,
    rng: np.random.Generator,
) -> Examples:
    first = int(ordered.starts[lo])
    sizes = ordered.sizes[lo:hi]
    events = ordered.log.events.take(slice(first, first + int(sizes.sum())))
    rows = np.repeat(np.arange(hi - lo), sizes)
    starts = ordered.starts[lo:hi] - first
    records = np.zeros(hi - lo, history_dtype(config.history_length))
    trace = apply_in_order(records, rows, events, config.sessions)
    ids, nums = features.event_inputs(trace)

    event, now, silent = _draw(events.time, rows, starts, sizes, split.edges[3], config, rng)
    labels = _labels(trace, rows, event, now, silent, targets, split, config)
    bots = np.zeros(hi - lo, np.bool_)
    bots[rows[automated(trace.snapshot, config.bot_session_events)]] = True
    kept = ~np.isnan(labels).all(axis=1) & ~bots[rows[event]]
    event, now, labels = event[kept], now[kept], labels[kept]
    profile = features.profile(trace.snapshot.take(event), now)
    position = event - starts[rows[event]]
    per_user = np.bincount(rows[event], minlength=hi - lo)
    return Examples(
        ids=ids,
        nums=nums,
        event=event,
        start=event - position + window_start(position, config.history_length),
        now=now,
        profile=profile,
        labels=labels,
        weight=(1 / np.sqrt(per_user[rows[event]])).astype(np.float32),
        slice=split.slice_of(now),
    )


def window_start(position: Index, length: int) -> Index:
    """First event, counted from the user's first, of the window that shows a position.

    Windows begin at multiples of half their length, so that neighbouring points share one and every
    point beyond the first window sees at least half a window.
    """
    stride = max(length // 2, 1)
    return np.maximum(-(-(position + 1 - length) // stride), 0) * stride


def _draw(
    time: I64,
    rows: Index,
    starts: Index,
    sizes: Index,
    end: int,
    config: DatasetConfig,
    rng: np.random.Generator,
) -> tuple[Index, I64, NDArray[np.bool_]]:
    """Points as (last event seen, now, whether now lies after the event)."""
    shuffled = np.lexsort((rng.random(len(rows)), rows))
    place = np.arange(len(rows)) - starts[rows]
    chosen = np.sort(shuffled[place < config.event_points])

    until = np.append(time[1:], end)
    until[starts + sizes - 1] = end
    gap = np.maximum(until - time, 0).astype(np.float64)
    total = np.cumsum(gap)
    base = total - gap
    low, high = base[starts], total[starts + sizes - 1]
    draws = rng.random((len(starts), config.silence_points)) * (high - low)[:, None] + low[:, None]
    seen = np.searchsorted(total, draws.ravel(), side="right")
    seen = np.clip(
        seen,
        np.repeat(starts, config.silence_points),
        np.repeat(starts + sizes - 1, config.silence_points),
    )
    wait = np.floor(draws.ravel() - base[seen]).astype(np.int64)
    wait = np.clip(wait, 0, np.maximum(until[seen] - time[seen] - 1, 0))
    silent = wait > 0
    event = np.concatenate([chosen, seen[silent]])
    now = np.concatenate([time[chosen], time[seen[silent]] + wait[silent]])
    return event, now, np.arange(len(event)) >= len(chosen)


def _labels(
    trace: Trace,
    rows: Index,
    event: Index,
    now: I64,
    silent: NDArray[np.bool_],
    targets: tuple[Target, ...],
    split: TimeSplit,
    config: DatasetConfig,
) -> F32:
    """Labels [Q,K], NaN where the window is not over or the target does not apply."""
    events = trace.events
    # Events at the very time of a point are not after it: look on from the last of them.
    last = np.where(silent, event, _last_of_tie(events.time, rows)[event])
    labels = np.empty((len(event), len(targets)), np.float32)
    for column, target in enumerate(targets):
        following = _next_time(events, rows, target.event_type)[last]
        occurs = (following > now) & (following <= now + target.horizon_ms)
        known = split.mature(now, target.horizon_ms)
        if target.kind == ABSENT:
            known &= trace.snapshot.orders[event] >= config.min_orders
            occurs = ~occurs
        labels[:, column] = np.where(known, occurs, np.nan)
    return labels


def _last_of_tie(time: I64, rows: Index) -> Index:
    """Per event the last one of the same user and time."""
    ends = np.append((time[1:] != time[:-1]) | (rows[1:] != rows[:-1]), True)
    index = np.where(ends, np.arange(len(time)), len(time))
    return np.minimum.accumulate(index[::-1])[::-1]


def _next_time(events: Events, rows: Index, event_type: int) -> I64:
    """Per event the time of its user's next event of a type, 0 if there is none."""
    size = len(rows)
    here = np.where(events.type == event_type, np.arange(size), size)
    following = np.append(np.minimum.accumulate(here[::-1])[::-1][1:], size)
    inside = np.minimum(following, size - 1)
    found = (following < size) & (rows[inside] == rows)
    return np.where(found, events.time[inside], 0)


def _check_classes(examples: Examples, targets: tuple[Target, ...], config: DatasetConfig) -> None:
    for which, name in enumerate(SLICES):
        labels = examples.labels[examples.of_slice(which)]
        for column, target in enumerate(targets):
            known = labels[:, column][~np.isnan(labels[:, column])]
            if len(known) < config.min_points:
                raise DatasetError(
                    f"target {target.name}: {len(known)} labelled points in the {name} slice, at "
                    f"least {config.min_points} are needed; collect more events, shorten its "
                    f"horizon ({target.horizon_ms} ms) or lower train.min_windows"
                )
            if known.min() == known.max():
                raise DatasetError(
                    f"target {target.name}: one class only in the {name} slice (all {len(known)} "
                    f"labels are {known[0]:.0f}): nothing can be learnt; check that the log has "
                    f"events of type {target.event_type} and that the horizon "
                    f"({target.horizon_ms} ms) fits the shop"
                )
