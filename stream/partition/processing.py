"""An open partition at work: micro-batches in, commits out, timers in between.

Computing and committing overlap: while an outbox is on its way the next micro-batches are
processed, up to a bound.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka import TopicPartition

from stream.errors import ScorerFailed
from stream.faults import stage
from stream.health.metrics import Metrics
from stream.health.vitals import Sign
from stream.kafka.fetching import MicroBatch
from stream.kafka.transport import LogState
from stream.partition.inbox import Inbox
from stream.partition.open_transaction import OpenTransaction
from stream.partition.opening import OpenPartition, Parts
from stream.partition.steps import Computed, Durable, Snapshot, Step, snapshot_of
from stream.pipeline.erasure import Erasure
from stream.pipeline.outbox import Outbox

_PENDING_BATCHES: Final = 8
"""Full micro-batches that may be processed and not committed before processing waits."""
_IDLE_S: Final = 1.0
_REST: Final = 2.0
"""Multiple of a commit's duration that lies between its beginning and that of the next."""
_LONGEST_REST_S: Final = 1.0
_SETTLED_AT_ONCE: Final = 2048
"""Records that are brought into the database in one go while there is nothing else to do."""


class Log(Protocol):
    """The partition's side of the transport."""

    async def move_to(self, tp: TopicPartition, offset: int) -> None:
        """Make `offset` the next one to be fetched."""

    def log_state(self, tp: TopicPartition) -> LogState | None:
        """Return what the last fetch response said, None before the first."""


@dataclass(frozen=True)
class Surroundings:
    """What a partition needs of its worker."""

    parts: Parts
    log: Log
    acknowledge: Callable[[MicroBatch], None]
    room_changed: Callable[[], None]
    set_aside: Callable[[ScorerFailed], Awaitable[bool]]
    """Serves another model than the one that failed; False if there is none."""
    confirm_topic: Callable[[], Awaitable[None]]
    """Raises `TopicLayoutError` when the source topic has not the partitions that it had."""
    metrics: Metrics = field(default_factory=Metrics)
    inputs_ready: Callable[[], bool] = lambda: True
    """False while batches have to wait for something that they need, such as rates."""


class Processing:
    """Works through the inbox of one open partition, from its opening to its closing."""

    def __init__(
        self, tp: TopicPartition, opened: OpenPartition, inbox: Inbox, around: Surroundings
    ) -> None:
        """Take over an open partition; the caller closes it."""
        self.snapshot = snapshot_of(opened.pipeline, opened.start.offset)
        self.open_transaction = OpenTransaction(tp)
        self._tp = tp
        self._where = f"{tp.topic}-{tp.partition}"
        self._opened = opened
        self._inbox = inbox
        self._around = around
        self._engine = around.parts.engine
        self._settings = settings = around.parts.settings
        self._exactly_once = settings.worker.guarantee == "exactly_once"
        self._wall_clock = settings.worker.clock != "event"
        self._wake = asyncio.Event()
        self._stopping = False
        self._last_timestamp = 0
        self._uncommitted: list[MicroBatch] = []
        self._uncommitted_records = 0
        self._pending = opened.pipeline.pending
        self._next_due = opened.pipeline.next_due()
        self._advanced_to = -1
        self._commit: asyncio.Task[Durable] | None = None
        self._committed_at = self._commit_took = 0.0
        self._worked_at = 0.0
        self._turns = self._commits = 0
        self._computing = self._settling = False
        self._reached = opened.start.offset
        self._passed_to = max(opened.pipeline.source_offset, 0)
        self._eraser = opened.eraser
        self._erasing = False
        self._erased_to = -1
        if self._eraser is not None:
            self._eraser.on_arrival = self._wake.set

    def deliver(self, batch: MicroBatch) -> None:
        """Take the batch that Faust's stream has brought; `PartitionError` if it is another."""
        self._inbox.deliver(batch)
        self._wake.set()

    def stop(self) -> None:
        """Ask `run` to commit what is processed and return."""
        self._stopping = True
        self._inbox.close()
        self._wake.set()

    def signs(self) -> Iterator[Sign]:
        """Yield what is under way; from any thread."""
        calls, counters = self._engine.calls, self._opened.pipeline.counters
        # Who waits for the engine goes on when the engine does, and when the counters do, within
        # one long call.
        moved = (counters.accepted, counters.duplicate, counters.alerts)
        turn = (self._turns, calls if self._computing else None, moved)
        yield Sign(f"{self._where}: processing", turn, waits_for_cluster=self._settling)
        if self._commit is not None:
            yield Sign(f"{self._where}: commit", self._commits, waits_for_cluster=True)
        if self._eraser is not None:
            yield self._eraser.sign
        expected = self._inbox.expected
        if expected is not None:
            yield Sign(f"{self._where}: delivery by Faust", expected)

    async def run(self) -> None:
        """Process and commit until asked to stop, then commit the rest."""
        while not self._stopping:
            self._turns += 1
            self.open_transaction.look(self._inbox.position, self._around.log.log_state(self._tp))
            durable = await self._settled_commit()
            batch = self._next_batch()
            now = self._now(batch)
            drain = self._may_commit()
            erasures = self._due_erasures(batch)
            passed = self._passed_over(batch)
            if (
                batch is not None
                or durable is not None
                or erasures is not None
                or passed is not None
                or (drain and self._pending)
                or self._timer_due(now)
            ):
                await self._step(Step(durable, batch, now, drain, passed, erasures))
            else:
                await self._sleep()
        if (passed := self._passed_over(None)) is not None:
            durable = await self._settled_commit(wait=True)
            await self._step(Step(durable, passed=passed))
        if self._commit is None and not self._pending:
            # A worker that was suspended learns only now that it has lost the partition.
            await self._opened.committer.confirm(self.snapshot.offset)
        while self._commit is not None or self._pending:
            durable = await self._settled_commit(wait=True)
            await self._step(Step(durable, drain=True))

    async def abandon(self) -> None:
        """Wait for nothing and keep nothing: drop a commit that is on its way."""
        commit = self._commit
        if commit is None:
            return
        commit.cancel()
        await asyncio.wait({commit})
        if not commit.cancelled():
            commit.exception()  # seen: what ended the partition is raised by `run`

    def _next_batch(self) -> MicroBatch | None:
        if self._commit is not None and self._much_pending():
            return None
        return self._inbox.take() if self._around.inputs_ready() else None

    def _much_pending(self) -> bool:
        return self._uncommitted_records >= _PENDING_BATCHES * self._settings.worker.batch_size

    def _passed_over(self, batch: MicroBatch | None) -> tuple[int, int] | None:
        """Return where the position is without a record to process, and what was lost on the way.

        Behind the last record may lie markers of transactions and aborted records. While events
        come, the next commit covers those; the last ones must not look like lag for ever.
        """
        if batch is not None:
            return (batch.start, batch.lost) if batch.lost else None
        position, idle = self._inbox.done_to, time.monotonic() - self._worked_at >= _IDLE_S
        if position is None or position <= self._passed_to or not (idle or self._stopping):
            return None
        self._passed_to = position
        return position, self._inbox.take_lost()

    def _due_erasures(self, batch: MicroBatch | None) -> list[Erasure] | None:
        """Return new requests, empty if only old ones may be due now, None if none are."""
        if self._eraser is None:
            return None
        arrived = self._eraser.take()
        if not self._inbox.held and self._inbox.position is not None:
            # Beyond the last record may lie a transaction's marker, which is no record.
            self._reached = self._inbox.position
        moved = batch is not None or self._reached > self._erased_to
        if not arrived and not (self._erasing and moved):
            return None
        self._erased_to = self._reached
        return arrived

    async def _step(self, step: Step) -> None:
        batch = step.batch
        if batch is not None:
            stage("after_poll")
            self._around.metrics.batch(self._tp.partition, len(batch.records))
        self._computing = True
        computed = await self._engine.run_in_turns(self._compute(step))
        self._computing = False
        if step.durable is not None:
            self._acknowledge(step.durable)
        if batch is not None:
            stage("after_scoring")
            self._inbox.done()
            self._reached = batch.end
            self._worked_at = time.monotonic()
            self._last_timestamp = max(self._last_timestamp, batch.records[-1].timestamp)
            self._uncommitted_records += len(batch.records)
            batch.spent()
            self._uncommitted.append(batch)
            self._around.room_changed()
        self._advanced_to = max(self._advanced_to, step.now or -1)
        self._next_due, self._pending = computed.next_due, computed.pending
        self._erasing = computed.erasing
        if computed.early:
            self._opened.committer.send(computed.early)
        if computed.drained is not None:
            covered, self._uncommitted = self._uncommitted, []
            self._uncommitted_records = 0
            self._committed_at = time.monotonic()
            self._commit = asyncio.create_task(self._make_durable(*computed.drained, covered))
            self._commit.add_done_callback(lambda _: self._wake.set())

    async def _make_durable(
        self, outbox: Outbox, snapshot: Snapshot, covered: list[MicroBatch]
    ) -> Durable:
        began, metrics = time.perf_counter(), self._around.metrics
        self._commits += 1
        if outbox.misplaced:
            await self._around.confirm_topic()
        stage("before_commit")
        with metrics.stage("transaction"):
            changelog_offset = await self._opened.committer.commit(outbox)
        stage("after_commit")
        return Durable(outbox, changelog_offset, snapshot, covered, began)

    async def _settled_commit(self, *, wait: bool = False) -> Durable | None:
        """Return the commit that has come to its end, raise its error, or None."""
        commit = self._commit
        if commit is None or not (wait or commit.done()):
            return None
        self._settling = True
        durable = await commit
        self._settling, self._commit = False, None
        return durable

    def _acknowledge(self, durable: Durable) -> None:
        """What is committed is in the store too."""
        self.snapshot = durable.snapshot
        for batch in durable.covered:
            self._around.acknowledge(batch)
        stage("after_ack")
        now = time.time()
        delays = [now - batch.oldest_ms / 1000 for batch in durable.covered]
        self._commit_took = time.perf_counter() - durable.began
        self._around.metrics.commit(self._tp.partition, self._commit_took, delays)

    def _may_commit(self) -> bool:
        """Whether a commit may start now: at once after a pause, else once per interval."""
        return self._commit is None and (self._commit_wait() <= 0 or self._much_pending())

    def _commit_wait(self) -> float:
        interval = self._settings.worker.commit_interval_ms / 1000
        # Where commits take long, because there are many or the cluster is slow, they become fewer.
        rest = max(interval, min(_REST * self._commit_took, _LONGEST_REST_S))
        return self._committed_at + rest - time.monotonic()

    def _timer_due(self, now: int | None) -> bool:
        if now is None or self._next_due is None:
            return False
        tick = self._settings.churn.tick_ms
        return self._next_due <= now // tick * tick and now // tick > self._advanced_to // tick

    def _now(self, batch: MicroBatch | None) -> int | None:
        """Return the time that timers may see, None when the wall clock is not theirs.

        With a backlog it is the broker's time of the last record consumed, so that nobody is found
        silent whose events wait in the log. Without one it is the time of the fetch that found
        nothing more, not the wall clock: what has come since is not known. Behind an open
        transaction the partition counts as having a backlog.
        """
        if not self._wall_clock:
            return None
        if batch is not None:
            return min(max(self._last_timestamp, int(batch.records[-1].timestamp)), _wall_ms())
        state, position = self._around.log.log_state(self._tp), self._inbox.position
        if (
            state is None
            or self._inbox.held
            or position is None
            or position < max(state.high_water, self._opened.caught_up_at)
        ):
            return min(self._last_timestamp, _wall_ms())
        return min(state.polled_at_ms, _wall_ms())

    async def _sleep(self) -> None:
        seconds = _IDLE_S
        if self._pending and self._commit is None:
            seconds = max(self._commit_wait(), 0.001)
        elif self._wall_clock and self._next_due is not None:
            seconds = min(max((self._next_due - _wall_ms()) / 1000, 0.05), _IDLE_S)
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            if self._commit is None and self._opened.store.behind:
                await self._engine.run(self._opened.store.settle, _SETTLED_AT_ONCE)
        self._wake.clear()

    # --- in the engine's thread --------------------------------------------------------------

    def _compute(self, step: Step) -> Iterator[Computed | None]:
        """Store what is committed, process a batch, let time pass, drain if asked.

        Yields the result at the end, and None wherever other partitions may use the time.
        """
        pipeline, metrics = self._opened.pipeline, self._around.metrics
        if step.durable is not None:
            self._store(step.durable)
        with metrics.stage("compute"):
            if step.erasures is not None:
                pipeline.erase(step.erasures, self._reached, _wall_ms())
            if step.passed is not None:
                pipeline.pass_over(*step.passed)
            if step.batch is not None:
                yield from pipeline.work(step.batch.records)
            if step.now is not None:
                pipeline.advance(step.now)
        pending, drained = pipeline.pending, None
        early = {} if self._exactly_once else pipeline.take_outputs()
        if step.drain and pending:
            with metrics.stage("drain"):
                snapshot = snapshot_of(pipeline, max(pipeline.source_offset, 0))
                drained, pending = (pipeline.drain(), snapshot), False
        erasing = self._eraser is not None and pipeline.erasing
        yield Computed(early, drained, pipeline.next_due(), pending, erasing)

    def _store(self, durable: Durable) -> None:
        """Take what is committed into the store."""
        stage("before_store")
        store, outbox, offset = self._opened.store, durable.outbox, durable.changelog_offset
        with self._around.metrics.stage("store"):
            store.apply(
                outbox.changelog, outbox.timers, store.changelog_offset if offset < 0 else offset
            )
            if outbox.erased:
                store.purge(outbox.erased)
        stage("after_store")
        self._opened.pipeline.committed(outbox)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
