"""Event log -> cleaned, labelled examples and what was found on the way, part by part.

Memory holds one part of the log and the points drawn so far. Users beyond `max_users` are left out
by their hash, whole; which ones depends on nothing but who is in the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from models.data.dataset import DatasetConfig, Examples, check_classes, draw_points, label_points
from models.data.leaks import check_leaks
from models.data.points import U64, Points, join, mix
from models.data.split import SLICES, TimeSplit
from models.errors import DatasetError
from models.history import I64
from models.log.cleaning import Cleaning, clean, possible
from models.log.eventlog import LogParts
from models.memory import give_back
from models.serving.manifest import TrainingWindow
from models.targets import Target

STRAY_SHARE: Final = 0.001
"""Share of the events at either end of time that may be strays of broken clocks: they do not
stretch the span that is split."""
MINUTE: Final = 60_000
CHECKED_USERS: Final = 200


@dataclass
class Span:
    """When the events of a log happened, by the minute."""

    minutes: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    counts: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    first: int = np.iinfo(np.int64).max
    last: int = 0

    def add(self, times: I64) -> None:
        """Take in N times, ms."""
        if not len(times):
            return
        self.first, self.last = min(self.first, int(times.min())), max(self.last, int(times.max()))
        minutes, counts = np.unique(times // MINUTE, return_counts=True)
        both = np.concatenate([self.minutes, minutes])
        self.minutes, of = np.unique(both, return_inverse=True)
        weights = np.concatenate([self.counts, counts])
        self.counts = np.bincount(of, weights=weights, minlength=len(self.minutes)).astype(np.int64)

    def quantile(self, share: float) -> int:
        """Time at or before which this share of the events happened, to the minute."""
        reached = np.cumsum(self.counts)
        at = np.searchsorted(reached, share * reached[-1])
        return int(self.minutes[min(at, len(self.minutes) - 1)]) * MINUTE


@dataclass
class UserSample:
    """Which users are learnt from: all, or a share of 1/2, 1/4... by hash, at most `limit`."""

    limit: int
    halvings: int = 0

    def keeps(self, users: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of N users are in the sample."""
        if self.halvings == 0:
            return np.ones(len(users), np.bool_)
        return np.asarray(mix(users) >> np.uint64(64 - self.halvings) == 0)

    def shrink_to_fit(self, users: U64) -> bool:
        """Halve until these users fit; whether it had to."""
        before = self.halvings
        while int(self.keeps(users).sum()) > self.limit:
            self.halvings += 1
        return self.halvings > before


@dataclass(frozen=True)
class Gathered:
    """Examples and their story."""

    examples: Examples
    split: TimeSplit
    cleaning: Cleaning
    window: TrainingWindow


def gather(
    log: LogParts,
    targets: tuple[Target, ...],
    config: DatasetConfig,
    *,
    drop_late: bool,
    now: int,
    invalid: dict[str, int] | None = None,
) -> Gathered:
    """Clean, check, draw and label.

    Args:
        log: the events.
        targets: what is predicted.
        config: see there.
        drop_late: leave out events that serving sent to the late topic.
        now: time of the run, ms.
        invalid: what the source refused, by reason.

    Raises:
        DatasetError: the log is empty or too short, a target has too few labels or one class only
            in a slice, or an input peeks into the future.
    """
    span = span_of(log, now, invalid)
    split = split_of(span, targets, config)
    found = Cleaning(invalid=dict(invalid or {}))
    sample = UserSample(config.max_users)
    parts: list[Points] = []
    until = split.edges[3] - config.settle_ms
    events = users = 0
    known: U64 = np.empty(0, np.uint64)
    for part in log.parts():
        grace = config.grace_ms if drop_late else None
        ordered = clean(part, grace, now, found, config.corrections)
        if not len(ordered.log):
            continue
        if not events:
            check_leaks(ordered.first_users(CHECKED_USERS), config.sessions)
        events, users = events + len(ordered.log), users + len(ordered.starts)
        drawn = draw_points(ordered.of_users(sample.keeps), targets, until, config, found)
        parts.append(drawn)
        give_back()
        known = np.concatenate([known, np.unique(drawn.user)])
        if sample.shrink_to_fit(known):
            known = known[sample.keeps(known)]
            parts = [points.take(np.flatnonzero(sample.keeps(points.user))) for points in parts]
    labelled = []
    while parts:
        labelled.append(label_points(parts.pop(0), targets, split))
        give_back()
    examples = join(labelled)
    check_classes(examples, targets, config)
    return Gathered(examples, split, found, window_of(examples, targets, span, events, users))


def span_of(log: LogParts, now: int, invalid: dict[str, int] | None = None) -> Span:
    """When the possible events of a log happened.

    Args:
        log: the events.
        now: time of the run, ms.
        invalid: what the source refused, by reason; part of the message if no event is left.

    Raises:
        DatasetError: there are none; counts what was read by why it cannot be used.
    """
    span = Span()
    found = Cleaning(invalid=dict(invalid or {}))
    for part in log.parts():
        span.add(possible(part, now, found).events.time)
    if not len(span.minutes):
        raise DatasetError(found.why_empty())
    return span


def split_of(span: Span, targets: tuple[Target, ...], config: DatasetConfig) -> TimeSplit:
    """The slices of time of a log."""
    return TimeSplit.of(
        span.quantile(STRAY_SHARE),
        span.quantile(1 - STRAY_SHARE),
        max(target.horizon_ms for target in targets),
        config.settle_ms,
        config.calibration_share,
        config.validation_share,
    )


def window_of(
    examples: Examples, targets: tuple[Target, ...], span: Span, events: int, users: int
) -> TrainingWindow:
    """What the manifest says of the data."""
    rates: dict[str, dict[str, float]] = {}
    for which, name in enumerate(SLICES):
        labels = examples.labels[examples.of_slice(which)]
        rates[name] = {
            target.name: float(np.mean(labels[~np.isnan(labels[:, column]), column] > 0))
            for column, target in enumerate(targets)
        }
    return TrainingWindow(
        first_event=span.first,
        last_event=span.last,
        events=events,
        users=users,
        examples={name: len(examples.of_slice(which)) for which, name in enumerate(SLICES)},
        positives=rates,
    )
