"""What is known of each client at the split, as the product's featuriser has it, part by part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.data.dataset import DatasetConfig, Examples, chunks, window_start
from models.data.split import VALIDATION
from models.history import history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.inputs.recent import recent_along
from models.log.eventlog import LogParts, in_order
from models.memory import give_back


def examples_at(log: LogParts, now: int, config: DatasetConfig) -> Iterator[Examples]:
    """One example per user of a log at `now`, ms; labels are unknown.

    Args:
        log: events before `now`; users in parts.
        now: see above.
        config: sessions, the length of a window and how much is in memory at a time.
    """
    for part in log.parts():
        ordered = in_order(part, None)
        for low, high, rows, events in chunks(ordered, config):
            records = np.zeros(high - low, history_dtype(config.history_length))
            sizes = np.bincount(rows, minlength=high - low)
            last, count = np.cumsum(sizes) - 1, high - low
            when, every = np.full(count, now, np.int64), np.arange(count)
            recent = recent_along(records, rows, events, config.sessions, last, every, when)
            trace = apply_in_order(records, rows, events, config.sessions)
            ids, nums = features.event_inputs(trace)
            position = sizes - 1
            yield Examples(
                ids=ids,
                nums=nums,
                time=events.time,
                event=last,
                start=last - position + window_start(position, config.history_length),
                now=when,
                profile=features.profile(trace.snapshot.take(last), recent, when),
                labels=np.full((count, 1), np.nan, np.float32),
                weight=np.ones(count, np.float32),
                slice=np.full(count, VALIDATION, np.int8),
                user=ordered.log.users[ordered.starts[low:high]],
                seen=position.astype(np.int64),
                at_event=np.zeros(count, np.bool_),
            )
        give_back()
