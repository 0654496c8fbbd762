"""One partition's life: open, process, close, and open anew after what that can heal.

An error leaves nothing to trust in memory, so the partition is opened anew from what is durable, or
the worker ends.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final, Literal

import structlog
from aiokafka import TopicPartition

from stream.errors import (
    ClockRefused,
    ClusterUnreachable,
    CommitError,
    CommitFenced,
    OpeningGivenUp,
    RecordTooLarge,
    ScorerFailed,
    StoreCorrupt,
    StreamError,
)
from stream.health.vitals import Progress, Sign
from stream.kafka.fetching import MicroBatch
from stream.partition.inbox import Inbox
from stream.partition.opening import (
    PIPELINE_STEP,
    OpenPartition,
    PipelineLike,
    open_partition,
    state_path,
)
from stream.partition.processing import Processing, Surroundings
from stream.partition.steps import Snapshot
from stream.storage.store import RecordStore, wipe

MAX_REOPENED: Final = 5
"""Failures in a row after which a partition is given up."""
_FOR_GOOD: Final = (CommitFenced, RecordTooLarge, ClockRefused)
"""What no other try heals."""
_SILENT_S: Final = 1.0
"""Pause before the next try when no broker answers. Such tries are not counted: a cluster that is
gone is waited for, as long as it takes."""
_STEADY_S: Final = 60.0
"""A partition that ran for this long has healed: its earlier failures no longer count."""

log = structlog.get_logger(__name__)


class PartitionTask:
    """Runs one partition until it is stopped or fails for good."""

    def __init__(self, tp: TopicPartition, around: Surroundings) -> None:
        """Do nothing yet; `run` is the task."""
        self.tp = tp
        self.where = f"{tp.topic}-{tp.partition}"
        self.inbox = Inbox(self.where)
        self.progress = Progress()
        """How far an opening is."""
        self._last: Snapshot | None = None
        self._around = around
        self._engine = around.parts.engine
        self._settings = around.parts.settings
        self._open: OpenPartition | None = None
        self._work: Processing | None = None
        self._stopping = False

    # --- what the transport sees -------------------------------------------------------------

    @property
    def read_position(self) -> int | None:
        """Source offset to be taken next, None while nothing is."""
        return self.inbox.position

    @property
    def has_room(self) -> bool:
        """Whether another micro-batch may be fetched."""
        return self.inbox.has_room

    def offer(self, batch: MicroBatch) -> bool:
        """Reserve room for a batch that continues what was taken; refuse any other."""
        return self.inbox.offer(batch)

    def deliver(self, batch: MicroBatch) -> None:
        """Take the batch that Faust's stream has brought; `PartitionError` if it is another."""
        if self._work is not None:
            self._work.deliver(batch)

    # --- what the worker sees ----------------------------------------------------------------

    @property
    def pipeline(self) -> PipelineLike | None:
        """The pipeline while the partition is open."""
        return self._open.pipeline if self._open else None

    @property
    def store(self) -> RecordStore | None:
        """The store while the partition is open."""
        return self._open.store if self._open else None

    @property
    def stability(self) -> dict[str, float]:
        """How far the model's inputs are from those of its training; empty unless it is open."""
        return {} if self._open is None else self._open.pipeline.stability()

    @property
    def snapshot(self) -> Snapshot | None:
        """What was last committed, also when the partition is closed since."""
        return self._work.snapshot if self._work else self._last

    @property
    def blocked_at(self) -> int | None:
        """Offset of a transaction that keeps later records back, None if none does."""
        return self._work.open_transaction.blocked_at if self._work else None

    @property
    def state(self) -> Literal["opening", "open", "closing"]:
        """Which part of its life it is in: opening, open or closing."""
        if self._stopping:
            return "closing"
        return "open" if self._work is not None else "opening"

    def signs(self) -> Iterator[Sign]:
        """Yield what is under way; from any thread."""
        work, progress = self._work, self.progress
        if work is not None:
            yield from work.signs()
        else:
            calls = self._engine.calls if progress.step == PIPELINE_STEP else None
            mark = (progress.step, progress.done, calls)
            yield Sign(f"{self.where}: {progress.step}", mark, waits_for_cluster=True)

    def stop(self) -> None:
        """Ask `run` to commit what is processed, close and return."""
        self._stopping = self.progress.given_up = True
        self.inbox.close()
        if self._work is not None:
            self._work.stop()

    async def replace_scorer(self, scorer: Any) -> None:
        """Serve another model from the next micro-batch on."""
        if self._open is not None:
            await self._engine.run(self._open.pipeline.replace_scorer, scorer)

    async def run(self) -> None:
        """Open, process until stopped, commit, close; open anew after what that can heal.

        Raises:
            CommitFenced: another worker has the partition.
            ClockRefused: this machine's clock is too far from the broker's.
            StreamError: the partition cannot be opened, or fails again and again.
        """
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            try:
                await (await self._open_up()).run()
            except OpeningGivenUp:
                return
            except (ClusterUnreachable, StoreCorrupt, CommitError, ScorerFailed) as error:
                # An absent cluster is waited for; of models there are only so many to set aside.
                if not isinstance(error, ClusterUnreachable | ScorerFailed):
                    failures = 1 if time.monotonic() - began > _STEADY_S else failures + 1
                if isinstance(error, _FOR_GOOD) or failures > MAX_REOPENED:
                    raise
                failure: StreamError = error
            else:
                return
            finally:
                await self._close()
            log.warning("partition is opened anew", partition=self.where, error=str(failure))
            self.progress.begin("opening anew")
            if isinstance(failure, StoreCorrupt):
                wipe(state_path(self._settings, self.tp.partition))
            if isinstance(failure, ScorerFailed) and not await self._around.set_aside(failure):
                raise failure
            silent = isinstance(failure, ClusterUnreachable)
            await asyncio.sleep(_SILENT_S if silent else min(2.0**failures / 10, 5))

    async def _open_up(self) -> Processing:
        opened = await open_partition(self.tp, self._around.parts, self.progress)
        self._open = opened
        # A model may have been swapped while the partition was on its way.
        await self._engine.run(opened.pipeline.replace_scorer, self._around.parts.scorer())
        await self._around.log.move_to(self.tp, opened.start.offset)
        self.inbox = Inbox(self.where)
        work = self._work = Processing(self.tp, opened, self.inbox, self._around)
        if self._stopping:
            work.stop()
        else:
            self.inbox.open(opened.start)
            self._around.room_changed()
        return work

    async def _close(self) -> None:
        self.inbox.close()
        self.progress.begin("closing")
        work, self._work = self._work, None
        if work is not None:
            await work.abandon()
            self._last = work.snapshot
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close(self._engine)
            offset = self.snapshot.offset if self.snapshot else None
            log.info("partition is closed", partition=self.where, offset=offset)
