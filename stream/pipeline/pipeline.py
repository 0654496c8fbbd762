"""The pure step of one partition: records and time in, messages and changed state out.

No I/O, no Kafka, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from models.history import SessionRules
from schemas.errors import InvalidMessage, Reason
from stream.config.rates import rates_of
from stream.errors import StoreForeign
from stream.pipeline.absence import Absences
from stream.pipeline.alerts import Status
from stream.pipeline.churn import ChurnWatch
from stream.pipeline.clocks import Clocks
from stream.pipeline.emit import Emitter
from stream.pipeline.erasure import Erasures
from stream.pipeline.event_times import EventTimes
from stream.pipeline.holdout import Holdout
from stream.pipeline.ingest import Ingest
from stream.pipeline.layout import Layout
from stream.pipeline.outbox import (
    Counters,
    Gathered,
    Outbox,
    Outputs,
    PartitionMeta,
    decode_meta,
    encode_meta,
)
from stream.pipeline.records import Records
from stream.pipeline.scoring import Scoring
from stream.pipeline.slices import cuts
from stream.pipeline.state import META_KEY, USER_PREFIX, RecordReader, UserTable
from stream.pipeline.step import TimeRules
from stream.pipeline.timers import TimerIndex, Timers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.money import Rates
    from stream.config.settings import Settings
    from stream.pipeline.clocks import Arrivals, Segment
    from stream.pipeline.erasure import Erasure
    from stream.pipeline.fallback import CheckedScorer
    from stream.pipeline.hidden import ScorerLike
    from stream.pipeline.ingest import Decoded
    from stream.pipeline.records import Record
    from stream.pipeline.rollout import Serving


class RecordStore(RecordReader, TimerIndex, Protocol):
    """What a pipeline reads from its store."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value stored under ``key``, None if there is none."""


log = structlog.get_logger(__name__)


class Pipeline:
    """One partition's state, and what comes of its records.

    Results gather until ``drain``; the caller makes them durable and says so with ``committed``.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        topic: str,
        partition: int,
        partitions: int,
        store: RecordStore,
        scorer: ScorerLike | Serving,
        rates: Rates | None = None,
    ) -> None:
        """Restore the partition's watermark, counters and offset from ``store``.

        ``scorer``: the model, or all models with those on trial. ``rates``: the table, where the
        settings name a topic and no file.
        """
        self._settings = settings
        self._rates = rates_of(settings.money) if rates is None else rates
        state, worker = settings.state, settings.worker
        self._clock = worker.clock
        self._ingest = Ingest(
            partition=partition,
            partitions=partitions,
            max_bytes=worker.max_event_bytes,
            times=EventTimes.of(settings),
            check_partitioner=worker.check_partitioner,
            pseudonyms=settings.privacy.pseudonyms,
            rates=self._rates,
        )
        self._rules = TimeRules(
            SessionRules(state.session_gap_ms, state.session_max_ms),
            state.grace_ms,
            state.ttl_ms,
            state.overflow,
            state.correction_ms,
        )
        layout = Layout(state.ring, state.hidden_size)
        self._table = UserTable(layout, store, worker.cache_records // partitions)
        watch = ChurnWatch(settings.churn, state, in_history=self._clock == "event")
        self._timers = Timers(self._table, store, watch, settings.churn.tick_ms)
        emitter = self._emitter = Emitter(
            topic,
            partition,
            Holdout.of(settings.churn),
            settings.privacy.pseudonyms,
            settings.topics.erase,
            settings.money.currency,
        )
        self._meta = self._own_meta(store.get(META_KEY), f"{topic}-{partition}")
        self._clocks = Clocks(settings, self._meta.clocks)
        self._gathered = Gathered(settings.topics)
        self._scoring = Scoring(
            settings=settings,
            rules=self._rules,
            table=self._table,
            watch=watch,
            timers=self._timers,
            emitter=emitter,
            gathered=self._gathered,
            counters=self._meta.counters,
            scorer=scorer,
        )
        self._absences = Absences(
            settings, self._table, self._timers, self._clocks, self._scoring.silent
        )
        self._erasures = Erasures()
        self._now = 0
        self._covered = self._misplaced = 0
        self._erased: list[bytes] = []
        self._moved = False

    def _own_meta(self, value: bytes | None, where: str) -> PartitionMeta:
        """The partition's record, unless its users or amounts are known by other names than ours.

        Which table of rates the latest amounts were made with is noted; another one is no fault,
        because tables grow, and amounts that were made stay as they are.
        """
        meta, pseudonyms = decode_meta(value), self._settings.privacy.pseudonyms
        key_id = pseudonyms.key_id if pseudonyms else ""
        if value is not None and meta.pseudonym_key != key_id:
            kept = f"pseudonyms of key {meta.pseudonym_key}" if meta.pseudonym_key else "user ids"
            here = f"key {key_id}" if key_id else "not set"
            raise StoreForeign(
                f"{where}: the state holds {kept}, and privacy.pseudonym_key is"
                f" {here}: set the key that it was built with, or begin anew with another app_id"
            )
        meta.pseudonym_key = key_id
        money = self._settings.money
        if meta.currency and meta.currency != money.currency:
            raise StoreForeign(
                f"{where}: the state holds amounts in {meta.currency}, and money.currency is"
                f" {money.currency or 'not set'}: set {meta.currency}, or begin anew with another"
                " app_id"
            )
        if value is not None and meta.rates != self._rates.digest:
            log.warning(
                "amounts are made with other rates from here on; earlier ones stay as they are",
                partition=where,
                offset=meta.source_offset,
                before=meta.rates or None,
                now=self._rates.digest or None,
            )
        meta.currency, meta.rates = money.currency or "", self._rates.digest
        return meta

    @property
    def source_offset(self) -> int:
        """Next source offset expected, -1 before the first."""
        return self._meta.source_offset

    @property
    def watermark(self) -> int:
        """Greatest time of live events, or where the greatest replay has got to, ms."""
        return self._meta.watermark

    @property
    def counters(self) -> Counters:
        """Totals since the state began."""
        return self._meta.counters

    @property
    def scorer(self) -> CheckedScorer:
        """The model in use, canary and shadow aside."""
        return self._scoring.champion

    def replace_scorer(self, scorer: ScorerLike | Serving) -> None:
        """Use other models from the next event on; hidden states are rebuilt as users come by."""
        self._scoring.replace(scorer)

    def stability(self) -> dict[str, float]:
        """How far inputs are from those of training; `models.monitoring.drift`. From any thread."""
        return self._scoring.stability()

    def next_due(self) -> int | None:
        """No timer is due before this (ms), None if there is none."""
        return self._absences.next_due()

    @property
    def erase_offset(self) -> int:
        """Next request to forget a user, -1 before the first."""
        return self._meta.erase_offset

    @property
    def erasing(self) -> bool:
        """Whether requests to forget a user wait for the source to be processed further."""
        return bool(self._erasures)

    @property
    def pending(self) -> bool:
        """Whether anything waits for a commit."""
        return self._moved or bool(self._gathered) or len(self._table.dirty_rows()) > 0

    def process(self, batch: Iterable[Record]) -> None:
        """Take in one micro-batch, in offset order; fastest as `Records`."""
        for _ in self.work(batch):
            pass

    @property
    def topic_ids(self) -> dict[str, str]:
        """Topic -> the id under which its offsets are noted."""
        return self._meta.topic_ids

    def note_topics(self, ids: dict[str, str]) -> None:
        """Note of which topics the offsets are; with the next commit, which is made for it."""
        self._moved |= self._meta.source_offset >= 0 and ids != self._meta.topic_ids
        self._meta.topic_ids = ids

    def pass_over(self, offset: int, lost: int) -> None:
        """Note that the source holds nothing to process before ``offset``.

        There lie markers of transactions and what was aborted, or nothing: ``lost`` offsets were
        deleted by retention before they were read.
        """
        meta = self._meta
        self._moved |= lost > 0 or offset > max(meta.source_offset, 0)
        meta.source_offset = max(meta.source_offset, offset)
        meta.counters.lost += lost

    def work(self, batch: Iterable[Record]) -> Iterator[None]:
        """Take in one micro-batch as `process` does; pauses wherever a GPU is computing.

        The caller may turn to other partitions meanwhile. Of this one only `replace_scorer` and
        what only looks may be called before the end. On the CPU there is no pause.
        """
        records = Records.of(batch)
        if records and records[0].offset < self._meta.source_offset:
            records = records.from_offset(self._meta.source_offset)
        while (cut := self._erasures.cut(records)) is not None:
            yield from self._process(records[:cut])
            records = records[cut:]
            self._erase(self._erasures.next())
        yield from self._process(records)

    def erase(self, erasures: Sequence[Erasure], reached: int, now_ms: int) -> None:
        """Take in requests to forget users, and carry out those whose turn has come.

        Args:
            erasures: new requests, in order.
            reached: the source is processed up to this offset.
            now_ms: the wall clock, for receipts.
        """
        self._now = now_ms
        self._erasures.add(erasures)
        for erasure in self._erasures.due(reached):
            self._erase(erasure)

    def _erase(self, erasure: Erasure) -> None:
        """Forget a user as if there had never been an event."""
        self._meta.erase_offset = erasure.record.offset + 1
        request = erasure.request
        if isinstance(request, InvalidMessage):
            self._gathered.put("dead_letter", [self._emitter.dead_request(erasure, request)])
            return
        user_id = self._settings.privacy.stored_id(request.user_id)
        key = USER_PREFIX + user_id.encode()
        (row,) = self._table.rows([key])
        record = self._table.records[row]
        events = int(record["n"])
        removed = {
            "record": int(events > 0),
            "events": events,
            "timers": int(record["indexed_due"] > 0),
            "open_alerts": int(record["status"] in (Status.RAISED, Status.ESCALATED)),
        }
        self._table.forget(row)
        self._erased.append(key)
        self._clocks.forget(user_id)
        before = max(self._meta.source_offset, 0)
        message = self._emitter.receipt(erasure, request, user_id, removed, before, self._now)
        self._gathered.put("erased", [message])
        self._meta.counters.erased += 1

    def _process(self, records: Records) -> Iterator[None]:
        if not records:
            return
        decoded = self._ingest.decode(records)
        for index, cause in decoded.refused:
            self._gathered.put("dead_letter", [self._emitter.dead(records[index], cause)])
            self._misplaced += cause.reason is Reason.WRONG_PARTITION
        if decoded.keys:
            yield from self._take(records, decoded)
        counters = self._meta.counters
        counters.consumed += len(records)
        counters.invalid += len(decoded.refused)
        counters.add_skews(decoded.skews, decoded.events.type, decoded.offsets)
        if decoded.amounts is not None:
            counters.add_amounts(decoded.amounts)
        self._meta.source_offset = records[-1].offset + 1
        self._covered += len(records)
        self._moved = True

    def advance(self, now_ms: int) -> None:
        """Let time pass on the wall clock; on the event clock events alone do."""
        self._absences.advance(now_ms)

    def take_outputs(self) -> Outputs:
        """Take the outputs since the last time, ahead of the commit that covers them.

        None where an event lies in a wrong partition: before anything is written about that it has
        to be seen whether the topic is still what it was.
        """
        if self._misplaced:
            return {}
        return self._gathered.take()

    def drain(self) -> Outbox:
        """Take everything since the last drain."""
        changes = self._table.drain(self._scoring.rebuilds)
        outbox = Outbox(
            outputs=self._gathered.take(),
            changelog=[*changes.puts, (META_KEY, encode_meta(self._meta))],
            timers=changes.timers,
            next_offset=self._meta.source_offset if self._moved else None,
            records=self._covered,
            misplaced=self._misplaced,
            erased=tuple(self._erased),
        )
        self._covered, self._misplaced, self._moved = 0, 0, False
        self._erased.clear()
        return outbox

    def committed(self, outbox: Outbox) -> None:
        """The outbox is in the store: clean records may leave memory."""
        del outbox
        self._table.committed()

    def _take(self, records: Records, decoded: Decoded) -> Iterator[None]:
        """Apply the valid events, with timers between them where they follow a replay's clock."""
        arrivals, times = self._clocks.arrivals(decoded), decoded.events.time
        if not arrivals.replayed.all():
            live = times[~arrivals.replayed]
            self._clocks.live(int(live.min()))
            self._meta.watermark = max(self._meta.watermark, int(live.max()))
        if not arrivals.replayed.any():
            rows = self._table.rows(decoded.keys)
            part = slice(0, len(rows))
            yield from self._scoring.apply(records, decoded, part, rows, arrivals, None)
            return
        for segment in self._clocks.follow(decoded, arrivals):
            yield from self._take_segment(records, decoded, arrivals, segment)
        self._absences.moved()
        if arrivals.replayed.all() and not self._meta.clocks.live_since:
            self._meta.watermark = self._clocks.reached()

    def _take_segment(
        self, records: Records, decoded: Decoded, arrivals: Arrivals, segment: Segment
    ) -> Iterator[None]:
        course, lo, hi = segment.course, segment.lo, segment.hi
        rows = self._table.rows(decoded.keys[lo:hi])
        due, times = self._table.records["due"][rows], decoded.events.time[lo:hi]
        begin = 0
        for end in cuts(course, rows, due, times, self._shortest_wait()):
            here, part = slice(begin, end), slice(lo + begin, lo + end)
            # Timers may have forgotten users since the first slice: rows are looked up again.
            mine = self._table.rows(decoded.keys[part]) if begin else rows[here]
            came = arrivals.take(part)._replace(on_time=course.on_time[here])
            yield from self._scoring.apply(records, decoded, part, mine, came, course.tick[here])
            self._absences.after(segment, end)
            begin = end

    def _shortest_wait(self) -> int:
        """No timer is due sooner than this after the event that sets it, ms."""
        rules, ttl = self._settings.churn, self._rules.ttl
        # Without a time to live there is no such timer. An event ends a dwell, it begins none.
        return min(rules.min_gap_ms, rules.escalate_after_ms, *([ttl] if ttl else []))
