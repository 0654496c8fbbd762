"""Kernels ready before the first event: compiled once per machine, else read from their cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from schemas.codec import encode
from schemas.events import Purchase, View
from stream.pipeline import Pipeline
from stream.records import Records
from stream.store_memory import MemoryStore

if TYPE_CHECKING:
    from stream.hidden import ScorerLike
    from stream.settings import Settings

_TIME: Final = 1_700_000_000_000


def warm_up(settings: Settings, scorer: ScorerLike) -> None:
    """Run a few events through pipelines of their own, so that every kernel runs once.

    In order, out of order and broken ones, then one more over what was stored of them.
    """
    store = MemoryStore()
    for round_number in range(2):
        pipeline = Pipeline(
            settings=settings,
            topic=settings.topics.events,
            partition=0,
            partitions=1,
            store=store,
            scorer=scorer,
        )
        pipeline.process(_records(first_offset=10 * round_number))
        outbox = pipeline.drain()
        store.apply(outbox.changelog, outbox.timers, round_number)


def _records(first_offset: int) -> Records:
    events = [
        Purchase(event_id=f"{first_offset}-{n}", user_id="warm-up", event_time=_TIME + later)
        for n, later in enumerate((0, 2, 1))
    ]
    events.append(View(event_id="\u00e9", user_id="warm-up", event_time=_TIME))  # type: ignore[arg-type]
    count = len(events) + 1
    return Records(
        [b"warm-up"] * count,
        [*map(encode, events), b"{"],
        np.arange(first_offset, first_offset + count),
        np.full(count, _TIME),
    )
