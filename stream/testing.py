"""A brokerless driver of the pipeline: pipe events in, advance time, read outputs, inspect state.

It runs the real ingest, state, scorer, alerts and timers of one partition over a store in memory
(or any other), with every commit going through the same outbox as in the worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from models.history import history_bytes
from schemas.codec import decode, encode
from schemas.control import EraseReceipt, EraseUser
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter, LateEvent
from stream.config.settings import Settings
from stream.pipeline.erasure import read_requests
from stream.pipeline.layout import Layout
from stream.pipeline.pipeline import Pipeline
from stream.pipeline.state import USER_PREFIX
from stream.storage.store_memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.money import Rates
    from models.overflow import Held
    from schemas.events import Event
    from stream.pipeline.hidden import ScorerLike
    from stream.pipeline.packed import Message
    from stream.pipeline.records import Record

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class PipedRecord:
    """A record as the consumer would deliver it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class PipelineDriver:
    """One partition without a broker.

    Example:
        >>> driver = PipelineDriver(scorer)                       # doctest: +SKIP
        >>> driver.pipe([Purchase(event_id="1", user_id="ann", event_time=1)])
        >>> driver.predictions()[0].targets["purchase"].probability
    """

    def __init__(
        self,
        scorer: ScorerLike,
        settings: Settings | None = None,
        store: MemoryStore | None = None,
        *,
        partition: int = 0,
        partitions: int = 1,
        rates: Rates | None = None,
    ) -> None:
        """On the event clock unless ``settings`` say otherwise; ``rates`` of a topic."""
        self.settings = settings or Settings(worker={"clock": "event"})
        self.store = store or MemoryStore()
        self.outputs: dict[str, list[Message]] = {}
        self._scorer = scorer
        self._rates = rates
        self._partition, self._partitions = partition, partitions
        self._commits = 0
        self._requests = 0
        self.pipeline = self._open()
        self._offset = max(self.pipeline.source_offset, 0)

    def _open(self) -> Pipeline:
        return Pipeline(
            settings=self.settings,
            topic=self.settings.topics.events,
            partition=self._partition,
            partitions=self._partitions,
            store=self.store,
            scorer=self._scorer,
            rates=self._rates,
        )

    def pipe(self, events: Iterable[Event], batch: int = 4096) -> None:
        """Process events in micro-batches of ``batch``, with a commit after each."""
        self.pipe_raw(((e.user_id.encode(), encode(e), e.event_time) for e in events), batch)

    def pipe_raw(
        self, records: Iterable[tuple[bytes | None, bytes | None, int]], batch: int = 4096
    ) -> None:
        """Process (key, value, broker timestamp ms) records, one offset after the other."""
        first = self._offset
        self.pipe_records(
            (PipedRecord(first + n, r[2], r[0], r[1]) for n, r in enumerate(records)), batch
        )

    def pipe_records(self, records: Iterable[Record], batch: int = 4096) -> None:
        """Process records with offsets of their own, as transactions leave them: with gaps."""
        waiting: list[Record] = []
        for record in records:
            waiting.append(record)
            self._offset = record.offset + 1
            if len(waiting) == batch:
                self._process(waiting)
                waiting = []
        if waiting:
            self._process(waiting)

    def _process(self, records: list[Record]) -> None:
        self.pipeline.process(records)
        self.commit()

    def advance(self, now_ms: int) -> None:
        """Let the wall clock reach ``now_ms``."""
        self.pipeline.advance(now_ms)
        self.commit()

    def erase(self, user_id: str, at_ms: int, until: int | None = None) -> None:
        """Ask for a user to be forgotten.

        Args:
            user_id: who.
            at_ms: broker's time of the request: events piped with the same or a later timestamp
                came after it.
            until: end of the source as the request was read; what has been piped unless given.
        """
        request = EraseUser(
            request_id=f"request-{self._requests}", user_id=user_id, requested_at=at_ms
        )
        self.erase_raw([(user_id.encode(), encode(request), at_ms)], until)

    def erase_raw(
        self, records: Iterable[tuple[bytes | None, bytes | None, int]], until: int | None = None
    ) -> None:
        """Pipe (key, value, broker timestamp ms) records of the request topic."""
        requests = []
        for key, value, timestamp in records:
            requests.append(PipedRecord(self._requests, timestamp, key, value))
            self._requests += 1
        erasures = read_requests(
            requests,
            until=self._offset if until is None else until,
            partition=self._partition,
            partitions=None if self.settings.privacy.pseudonyms else self._partitions,
        )
        self.pipeline.erase(erasures, self._offset, max([r.timestamp for r in requests], default=0))
        self.commit()

    def commit(self) -> None:
        """Make everything so far durable."""
        outbox = self.pipeline.drain()
        self._commits += 1
        self.store.apply(outbox.changelog, outbox.timers, self._commits)
        for topic, messages in outbox.outputs.items():
            self.outputs.setdefault(topic, []).extend(messages)
        self.pipeline.committed(outbox)

    def restart(self) -> None:
        """Forget all that is not in the store, as a crash would, and open again."""
        self.pipeline = self._open()
        self._offset = max(self.pipeline.source_offset, 0)
        self._requests = max(self.pipeline.erase_offset, 0)

    def _read(self, topic: str, kind: type[M]) -> list[M]:
        return [decode(kind, value) for _, value in self.outputs.get(topic, [])]

    def predictions(self) -> list[Prediction]:
        """All predictions so far."""
        return self._read(self.settings.topics.propensity, Prediction)

    def alerts(self) -> list[ChurnAlert]:
        """All churn alerts so far."""
        return self._read(self.settings.topics.churn, ChurnAlert)

    def late(self) -> list[LateEvent]:
        """All late events so far."""
        return self._read(self.settings.topics.late, LateEvent)

    def receipts(self) -> list[EraseReceipt]:
        """All receipts of erasure so far."""
        return self._read(self.settings.topics.erased, EraseReceipt)

    def dead_letters(self) -> list[DeadLetter]:
        """All refused records so far."""
        return self._read(self.settings.topics.dead_letter, DeadLetter)

    def records(self) -> dict[str, np.void]:
        """The stored record of every user."""
        return stored_records(self.store, self.settings)

    def histories(self) -> dict[str, bytes]:
        """The canonical history of every user."""
        return stored_histories(self.store, self.settings)


def layout_of(settings: Settings) -> Layout:
    """How records lie under ``settings``."""
    return Layout(settings.state.ring, settings.state.hidden_size)


def stored_records(store: MemoryStore, settings: Settings) -> dict[str, np.void]:
    """User id -> record, of every user in a store."""
    return {user: record for user, (record, _) in whole_records(store, settings)}


def stored_histories(store: MemoryStore, settings: Settings) -> dict[str, bytes]:
    """User id -> canonical history, with what lies beyond the ring, of every user in a store."""
    return {
        user: history_bytes(record, held.entries)
        for user, (record, held) in whole_records(store, settings)
    }


def whole_records(
    store: MemoryStore, settings: Settings
) -> Iterator[tuple[str, tuple[np.void, Held]]]:
    """User id -> record and what lies beyond its ring, of every user in a store."""
    layout = layout_of(settings)
    after = USER_PREFIX
    while page := store.scan(after, 10_000):
        for key, value in page:
            yield key[len(USER_PREFIX) :].decode(), layout.whole(key, value)
        after = page[-1][0]
