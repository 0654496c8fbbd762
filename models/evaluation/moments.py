"""What is known of users at any moments: examples for models, from the whole log of a shop.

Inputs come from `models.inputs.apply` and `models.inputs.features`, as in serving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import Examples, window_start
from models.history import Records, SessionRules, Trace, history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.inputs.recent import recent_along
from models.log.eventlog import EventLog, OrderedLog, in_order

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

HISTORY_LENGTH = 64


@dataclass(frozen=True)
class Histories:
    """All events of a log in their users' order, and what was known after each. U users."""

    ordered: OrderedLog
    rows: Index
    """[N] user of each event."""
    trace: Trace
    before: Records
    """[U] histories without an event."""

    @classmethod
    def of(cls, log: EventLog) -> Histories:
        """Take in the whole log, without regard to how its events arrived."""
        ordered = in_order(log, None)
        rows = np.repeat(np.arange(len(ordered.starts)), ordered.sizes)
        records = np.zeros(len(ordered.starts), history_dtype(HISTORY_LENGTH))
        before = records.copy()
        return cls(
            ordered, rows, apply_in_order(records, rows, ordered.log.events, SessionRules()), before
        )

    def examples(
        self,
        event: Index,
        row: Index,
        now: I64,
        labels_QK: F32 | None = None,
        weight: F32 | None = None,
        slices: NDArray[np.int8] | None = None,
    ) -> Examples:
        """Examples at Q moments in inactivity.

        Args:
            event: [Q] the user's last event that is known then.
            row: [Q] which user.
            now: [Q] ms.
            labels_QK: what came true; None: not known.
            weight: [Q]; None: all count the same.
            slices: [Q] see `models.data.split`; None: the first one.
        """
        ordered, size = self.ordered, len(event)
        events, position = ordered.log.events, event - ordered.starts[row]
        ids, nums = features.event_inputs(self.trace)
        recent = recent_along(self.before, self.rows, events, SessionRules(), event, row, now)
        return Examples(
            ids=ids,
            nums=nums,
            time=events.time,
            event=event,
            start=event - position + window_start(position, HISTORY_LENGTH),
            now=now,
            profile=features.profile(self.trace.snapshot.take(event), recent, now),
            labels=np.full((size, 1), np.nan, np.float32) if labels_QK is None else labels_QK,
            weight=np.ones(size, np.float32) if weight is None else weight,
            slice=np.zeros(size, np.int8) if slices is None else slices,
            user=ordered.log.users[event],
            seen=position.astype(np.int64),
            at_event=np.zeros(size, np.bool_),
        )
