"""Events of many users -> new histories and hidden states, and what each event leads to.

A kernel judges the events one by one, in order of arrival, and applies the accepted ones; then
features, states and probabilities are made of all of them at once. Both ways a history can go (an
event behind all others, or an event before some) end in the same bytes for any order of arrival.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.history import Snapshot
from models.inputs.features import input_features, profile
from models.kernels.columns import EventColumns, Limits
from models.kernels.history import DUPLICATE, LATE, REPLAYED, REUSED, take_events
from models.kernels.places import HEAD
from models.populations import EVENT
from models.serving.recalibration import recalibrated
from models.steps import Steps
from stream.pipeline.hidden import ScorerLike, refresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.history import I64, Events, Records, SessionRules
    from models.inputs.features import F32
    from models.overflow import Overflow
    from models.serving.offload import Launch

    Rows = NDArray[np.intp]

_FORGOTTEN_KEEPS: Final = ("layout", "ring_size", "hidden_size", "offset", "indexed_due", "hidden")


@dataclass(frozen=True, slots=True)
class TimeRules:
    """When an event still counts; ms."""

    sessions: SessionRules
    grace: int
    ttl: int
    """A user silent for longer starts from nothing; 0 = never."""
    most: int = 4096
    """Events beyond the ring, at most, that are kept of a user while they are within the grace."""
    correction: int = 0
    """A purchase or refund after the grace, by at most this behind, counts as of when it came."""


@dataclass(slots=True)
class Judged:
    """What became of N events.

    Indexes are places in the batch. A events are accepted, in order of arrival; E of them scored.
    """

    accepted: Rows
    """[A]"""
    offsets: I64
    """[A]"""
    snapshot: Snapshot
    """[A]"""
    scored: Rows
    """[E] Places among the accepted ones, rising: those asked for, and each user's last one."""
    latest: Rows
    """[U] Places among the scored ones: the last one of each user."""
    hidden: F32
    """[E,H]"""
    profile: F32
    """[E,P]"""
    probabilities: F32
    """[E,K] At silence 0."""
    recent: Steps | None
    """Per scored event the newest events up to it, where they were asked for."""
    duplicates: list[int]
    late: list[tuple[int, int]]
    """(index, ms behind the user's latest event)."""
    reused: list[tuple[int, int]]
    """(index, fields by which it differs from the user's earlier event of its id, as bits of
    `models.kernels.repeats.CONTENT`)."""
    replayed: list[int]
    """Events at or below their user's own offset: applied before a crash."""


@dataclass(frozen=True, slots=True)
class Judging:
    """Events that are judged and in their users' histories, whose scores are on their way."""

    launch: Launch
    records: Records
    taken: Rows
    """The record of each scored event."""
    scorer: ScorerLike
    judged: Callable[..., Judged]
    """Makes the result once `hidden` and `probabilities` are known."""

    def finish(self) -> Judged:
        """Wait for the scores. Until then these records are nobody else's to use."""
        hidden_EH, probabilities_EK = self.launch.fetch()
        # Of several events of one user the last one's state stays.
        self.records["hidden"][self.taken, : hidden_EH.shape[1]] = hidden_EH
        told_EK = recalibrated(self.scorer, EVENT, probabilities_EK)
        return self.judged(hidden=hidden_EH, probabilities=told_EK)


def judge(
    records: Records,
    rows: Rows,
    offsets: I64,
    events: Events,
    scorer: ScorerLike,
    rules: TimeRules,
    overflow: Overflow,
    newest: I64 | None = None,
    *,
    shown: int = 0,
    moved: NDArray[np.bool_] | None = None,
    came: NDArray[np.uint8] | None = None,
    every: NDArray[np.bool_] | None = None,
) -> Judging:
    """Apply N events in order of arrival to ``records[rows]``, in place, and begin to score them.

    ``overflow``: what the records hold beyond their rings.
    ``newest``: room for one number per record, all of them 0, before and after. ``shown``: so many
    newest events are wanted of each scored one. ``moved``: events whose time is not their own;
    ``came``: marks of how each came, `HISTORY` and `ON_TIME`. ``every``: events of users of whom
    each accepted event is scored, of the others the last one; None: each is.
    """
    refresh(records, rows[offsets > records["offset"][rows]], scorer)
    width = scorer.hidden_size
    # A model that is not recurrent is shown the newest events in any case.
    twice = bool(shown and width and not scorer.recurrent and shown == scorer.history_length)
    limits = Limits(
        rules.sessions.gap,
        rules.sessions.longest,
        rules.grace,
        rules.ttl,
        scorer.history_length if width else 0,
        scorer.recurrent,
        rules.most,
        rules.correction,
        0 if twice else shown,
    )
    if newest is None:
        newest = np.zeros(len(records), np.int64)
    if every is None:
        every = np.ones(len(rows), np.bool_)
    found = take_events(
        records,
        overflow,
        records["offset"],
        rows,
        offsets,
        EventColumns.of(events, moved, came),
        limits,
        newest,
        every,
    )
    accepted, scored, verdicts = found.accepted, found.scored, found.verdict
    taken = rows[accepted]
    state = Snapshot(*(column[: len(accepted)] for column in found.after))
    if found.forgotten.any():
        _forget(records, taken[found.forgotten], scorer)
    last, mine = (
        (state, taken) if len(scored) == len(accepted) else (state.take(scored), taken[scored])
    )
    profiles = profile(last, found.recent, last.last_time)
    steps = Steps(mine, found.before, found.start, *_features(found.inputs, found.used))
    recent = steps if twice else None
    if shown and not twice:
        recent = Steps(mine, found.before, found.shown, *_features(found.windows, found.seen))
    launch = scorer.launch(records["hidden"][:, :width], steps, profiles)
    late = np.flatnonzero(verdicts == LATE)
    reused = np.flatnonzero(verdicts == REUSED)
    judged = functools.partial(
        Judged,
        accepted=accepted,
        offsets=offsets[accepted],
        snapshot=state,
        scored=scored,
        latest=np.flatnonzero(found.latest),
        profile=profiles,
        recent=recent,
        duplicates=np.flatnonzero(verdicts == DUPLICATE).tolist(),
        late=list(zip(late.tolist(), found.late_by[late].tolist(), strict=True)),
        reused=list(zip(reused.tolist(), found.differs[reused].tolist(), strict=True)),
        replayed=np.flatnonzero(verdicts == REPLAYED).tolist(),
    )
    return Judging(launch, records, mine, scorer, judged)


def _features(inputs: tuple[NDArray[Any], ...], used: int) -> tuple[I64, F32]:
    """What is known of the first ``used`` of some ``Inputs``: ids [M,C] and nums [M,F]."""
    return input_features(*(column[:used] for column in inputs))


def _forget(records: Records, rows: Rows, scorer: ScorerLike) -> None:
    """Set all but the history and the state of users who came back after the time to live."""
    for name in records.dtype.names or ():
        if name not in (HEAD.names or ()) and name not in (*_FORGOTTEN_KEEPS, "ring"):
            records[name][rows] = 0
    records["hidden"][rows, scorer.hidden_size :] = 0
    records["model"][rows] = scorer.code
