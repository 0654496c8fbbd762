"""Event log -> cleaned, labelled examples and what was found on the way, part by part.

Memory holds one part of the log and the points drawn so far. Users beyond `max_users` are left out
by their hash, whole; which ones depends on nothing but who is in the log.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import numpy as np

from models.data.dataset import (
    DatasetConfig,
    Examples,
    draw_points,
    label_points,
    lacking,
    restrict,
)
from models.data.leaks import check_leaks
from models.data.points import U64, Points, join, mix
from models.data.split import SLICES, TimeSplit
from models.errors import DatasetError
from models.history import I64
from models.log.cleaning import Cleaning, clean, possible
from models.log.eventlog import LogParts
from models.memory import give_back
from models.serving.manifest import TrainingWindow
from models.targets import Target, questions, setting_of

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

    @property
    def share(self) -> float:
        """Share of the users that it keeps."""
        return 0.5**self.halvings

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
    targets: tuple[Target, ...] = ()
    """What the examples are labelled with."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Target that was asked for -> why it is not among them."""
    timers: Examples | None = None
    """What timers would have evaluated lately, with labels as far as they are complete; None: not
    asked for."""
    sampled: float = 1.0
    """Share of the users that the examples are of."""

    def only(self, targets: tuple[Target, ...], left_out: dict[str, str] | None = None) -> Gathered:
        """The same with some of the targets.

        Args:
            targets: some of `self.targets`, in their order.
            left_out: why the others are left out.
        """
        if targets == self.targets:
            return self
        columns = [self.targets.index(target) for target in targets]
        names = {target.name for target in targets}
        window = msgspec.structs.replace(
            self.window,
            positives={
                which: {name: rate for name, rate in rates.items() if name in names}
                for which, rates in self.window.positives.items()
            },
        )
        return replace(
            self,
            examples=restrict(self.examples, columns),
            timers=None if self.timers is None else restrict(self.timers, columns),
            window=window,
            targets=targets,
            left_out=self.left_out | (left_out or {}),
        )


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
    split = fitting(span, targets, config)[0]
    config = with_timers(config, split, targets)
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
    labelled, at_timers = [], []
    while parts:
        if config.timers is not None:
            at_timers.append(label_points(parts[0], targets, split, timers=True, open_too=True))
        labelled.append(label_points(parts.pop(0), targets, split))
        give_back()
    examples = join(labelled)
    timers = join(at_timers) if at_timers else None
    whole = gathered_of(examples, targets, span, config, found, events, users, timers)
    return replace(whole, sampled=sample.share)


def with_timers(
    config: DatasetConfig, split: TimeSplit, targets: tuple[Target, ...]
) -> DatasetConfig:
    """The config whose moments at timers begin where the newest labels can, and what leads to them.

    Alerts of the newest labels follow moments at which the risk was lower yet, so two horizons.
    Those that are counted for a budget do so too.
    """
    if config.timers is None:
        return config
    longest = max(target.horizon_ms for target in targets)
    since = split.edges[2] - 2 * longest - config.settle_ms
    if config.timers.counted_ms:
        since = min(since, split.edges[3] - config.settle_ms - config.timers.counted_ms - longest)
    return replace(config, timers=replace(config.timers, since=since))


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


def gathered_of(
    examples: Examples,
    targets: tuple[Target, ...],
    span: Span,
    config: DatasetConfig,
    cleaning: Cleaning,
    events: int,
    users: int,
    timers: Examples | None = None,
) -> Gathered:
    """Examples, and of the targets those that can be learnt from them.

    Raises:
        DatasetError: none can; says why of each.
    """
    split, fits, left_out = fitting(span, targets, config)
    whole = Gathered(examples, split, cleaning, TrainingWindow(), targets, timers=timers)
    found = whole.only(fits, left_out)
    left_out = lacking(found.examples, fits, config)
    if left_out:
        kept = without(fits, left_out)
        if not kept:
            raise DatasetError("; ".join((found.left_out | left_out).values()))
        found = found.only(kept, left_out)
    window = window_of(found.examples, found.targets, span, events, users)
    return replace(found, window=window)


def without(targets: tuple[Target, ...], names: Collection[str]) -> tuple[Target, ...]:
    """The targets but those of `names`; questions that several answer go as one."""
    each = list(zip(questions(targets), targets, strict=True))
    gone = {question for question, target in each if target.name in names} | set(names)
    return tuple(target for question, target in each if question not in gone)


def fitting(
    span: Span, targets: tuple[Target, ...], config: DatasetConfig
) -> tuple[TimeSplit, tuple[Target, ...], dict[str, str]]:
    """The slices of time, the targets whose horizons fit into them, and why others do not.

    A horizon that is too long for the log must not keep shorter ones waiting, so the longest is
    left out until the rest fits.

    Raises:
        DatasetError: none fits.
    """
    kept = targets
    left_out: dict[str, str] = {}
    while True:
        try:
            return split_of(span, kept, config), kept, left_out
        except DatasetError as error:
            longest = max(target.horizon_ms for target in kept)
            gone = [target for target in kept if target.horizon_ms == longest]
            shorter = without(kept, [target.name for target in gone])
            settings = " and ".join(sorted({setting_of(target) for target in gone}))
            if not shorter:
                raise DatasetError(f"{error}; shorten {settings}") from error
            for target in kept:
                if target not in shorter:
                    left_out[target.name] = f"target {target.name}: {error}; shorten {settings}"
            kept = shorter


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
