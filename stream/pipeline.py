"""The pure step of one partition: records and time in, messages and changed state out.

No I/O, no Kafka, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from models.history import SessionRules
from models.segments import Evidence
from schemas.errors import InvalidMessage, Reason
from stream.alerts import Status
from stream.churn import ChurnWatch
from stream.emit import Emitter, Message
from stream.erasure import Erasures
from stream.errors import StoreForeign
from stream.fallback import CheckedScorer
from stream.ingest import Ingest
from stream.inputs import InputWatch
from stream.layout import Layout
from stream.outbox import Counters, Outbox, Outputs, PartitionMeta, decode_meta, encode_meta
from stream.records import Records
from stream.rollout import Serving, serving_of, shadow_scores
from stream.slices import Crossings
from stream.state import META_KEY, USER_PREFIX, RecordReader, UserTable
from stream.step import Judged, TimeRules, judge
from stream.timers import TimerIndex, Timers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64
    from stream.churn import AlertDraft
    from stream.erasure import Erasure
    from stream.hidden import ScorerLike
    from stream.ingest import Decoded
    from stream.records import Record
    from stream.settings import Settings

_HISTORY_AGE: Final = 86_400_000
"""On the automatic clock, events that reach the broker more than a day old are history, ms."""


class RecordStore(RecordReader, TimerIndex, Protocol):
    """What a pipeline reads from its store."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value stored under ``key``, None if there is none."""


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
    ) -> None:
        """Restore the partition's watermark, counters and offset from ``store``.

        ``scorer``: the model, or all models with those on trial.
        """
        self._settings = settings
        state, worker = settings.state, settings.worker
        self._clock = worker.clock
        self._ingest = Ingest(
            partition=partition,
            partitions=partitions,
            max_bytes=worker.max_event_bytes,
            max_future_ms=None if self._clock == "event" else worker.max_future_ms,
            check_partitioner=worker.check_partitioner,
            pseudonyms=settings.privacy.pseudonyms,
        )
        self._rules = TimeRules(
            SessionRules(state.session_gap_ms, state.session_max_ms), state.grace_ms, state.ttl_ms
        )
        layout = Layout(state.ring, state.hidden_size)
        self._table = UserTable(layout, store, worker.cache_records // partitions)
        self._watch = ChurnWatch(settings.churn, state)
        self._timers = Timers(self._table, store, self._watch, settings.churn.tick_ms)
        self._emitter = Emitter(
            topic,
            partition,
            settings.churn.holdout_share,
            settings.privacy.pseudonyms,
            settings.topics.erase,
        )
        self._evidence = Evidence(settings.evidence.min_events, settings.evidence.min_orders)
        self._serving = serving_of(scorer)
        self._watch.remember(self._serving.before)
        self._inputs = InputWatch(self._serving.champion)
        self._meta = self._own_meta(store.get(META_KEY), f"{topic}-{partition}")
        self._replaying = False
        self._erasures = Erasures()
        self._now = 0
        self._outputs: Outputs = {}
        self._covered = self._misplaced = 0
        self._moved = False

    def _own_meta(self, value: bytes | None, where: str) -> PartitionMeta:
        """The partition's record, unless its users are known by other names than ours."""
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
        return meta

    @property
    def source_offset(self) -> int:
        """Next source offset expected, -1 before the first."""
        return self._meta.source_offset

    @property
    def watermark(self) -> int:
        """Greatest event time seen, ms."""
        return self._meta.watermark

    @property
    def counters(self) -> Counters:
        """Totals since the state began."""
        return self._meta.counters

    @property
    def scorer(self) -> CheckedScorer:
        """The model in use, canary and shadow aside."""
        champion: CheckedScorer = self._serving.champion
        return champion

    def replace_scorer(self, scorer: ScorerLike | Serving) -> None:
        """Use other models from the next event on; hidden states are rebuilt as users come by."""
        self._watch.remember(self._serving.models)
        self._serving = serving_of(scorer)
        self._watch.remember(self._serving.before)
        if self._serving.champion.code != self._inputs.code:
            self._inputs = InputWatch(self._serving.champion)

    def stability(self) -> dict[str, float]:
        """How far the inputs are from those of training; see `models.drift`. From any thread."""
        return self._inputs.indices()

    def next_due(self) -> int | None:
        """No timer is due before this (ms), None if there is none."""
        earliest = self._timers.earliest
        return None if earliest >= 2**62 else earliest

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
        return self._moved or bool(self._outputs) or len(self._table.dirty_rows()) > 0

    def process(self, batch: Iterable[Record]) -> None:
        """Take in one micro-batch, in offset order; fastest as `Records`."""
        records = Records.of(batch)
        if records and records[0].offset < self._meta.source_offset:
            records = records.from_offset(self._meta.source_offset)
        while (cut := self._erasures.cut(records)) is not None:
            self._process(records[:cut])
            records = records[cut:]
            self._erase(self._erasures.next())
        self._process(records)

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
            self._put("dead_letter", [self._emitter.dead_request(erasure, request)])
            return
        user_id = self._settings.privacy.stored_id(request.user_id)
        (row,) = self._table.rows([USER_PREFIX + user_id.encode()])
        record = self._table.records[row]
        events = int(record["n"])
        removed = {
            "record": int(events > 0),
            "events": events,
            "timers": int(record["indexed_due"] > 0),
            "open_alerts": int(record["status"] in (Status.RAISED, Status.ESCALATED)),
        }
        self._table.forget(row)
        before = max(self._meta.source_offset, 0)
        message = self._emitter.receipt(erasure, request, user_id, removed, before, self._now)
        self._put("erased", [message])
        self._meta.counters.erased += 1

    def _process(self, records: Records) -> None:
        if not records:
            return
        decoded = self._ingest.decode(records)
        for index, cause in decoded.refused:
            self._put("dead_letter", [self._emitter.dead(records[index], cause)])
            self._misplaced += cause.reason is Reason.WRONG_PARTITION
        if decoded.keys:
            self._take(records, decoded)
        counters = self._meta.counters
        counters.consumed += len(records)
        counters.invalid += len(decoded.refused)
        self._meta.source_offset = records[-1].offset + 1
        self._covered += len(records)
        self._moved = True

    def advance(self, now_ms: int) -> None:
        """Let time pass on the wall clock; in the event clock the watermark alone does."""
        if self._clock == "wall" or (self._clock == "auto" and not self._replaying):
            self._timers.fire(now_ms, self._silent)

    def take_outputs(self) -> Outputs:
        """Take the outputs since the last time, ahead of the commit that covers them.

        None where an event lies in a wrong partition: before anything is written about that it has
        to be seen whether the topic is still what it was.
        """
        if self._misplaced:
            return {}
        outputs, self._outputs = self._outputs, {}
        return outputs

    def drain(self) -> Outbox:
        """Take everything since the last drain."""
        changes = self._table.drain(self._serving.rebuilds)
        outbox = Outbox(
            outputs=self._outputs,
            changelog=[*changes.puts, (META_KEY, encode_meta(self._meta))],
            timers=changes.timers,
            next_offset=self._meta.source_offset if self._moved else None,
            records=self._covered,
            misplaced=self._misplaced,
        )
        self._outputs, self._covered, self._misplaced, self._moved = {}, 0, 0, False
        return outbox

    def committed(self, outbox: Outbox) -> None:
        """The outbox is in the store: clean records may leave memory."""
        del outbox
        self._table.committed()

    def _follows_events(self, records: Records, decoded: Decoded) -> bool:
        """Whether timers follow the watermark: told so, or what arrives is history.

        A replay into a worker on the wall clock must not take every user for long gone.
        """
        if self._clock != "auto":
            return self._clock == "event"
        newest = max(int(decoded.events.time.max()), self._meta.watermark)
        return records[-1].timestamp - newest > _HISTORY_AGE

    def _take(self, records: Records, decoded: Decoded) -> None:
        """Apply the valid events, with timers between them where they follow event time."""
        times, grace = decoded.events.time, self._rules.grace
        self._replaying = self._follows_events(records, decoded)
        tick = self._settings.churn.replay_tick_ms
        crossings, self._meta.watermark = Crossings.along(times, self._meta.watermark, grace, tick)
        rows = self._table.rows(decoded.keys)
        if not self._replaying:
            self._apply(records, decoded, slice(0, len(rows)), rows, None)
            return
        due = self._table.records["due"][rows]
        lo = 0
        for hi in crossings.cuts(rows, due, times, self._shortest_wait()):
            part = slice(lo, hi)
            # Timers may have forgotten users since the first slice: rows are looked up anew.
            here = self._table.rows(decoded.keys[part]) if lo else rows[part]
            self._apply(records, decoded, part, here, crossings.ticks[part])
            self._timers.fire(int(crossings.ticks[hi - 1]), self._silent)
            lo = hi

    def _shortest_wait(self) -> int:
        """No timer is due sooner than this after the event that sets it, ms."""
        rules, ttl = self._settings.churn, self._rules.ttl
        # Without a dwell, or a time to live, there is no such timer.
        optional = [wait for wait in (rules.dwell_ms, ttl) if wait]
        return min(rules.min_gap_ms, rules.escalate_after_ms, *optional)

    def _silent(self, rows: NDArray[np.intp]) -> None:
        """Look at silent users, in order of their due times."""
        ids = (self._table.key(row)[len(USER_PREFIX) :] for row in rows.tolist())
        for scorer, chosen in self._serving.split(ids, len(rows)):
            mine = rows if chosen is None else rows[chosen]
            drafts = self._watch.after_silence(self._table.records, mine, scorer)
            self._announce(drafts, scorer)

    def _apply(
        self,
        records: Records,
        decoded: Decoded,
        part: slice,
        rows: NDArray[np.intp],
        ticks: I64 | None,
    ) -> None:
        """Each user's events go to the model that serves the user."""
        ids = (key[len(USER_PREFIX) :] for key in decoded.keys[part])
        for scorer, chosen in self._serving.split(ids, len(rows)):
            if chosen is None:
                self._score(records, decoded, part, rows, ticks, scorer)
            else:
                mine = decoded.take(part.start + chosen)
                floor = None if ticks is None else ticks[chosen]
                self._score(records, mine, slice(0, len(chosen)), rows[chosen], floor, scorer)

    def _score(
        self,
        records: Records,
        decoded: Decoded,
        part: slice,
        rows: NDArray[np.intp],
        ticks: I64 | None,
        scorer: CheckedScorer,
    ) -> None:
        lo = part.start
        events, offsets = decoded.events.take(part), decoded.offsets[part]
        table = self._table
        judged = judge(table.records, rows, offsets, events, scorer, self._rules, table.scratch)
        taken = judged.accepted
        table.touch(rows[taken])
        self._inputs.add(judged.profile)
        self._predict(decoded.keys[part], rows, offsets, events.time, judged, scorer)
        drafts = self._watch.after_events(
            table.records,
            rows[taken],
            events.take(taken),
            judged,
            scorer,
            None if ticks is None else ticks[taken],
        )
        self._announce(drafts, scorer)
        self._timers.note(np.unique(rows[taken]))
        for index, late_by in judged.late:
            record = records[decoded.sources[lo + index]]
            self._put("late", [self._emitter.late(record, late_by)])
        counters = self._meta.counters
        counters.accepted += len(taken) + len(judged.replayed)
        counters.duplicate += len(judged.duplicates)
        counters.late += len(judged.late)

    def _predict(
        self,
        keys: list[bytes],
        rows: NDArray[np.intp],
        offsets: I64,
        times: I64,
        judged: Judged,
        scorer: CheckedScorer,
    ) -> None:
        taken = judged.accepted
        chosen = last = np.arange(len(taken))
        shadow = self._serving.trials.shadow
        if self._settings.worker.emit == "latest" or shadow is not None:
            last_of = dict(zip(rows[taken].tolist(), chosen.tolist(), strict=True))
            last = np.fromiter(last_of.values(), np.intp, len(last_of))
        if self._settings.worker.emit == "latest":
            chosen = last
        scores = judged.probabilities[chosen]
        messages = self._messages(keys, offsets, times, judged, chosen, scores, scorer)
        self._put("propensity", messages)
        self._meta.counters.predictions += len(messages)
        if shadow is not None and len(last):
            found = shadow_scores(
                shadow, self._table.records, rows[taken[last]], judged.profile[last]
            )
            if found is None:
                self._serving = self._serving.without(shadow.version)
            else:
                messages = self._messages(keys, offsets, times, judged, last, found, shadow)
                self._put("shadow", messages)

    def _messages(
        self,
        keys: list[bytes],
        offsets: I64,
        times: I64,
        judged: Judged,
        chosen: NDArray[np.intp],
        scores_NK: F32,
        scorer: CheckedScorer,
    ) -> list[Message]:
        """Predictions of the chosen ones of the accepted events."""
        index = judged.accepted[chosen]
        known = judged.snapshot.take(chosen)
        return self._emitter.predictions(
            [keys[i][len(USER_PREFIX) :] for i in index.tolist()],
            offsets[index],
            times[index],
            known.last_time,
            scores_NK,
            scorer,
            automated=self._watch.automated(known),
            cold=self._evidence.lacking(known),
            stale=scorer.stale,
        )

    def _announce(self, drafts: list[AlertDraft], scorer: CheckedScorer) -> None:
        if drafts:
            self._put("churn", self._emitter.alerts(drafts, self._table, scorer))
            self._meta.counters.alerts += len(drafts)

    def _put(self, kind: str, messages: list[Message]) -> None:
        if messages:
            topic = getattr(self._settings.topics, kind)
            self._outputs.setdefault(topic, []).extend(messages)
