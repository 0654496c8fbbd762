"""All events of a log as examples, labelled by what followed in the session, split by time.

Labels, slices of time and inputs are the trainer's own (`models.data`), so the product's networks
are fitted as it fits them. Evaluated are the events of the last slice but purchases: at a purchase
the intent of its session is known.

Shape suffixes: N events of the log, Q examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.split import VALIDATION, TimeSplit
from models.evaluation.sessions.features import session_features
from models.evaluation.sessions.plain_gru import SessionEvents
from models.history import PURCHASE, SessionRules
from models.inputs.features import INT_FEATURES
from models.log.eventlog import EventLog, OrderedLog, in_order
from models.targets import Target

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

CALIBRATION_SHARE: Final = 0.15
TEST_SHARE: Final = 0.25
"""Shares of the usable time; the rest is learnt from."""
LEAST_POINTS: Final = 50
"""Labels per slice and target, at least."""
HISTORY: Final = 32
"""Events that a network is shown, at most: some sessions. Half the default, which halves the time
of a step of a fit."""
EVERY: Final = 1_000_000
"""More events than any user has."""


@dataclass(frozen=True)
class SessionPoints:
    """Q examples at the events of N events."""

    ordered: OrderedLog
    targets: tuple[Target, ...]
    examples: Examples
    place: Index
    """[Q] event of each example in the log."""
    features: F64
    """[N,F] by hand, of all events."""
    events: SessionEvents
    position: I64
    """[N] place of each event in its session, from 1."""

    @property
    def evaluated(self) -> Index:
        """Examples of the last slice at events that are no purchase."""
        examples = self.examples
        kind = examples.ids[examples.event, INT_FEATURES.index("type")]
        return np.flatnonzero((examples.slice == VALIDATION) & (kind != PURCHASE))

    def labels_at_events(self) -> NDArray[np.float32]:
        """Labels [N,K] by event; NaN where there is no example."""
        out = np.full((len(self.ordered.log), len(self.targets)), np.nan, np.float32)
        out[self.place] = self.examples.labels
        return out

    def at_events(self, examples: Index) -> NDArray[np.bool_]:
        """Which events [N] some of the examples lie at."""
        out = np.zeros(len(self.ordered.log), np.bool_)
        out[self.place[examples]] = True
        return out


def session_points(
    log: EventLog, targets: tuple[Target, ...], rules: SessionRules | None = None
) -> SessionPoints:
    """Label, split and describe every event of a log.

    Args:
        log: all events; in any order.
        targets: of kind `at_events`.
        rules: when a session ends.

    Raises:
        DatasetError: the log is too short, or a target has too few labels or one class only.
    """
    rules = rules or SessionRules()
    ordered = in_order(log, None)
    time = ordered.log.events.time
    longest = max(target.horizon_ms for target in targets)
    first, last = int(time.min()), int(time.max())
    split = TimeSplit.of(first, last, longest, 0, CALIBRATION_SHARE, TEST_SHARE)
    drawn = DatasetConfig(
        history_length=HISTORY,
        event_points=0,
        session_points=EVERY,
        silence_points=0,
        grace_ms=0,
        cancel_window_ms=0,
        sessions=rules,
        min_points=LEAST_POINTS,
    )
    examples = build_examples(ordered, targets, split, drawn)
    users = ordered.log.users[ordered.starts]
    place = ordered.starts[np.searchsorted(users, examples.user)] + examples.seen
    starts, gap = _sessions(ordered, rules)
    sizes = np.diff(starts, append=len(time))
    return SessionPoints(
        ordered,
        targets,
        examples,
        place,
        session_features(ordered, rules.gap),
        SessionEvents(
            ordered.log.events.type.astype(np.int64),
            ordered.log.events.category.astype(np.int64),
            gap,
            starts,
        ),
        np.arange(len(time)) - np.repeat(starts, sizes) + 1,
    )


def _sessions(ordered: OrderedLog, rules: SessionRules) -> tuple[Index, I64]:
    """First events of all sessions, and the time [N] since the event before in the session."""
    time = ordered.log.events.time
    gap = np.diff(time, prepend=time[0])
    begins = gap > rules.gap
    begins[ordered.starts] = True
    return np.flatnonzero(begins), np.where(begins, 0, gap)
