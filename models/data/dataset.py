"""Event log -> labelled points in time, each seeing only what a worker would have seen then.

The points and their inputs come from `models.data.points`, which runs the code that serves; a label
is read off what followed. A label whose window is not over by the end of its slice is censored, not
guessed; an order that was given back decides nothing, nor do the further lines of an order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.points import Drawing, Points, draw, join, mix, uniform, window_start
from models.data.spend import shares
from models.data.split import CALIBRATION, GAP, SLICES, STOPPING, TimeSplit
from models.data.timers import AT_TIMERS, TimerRules
from models.errors import DatasetError
from models.history import (
    Events,
    Records,
    SessionRules,
    history_dtype,
    snapshot,
)
from models.log.arrival import Corrections
from models.log.automation import automated
from models.log.cleaning import Cleaning
from models.log.eventlog import OrderedLog
from models.log.orders import deciding
from models.targets import ABSENT, AMOUNT, Target, setting_of

__all__ = [
    "F32",
    "I64",
    "DatasetConfig",
    "Examples",
    "Index",
    "build_examples",
    "check_classes",
    "chunks",
    "draw_points",
    "label_points",
    "window_start",
]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]
Kept = Callable[[tuple[NDArray[np.uint64], Records]], None]

STOPPING_SHARE: Final = 0.5
"""Share of the users of the calibration slice whose points end a fit and calibrate nothing."""
_STOPPING_SALT: Final = 0x70
NOT_APPLICABLE: Final = -2
"""In place of how long a point waited for an event: the target does not apply there."""


@dataclass(frozen=True)
class DatasetConfig:
    """How points are drawn from an event log."""

    history_length: int = 64
    """Events that a network is shown before a point, at most."""
    event_points: int = 10
    """Points per user just after an event, at most; drawn at random."""
    session_points: int = 40
    """The same where a target applies at events only (`Target.at_events`)."""
    silence_points: int = 30
    """Points per user at random times, most of them silent ones: cheap, as they share the windows
    of events, and what inactivity means is learnt from them."""
    min_orders: int = 2
    """Orders that a user must have had for their absence to mean anything."""
    calibration_share: float = 0.2
    """Share of the usable time for early stopping and calibration, by different users."""
    validation_share: float = 0.2
    """Share of the usable time for judging."""
    grace_ms: int = 600_000
    """How late an event may arrive; a label waits this much longer."""
    correction_ms: int = 0
    """A purchase or refund that is later, by at most this, counts as of when it came."""
    bot_session_events: int = 1000
    """A user who ever had more events per session is no person and gives no points; 0: all do."""
    sessions: SessionRules = field(default_factory=SessionRules)
    """When a session and an order end; the same as in serving."""
    cancel_window_ms: int = 86_400_000
    """An order that is given back within this time is none to a label, which waits this much longer
    to know."""
    chunk_events: int = 200_000
    """Events featurised at a time, which bounds memory."""
    max_users: int = 100_000
    """Users that are learnt from, at most; of more, a half, a quarter... is taken by hash."""
    chunk_users: int = 10_000
    """Users featurised at a time, likewise."""
    min_points: int = 200
    """Labelled points per slice and target below which nothing is trained."""
    seed: int = 7
    """Of the draw."""
    timers: TimerRules | None = None
    """When timers evaluate users, where an alert's threshold is to be learnt; None: it is not."""

    @property
    def drawing(self) -> Drawing:
        """What `models.data.points` needs of it."""
        return Drawing(
            history_length=self.history_length,
            event_points=self.event_points,
            session_points=self.session_points,
            silence_points=self.silence_points,
            min_orders=self.min_orders,
            bot_session_events=self.bot_session_events,
            sessions=self.sessions,
            seed=self.seed,
            timers=self.timers,
        )

    @property
    def corrections(self) -> Corrections:
        """Which late purchases and refunds count."""
        return Corrections(self.correction_ms, self.history_length)

    @property
    def settle_ms(self) -> int:
        """How long after its window a label is still open: late events, cancellations."""
        return self.grace_ms + self.cancel_window_ms


@dataclass(slots=True)
class Examples:
    """Q points over N events. C, F, P, K: see `models/networks/base.py`."""

    ids: I64
    """[N,C] events that any point looks at, user by user in their order."""
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
    labels: F32
    """[Q,K] 1 or 0, of an amount its share; NaN where censored or not applicable."""
    weight: F32
    """[Q] of the point in a loss: less for users of many points."""
    slice: NDArray[np.int8]
    """[Q] TRAIN, STOPPING, CALIBRATION, VALIDATION or GAP."""
    user: NDArray[np.uint64]
    """[Q] hash of the user."""
    seen: I64
    """[Q] events of the user before the last one that the point has seen."""
    at_event: NDArray[np.bool_]
    """[Q] just after an event, as predictions are emitted; else in inactivity, as timers evaluate
    users. The two are evaluated apart, see `models.populations`."""
    settled: F32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """[Q,K] labels that are complete by the end of the log, in whatever slice or gap; [0,0] where
    that was not asked for."""
    waited: I64 = field(default_factory=lambda: np.empty((0, 0), np.int64))
    """[Q,K] ms from the point to the event that decides the target, -1: none by the end of the log,
    `NOT_APPLICABLE`; [0,0] where only complete labels were asked for."""
    horizon: I64 = field(default_factory=lambda: np.empty((0, 0), np.int64))
    """[Q,K] lengths of the label windows, ms, users' own among them; [0,0] likewise."""

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
    points = draw_points(ordered, targets, split.edges[3], config)
    examples = label_points(points, targets, split)
    check_classes(examples, targets, config)
    return examples


def draw_points(
    ordered: OrderedLog,
    targets: tuple[Target, ...],
    until: int,
    config: DatasetConfig,
    found: Cleaning | None = None,
    keep: Kept | None = None,
) -> Points:
    """Draw the points of a log up to `until`, ms.

    Args:
        ordered: the log; what is later than `until` is used for cancellations only.
        targets: what is predicted.
        until: see above.
        config: how points are drawn.
        found: takes the counts of programs and cancellations.
        keep: is given the users and histories of each chunk.
    """
    parts = []
    for lo, hi, rows, events in chunks(ordered, config):
        users = ordered.log.users[ordered.starts[lo:hi]]
        records = np.zeros(hi - lo, history_dtype(config.history_length))
        decides = deciding(records, rows, events, config.sessions, config.cancel_window_ms)
        now = np.flatnonzero(events.time <= until)
        stretch = (rows[now], events.take(now), decides.take(now))
        parts.append(draw(records, users, *stretch, None, until, targets, config.drawing))
        if found is not None:
            found.count_kinds(stretch[1], stretch[2].gone)
            bots = automated(snapshot(records), config.bot_session_events)
            found.bot_users += int(bots.sum())
            found.bot_events += int(records["n"][bots].sum())
        if keep is not None:
            keep((users, records))
    return join(parts)


def chunks(ordered: OrderedLog, config: DatasetConfig) -> Iterator[tuple[int, int, Index, Events]]:
    """Ranges of users with about `chunk_events` events each: (first, end, rows, events)."""
    ends = np.append(ordered.starts[1:], len(ordered.log))
    lo = 0
    while lo < len(ends):
        first = int(ordered.starts[lo])
        hi = int(np.searchsorted(ends, first + config.chunk_events, side="right"))
        hi = min(max(hi, lo + 1), lo + config.chunk_users)
        rows = np.repeat(np.arange(hi - lo), ordered.sizes[lo:hi])
        yield lo, hi, rows, ordered.log.events.take(slice(first, first + len(rows)))
        lo = hi


def label_points(
    points: Points,
    targets: tuple[Target, ...],
    split: TimeSplit,
    *,
    timers: bool = False,
    open_too: bool = False,
) -> Examples:
    """Label what is known by now; points without any label are left out.

    Args:
        points: with what followed them by the end of the log.
        targets: the labels.
        split: the slices of time.
        timers: only points at timers; else all the others.
        open_too: keep points whose labels are all open, and tell how long each one `waited`.
    """
    settled = np.empty((len(points), len(targets)), np.float32)
    inside = np.empty(settled.shape, np.bool_)
    amounts = itertools.count()
    for column, target in enumerate(targets):
        following = points.following[:, column]
        begin = points.now + target.after_ms
        end = points.now + points.horizon[:, column]
        if target.in_session:
            end = np.minimum(end, points.session_end)
        occurs = (following > begin) & (following <= end)
        # A window is known if all of it is, whatever is in it: else those in which something has
        # happened already would be known more often than the others. Windows of users' own count as
        # the longest one: else the newest labels would be of those who buy often.
        inside[:, column] = split.mature(points.now, target.horizon_ms)
        known = split.settled(points.now, target.horizon_ms) & points.eligible[:, column]
        known &= (following <= points.now) | (following > begin)
        if target.kind == ABSENT:
            occurs = ~occurs
        settled[:, column] = np.where(known, occurs, np.nan)
        if target.kind == AMOUNT:
            share = shares(points.spent[:, next(amounts)], target.most)
            settled[:, column] = np.where(known, share, np.nan)
    labels = np.where(inside, settled, np.float32(np.nan))
    waited = np.empty((0, 0), np.int64)
    applies = ~np.isnan(settled)
    if open_too:
        came = (points.following > points.now[:, None]) & points.eligible
        waited = np.where(came, points.following - points.now[:, None], -1)
        waited[~points.eligible] = NOT_APPLICABLE
        applies = points.eligible
    kept = np.flatnonzero(applies.any(axis=1) & ((points.slot < AT_TIMERS) == timers))
    slices = split.slice_of(points.now[kept])
    stops = uniform(mix(points.user[kept], _STOPPING_SALT)) < STOPPING_SHARE
    slices[stops & (slices == CALIBRATION)] = STOPPING
    slices[np.isnan(labels[kept]).all(axis=1)] = GAP
    weight = np.zeros(len(kept), np.float32)
    weight[slices != GAP] = weights_of(points.user[kept][slices != GAP])
    return Examples(
        ids=points.ids,
        nums=points.nums,
        time=points.time,
        event=points.event[kept],
        start=points.start[kept],
        now=points.now[kept],
        profile=points.profile[kept],
        labels=labels[kept],
        weight=weight,
        slice=slices,
        user=points.user[kept],
        seen=points.seen[kept],
        at_event=points.slot[kept] >= 0,
        settled=settled[kept],
        waited=waited[kept] if open_too else waited,
        horizon=points.horizon[kept] if open_too else waited,
    )


def weights_of(user_Q: NDArray[np.uint64]) -> F32:
    """Weights [Q] of points in a loss: all points of a user weigh the root of their number."""
    _, of, counts = np.unique(user_Q, return_inverse=True, return_counts=True)
    weights: F32 = (1 / np.sqrt(counts[of])).astype(np.float32)
    return weights


def restrict(examples: Examples, columns: list[int]) -> Examples:
    """The examples with the labels of some targets only; points without any are left out.

    Where labels may be open those are left out at which none of the targets applies.
    """
    settled, labels = examples.settled[:, columns], examples.labels[:, columns]
    kept = np.flatnonzero(~np.isnan(settled).all(axis=1))
    waited, horizon = examples.waited, examples.horizon
    if len(examples.waited):
        kept = np.flatnonzero((examples.waited[:, columns] != NOT_APPLICABLE).any(axis=1))
        waited, horizon = waited[kept][:, columns], horizon[kept][:, columns]
    slices = examples.slice[kept].copy()
    slices[np.isnan(labels[kept]).all(axis=1)] = GAP
    weight = np.zeros(len(kept), np.float32)
    weight[slices != GAP] = weights_of(examples.user[kept][slices != GAP])
    per_point = ("event", "start", "now", "profile", "user", "seen", "at_event")
    return replace(
        examples,
        labels=labels[kept],
        settled=settled[kept],
        slice=slices,
        weight=weight,
        **{name: getattr(examples, name)[kept] for name in per_point},
        waited=waited,
        horizon=horizon,
    )


def check_classes(examples: Examples, targets: tuple[Target, ...], config: DatasetConfig) -> None:
    """Check that there is something to learn, stop, calibrate and judge by.

    Raises:
        DatasetError: a target has too few labels, or one class only, in a slice.
    """
    for why in lacking(examples, targets, config).values():
        raise DatasetError(why)


def lacking(
    examples: Examples, targets: tuple[Target, ...], config: DatasetConfig
) -> dict[str, str]:
    """Target -> why it cannot be learnt, calibrated and evaluated, and the setting to change."""
    found: dict[str, str] = {}
    for which, name in enumerate(SLICES):
        labels = examples.labels[examples.of_slice(which)]
        for column, target in enumerate(targets):
            known = labels[:, column][~np.isnan(labels[:, column])]
            if target.name in found:
                continue
            if len(known) < config.min_points:
                found[target.name] = (
                    f"target {target.name}: {len(known)} labelled points in the {name} slice, at "
                    f"least {config.min_points} are needed; collect more events, shorten "
                    f"{setting_of(target)} ({target.horizon_ms} ms) or lower train.min_windows"
                )
            elif known.min() == known.max():
                found[target.name] = (
                    f"target {target.name}: one class only in the {name} slice (all {len(known)} "
                    f"labels are {known[0]:.0f}): nothing can be learnt; check that the log has "
                    f"events of type {target.event_type} and that {setting_of(target)} "
                    f"({target.horizon_ms} ms) fits the shop"
                )
    return found
