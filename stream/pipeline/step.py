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
from models.kernels.columns import Columns, EventColumns, Limits
from models.kernels.history import DUPLICATE, LATE, REPLAYED, REUSED, take_events
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

    Indexes are places in the batch; the arrays run over the accepted events, in order of arrival.
    """

    accepted: Rows
    offsets: I64
    snapshot: Snapshot
    hidden: F32
    profile: F32
    probabilities: F32
    """Per accepted event one row [K], at silence 0."""
    recent: Steps | None
    """Per accepted event the newest events up to it, where they were asked for."""
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
    """The record of each accepted event."""
    judged: Callable[..., Judged]
    """Makes the result once `hidden` and `probabilities` are known."""

    def finish(self) -> Judged:
        """Wait for the scores. Until then these records are nobody else's to use."""
        hidden_NH, probabilities_NK = self.launch.fetch()
        # Of several events of one user the last one's state stays.
        self.records["hidden"][self.taken, : hidden_NH.shape[1]] = hidden_NH
        return self.judged(hidden=hidden_NH, probabilities=probabilities_NK)


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
) -> Judging:
    """Apply N events in order of arrival to ``records[rows]``, in place, and begin to score them.

    ``overflow``: what the records hold beyond their rings.
    ``newest``: room for one number per record, all of them 0, before and after. ``shown``: so many
    newest events are wanted of each accepted one. ``moved``: events whose time is not their own;
    ``came``: marks of how each came, `HISTORY` and `ON_TIME`.
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
    (
        verdicts,
        late_by,
        accepted,
        before,
        forgotten,
        start,
        after,
        inputs,
        used,
        begin,
        windows,
        seen,
        overflow.columns,
        differs,
    ) = take_events(
        Columns.of(records),
        overflow.columns,
        records["offset"],
        rows,
        offsets,
        EventColumns.of(events, moved, came),
        limits,
        newest,
    )
    taken = rows[accepted]
    state = Snapshot(*(column[: len(accepted)] for column in after))
    if forgotten.any():
        _forget(records, taken[forgotten], scorer)
    profiles = profile(state, state.last_time)
    steps = Steps(taken, before, start, *_features(inputs, used))
    recent = steps if twice else None
    if shown and not twice:
        recent = Steps(taken, before, begin, *_features(windows, seen))
    launch = scorer.launch(records["hidden"][:, :width], steps, profiles)
    late = np.flatnonzero(verdicts == LATE)
    reused = np.flatnonzero(verdicts == REUSED)
    judged = functools.partial(
        Judged,
        accepted=accepted,
        offsets=offsets[accepted],
        snapshot=state,
        profile=profiles,
        recent=recent,
        duplicates=np.flatnonzero(verdicts == DUPLICATE).tolist(),
        late=list(zip(late.tolist(), late_by[late].tolist(), strict=True)),
        reused=list(zip(reused.tolist(), differs[reused].tolist(), strict=True)),
        replayed=np.flatnonzero(verdicts == REPLAYED).tolist(),
    )
    return Judging(launch, records, taken, judged)


def _features(inputs: tuple[NDArray[Any], ...], used: int) -> tuple[I64, F32]:
    """What is known of the first ``used`` of some ``Inputs``: ids [M,C] and nums [M,F]."""
    return input_features(*(column[:used] for column in inputs))


def _forget(records: Records, rows: Rows, scorer: ScorerLike) -> None:
    """Set all but the history and the state of users who came back after the time to live."""
    for name in records.dtype.names or ():
        if name not in Columns._fields and name not in (*_FORGOTTEN_KEEPS, "ring"):
            records[name][rows] = 0
    records["hidden"][rows, scorer.hidden_size :] = 0
    records["model"][rows] = scorer.code
