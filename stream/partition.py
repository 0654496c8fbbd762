"""One partition's life: open, process, commit, close.

Computing and committing overlap: while an outbox is on its way the next micro-batches are
processed, up to a bound. An error leaves nothing to trust in memory, so the partition is opened
anew from what is durable, or the worker ends.
"""

import asyncio
import contextlib
import copy
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiokafka import TopicPartition

from stream.errors import (
    CommitError,
    CommitFenced,
    PartitionError,
    RecordTooLarge,
    ScorerFailed,
    StoreCorrupt,
)
from stream.faults import stage
from stream.opening import OpenPartition, Parts, PipelineLike, open_partition, state_path
from stream.outbox import Counters, Outbox
from stream.store import RecordStore, wipe
from stream.transport import LogState, MicroBatch

ROOM: Final = 2
"""Micro-batches taken and not yet processed: one at work and one waiting."""
MAX_REOPENED: Final = 5
"""Failures in a row after which a partition is given up."""
_PENDING_BATCHES: Final = 8
"""Full micro-batches that may be processed and not committed before processing waits."""
_IDLE_S: Final = 1.0
_STEADY_S: Final = 60.0
"""A partition that ran for this long has healed: its earlier failures no longer count."""

log = structlog.get_logger(__name__)


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


@dataclass(frozen=True)
class Snapshot:
    """A partition as of its last commit."""

    offset: int
    """Next source offset to process."""
    watermark: int
    counters: Counters
    next_due: int | None
    """No timer is due before this."""


class PartitionTask:
    """Runs one partition until it is stopped or fails for good."""

    def __init__(self, tp: TopicPartition, around: Surroundings) -> None:
        """Do nothing yet; `run` is the task."""
        self.tp = tp
        self.where = f"{tp.topic}-{tp.partition}"
        self.read_position: int | None = None
        self.progressed_at = time.monotonic()
        self._around = around
        self._engine = around.parts.engine
        self._settings = settings = around.parts.settings
        self._exactly_once = settings.worker.guarantee == "exactly_once"
        self._wall_clock = settings.worker.clock != "event"
        self._open: OpenPartition | None = None
        self._queue: deque[MicroBatch] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self.snapshot: Snapshot | None = None
        self._forget()

    def _forget(self) -> None:
        self._queue.clear()
        self._arriving: deque[MicroBatch] = deque()
        self._busy = False
        self.read_position = None
        self._position = -1
        self._last_timestamp = 0
        self._uncommitted: list[MicroBatch] = []
        self._uncommitted_records = 0
        self._pending = False
        self._next_due: int | None = None
        self._advanced_to = -1
        self._commit: asyncio.Task[None] | None = None
        self._committed_at = 0.0

    # --- what the transport sees -------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another micro-batch may be fetched."""
        return self.read_position is not None and self._held < ROOM

    @property
    def _held(self) -> int:
        return len(self._arriving) + len(self._queue) + self._busy

    def offer(self, batch: MicroBatch) -> bool:
        """Reserve room for a batch that continues what was taken; refuse any other."""
        if self.read_position is None or batch.start != self.read_position:
            return False
        self.read_position = batch.end
        if batch.records:
            self._arriving.append(batch)
        return True

    def deliver(self, batch: MicroBatch) -> None:
        """Take the batch that Faust's stream has brought.

        Raises:
            PartitionError: it is not the next one: a batch was lost on its way.
        """
        if self.read_position is None:
            return
        if not self._arriving or self._arriving.popleft() is not batch:
            raise PartitionError(
                f"{self.where}: offsets {batch.start} to {batch.end} were delivered out of turn"
            )
        self._queue.append(batch)
        self._wake.set()

    # --- what the worker sees ----------------------------------------------------------------

    @property
    def pipeline(self) -> PipelineLike | None:
        """The pipeline while the partition is open."""
        return self._open.pipeline if self._open else None

    @property
    def store(self) -> RecordStore | None:
        """The store while the partition is open."""
        return self._open.store if self._open else None

    def stop(self) -> None:
        """Ask `run` to commit what is processed, close and return."""
        self._stopping = True
        self.read_position = None
        self._wake.set()

    async def replace_scorer(self, scorer: Any) -> None:
        """Serve another model from the next micro-batch on."""
        if self._open is not None:
            await self._engine.run(self._open.pipeline.replace_scorer, scorer)

    async def run(self) -> None:
        """Open, process until stopped, commit, close; open anew after what that can heal.

        Raises:
            CommitFenced: another worker has the partition.
            StreamError: the partition cannot be opened, or fails again and again.
        """
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            try:
                await self._open_up()
                await self._process()
            except (StoreCorrupt, CommitError, ScorerFailed) as error:
                failures = 1 if time.monotonic() - began > _STEADY_S else failures + 1
                if isinstance(error, CommitFenced | RecordTooLarge) or failures > MAX_REOPENED:
                    raise
                failure: StoreCorrupt | CommitError | ScorerFailed = error
            else:
                return
            finally:
                await self._close()
            log.warning("partition is opened anew", partition=self.where, error=str(failure))
            if isinstance(failure, StoreCorrupt):
                wipe(state_path(self._settings, self.tp.partition))
            if isinstance(failure, ScorerFailed) and not await self._around.set_aside(failure):
                raise failure
            await asyncio.sleep(min(2.0**failures / 10, 5))

    # --- opening and closing -----------------------------------------------------------------

    async def _open_up(self) -> None:
        opened = await open_partition(self.tp, self._around.parts)
        self._forget()
        self._open = opened
        # A model may have been swapped while the partition was on its way.
        await self._engine.run(opened.pipeline.replace_scorer, self._around.parts.scorer())
        await self._around.log.move_to(self.tp, opened.offset)
        self.snapshot = _snapshot(opened.pipeline, opened.offset)
        self._next_due = opened.pipeline.next_due()
        self.progressed_at = time.monotonic()
        self.read_position = opened.offset
        self._around.room_changed()

    async def _close(self) -> None:
        opened, self._open = self._open, None
        if self._commit is not None:
            self._commit.cancel()
            await asyncio.wait({self._commit})
            if not self._commit.cancelled():
                self._commit.exception()  # seen: what ended the partition is raised by `run`
        self._forget()
        if opened is not None:
            await opened.close(self._engine)
            offset = self.snapshot.offset if self.snapshot else None
            log.info("partition is closed", partition=self.where, offset=offset)

    # --- processing --------------------------------------------------------------------------

    async def _process(self) -> None:
        """Process and commit until asked to stop, then commit the rest."""
        while not self._stopping:
            await self._settle_commit()
            batch = self._next_batch()
            now = self._now(batch)
            drain = self._may_commit()
            if batch is not None or (drain and self._pending) or self._timer_due(now):
                await self._step(batch, now, drain)
            else:
                await self._sleep()
        await self._settle_commit(wait=True)
        if self._pending:
            await self._step(None, None, drain=True)
            await self._settle_commit(wait=True)

    def _next_batch(self) -> MicroBatch | None:
        if not self._queue or (self._commit is not None and self._much_pending()):
            return None
        return self._queue.popleft()

    def _much_pending(self) -> bool:
        return self._uncommitted_records >= _PENDING_BATCHES * self._settings.worker.batch_size

    async def _step(self, batch: MicroBatch | None, now: int | None, drain: bool) -> None:  # noqa: FBT001
        opened = self._open
        if opened is None:
            return
        pipeline = opened.pipeline
        if batch is not None:
            stage("after_poll")
            self._busy = True
        computed = await self._engine.run(_compute, pipeline, batch, now, drain)
        if batch is not None:
            stage("after_scoring")
            self._busy = False
            self._position = batch.end
            self._last_timestamp = max(self._last_timestamp, batch.records[-1].timestamp)
            self._uncommitted.append(batch)
            self._uncommitted_records += len(batch.records)
            self._around.room_changed()
        self._advanced_to = max(self._advanced_to, now or -1)
        self._next_due, self._pending = computed.next_due, computed.pending
        self.progressed_at = time.monotonic()
        if computed.drained is not None:
            covered, self._uncommitted = self._uncommitted, []
            self._uncommitted_records = 0
            self._committed_at = time.monotonic()
            self._commit = asyncio.create_task(
                self._make_durable(opened, *computed.drained, covered)
            )
            self._commit.add_done_callback(lambda _: self._wake.set())

    async def _make_durable(
        self, opened: OpenPartition, outbox: Outbox, snapshot: Snapshot, covered: list[MicroBatch]
    ) -> None:
        stage("before_commit")
        changelog_offset = await opened.committer.commit(outbox)
        stage("after_commit")
        await self._engine.run(_store, opened, outbox, changelog_offset)
        self.snapshot = snapshot
        for batch in covered:
            self._around.acknowledge(batch)
        stage("after_ack")
        self.progressed_at = time.monotonic()

    async def _settle_commit(self, *, wait: bool = False) -> None:
        commit = self._commit
        if commit is not None and (wait or commit.done()):
            await commit
            self._commit = None

    def _may_commit(self) -> bool:
        """Whether a commit may start now: at once after a pause, else once per interval.

        At least once has nothing to gain from waiting, as its commits cost little.
        """
        if self._commit is not None:
            return False
        return not self._exactly_once or self._commit_wait() <= 0 or self._much_pending()

    def _commit_wait(self) -> float:
        interval = self._settings.worker.commit_interval_ms / 1000
        return self._committed_at + interval - time.monotonic()

    def _timer_due(self, now: int | None) -> bool:
        if now is None or self._next_due is None:
            return False
        tick = self._settings.churn.tick_ms
        return self._next_due <= now // tick * tick and now // tick > self._advanced_to // tick

    def _now(self, batch: MicroBatch | None) -> int | None:
        """Return the time that timers may see, None when the wall clock is not theirs.

        With a backlog it is the broker's time of the last record consumed, so that nobody is found
        silent whose events wait in the log. Without one it is the time of the fetch that found
        nothing more, not the wall clock: what has come since is not known.
        """
        if not self._wall_clock:
            return None
        if batch is not None:
            return min(max(self._last_timestamp, int(batch.records[-1].timestamp)), _wall_ms())
        state = self._around.log.log_state(self.tp)
        caught_up_at = self._open.caught_up_at if self._open else 0
        if (
            state is None
            or self._held
            or self.read_position is None
            or self.read_position < max(state.stable_end, caught_up_at)
        ):
            return min(self._last_timestamp, _wall_ms())
        return min(state.polled_at_ms, _wall_ms())

    async def _sleep(self) -> None:
        seconds = _IDLE_S
        if self._pending and self._commit is None:
            seconds = max(self._commit_wait(), 0.001)
        elif self._wall_clock and self._next_due is not None:
            seconds = min(max((self._next_due - _wall_ms()) / 1000, 0.05), _IDLE_S)
        self.progressed_at = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()


@dataclass(frozen=True)
class _Computed:
    drained: tuple[Outbox, Snapshot] | None
    next_due: int | None
    pending: bool


def _compute(
    pipeline: PipelineLike,
    batch: MicroBatch | None,
    now: int | None,
    drain: bool,  # noqa: FBT001
) -> _Computed:
    """Process a batch, let time pass, drain if asked; runs in the engine's thread."""
    if batch is not None:
        pipeline.process(batch.records)
    if now is not None:
        pipeline.advance(now)
    pending, drained = pipeline.pending, None
    if drain and pending:
        snapshot = _snapshot(pipeline, max(pipeline.source_offset, 0))
        drained, pending = (pipeline.drain(), snapshot), False
    return _Computed(drained, pipeline.next_due(), pending)


def _snapshot(pipeline: PipelineLike, offset: int) -> Snapshot:
    counters = copy.copy(pipeline.counters)
    return Snapshot(offset, pipeline.watermark, counters, pipeline.next_due())


def _store(opened: OpenPartition, outbox: Outbox, changelog_offset: int) -> None:
    """Write what is committed to RocksDB; runs in the engine's thread."""
    stage("before_store")
    if changelog_offset < 0:
        changelog_offset = opened.store.changelog_offset
    opened.store.apply(outbox.changelog, outbox.timers, changelog_offset)
    stage("after_store")
    opened.pipeline.committed(outbox)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
