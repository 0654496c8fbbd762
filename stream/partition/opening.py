"""Opening a partition from what is durable, in the order that makes it exactly once.

The committer first, which shuts out every earlier owner; then the committed offset; then the store,
brought up to the end of the changelog; then the pipeline on top of it. Reading comes last.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from aiokafka import TopicPartition

from stream.config.settings import Settings
from stream.errors import OffsetError, StoreCorrupt, StoreLocked, TopicLayoutError
from stream.health.vitals import Progress
from stream.kafka.offsets import Start, source_offsets, starting_point
from stream.kafka.same_topics import log_new_outputs
from stream.kafka.topic_ids import replaced, topic_ids
from stream.kafka.topics import PARTITIONS_CHANGED
from stream.partition.commit import Committer
from stream.partition.engine import Engine
from stream.partition.eraser import Eraser
from stream.partition.same_topics import check_changelog, check_source
from stream.pipeline.due_times import DueOf
from stream.pipeline.erasure import Erasure
from stream.pipeline.outbox import Counters, Outbox, Outputs, output_topics
from stream.pipeline.records import Records
from stream.storage.recovery import recover
from stream.storage.store import RecordStore, RocksStore, wipe
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_options import StoreMemory
from stream.storage.write_behind import WriteBehind

LOCK_WAIT_S: Final = 20.0
"""How long another worker of this host may take to let go of the folder."""
PIPELINE_STEP: Final = "waiting for the engine"
"""The step of an opening that waits for other partitions' computing."""
_LOCK_POLL_S: Final = 0.2

log = structlog.get_logger(__name__)


class PipelineLike(Protocol):
    """What a partition needs of `stream.pipeline.pipeline.Pipeline`."""

    @property
    def source_offset(self) -> int:
        """Next source offset expected, -1 before the first."""

    @property
    def watermark(self) -> int:
        """Greatest event time seen, ms."""

    @property
    def counters(self) -> Counters:
        """Totals since the state began."""

    @property
    def pending(self) -> bool:
        """Whether anything waits for a commit."""

    @property
    def erase_offset(self) -> int:
        """Next request to forget a user, -1 before the first."""

    @property
    def erasing(self) -> bool:
        """Whether requests to forget a user wait for the source to be processed further."""

    def erase(self, erasures: Sequence[Erasure], reached: int, now_ms: int) -> None:
        """Take in requests to forget users; the source is processed up to `reached`."""

    @property
    def topic_ids(self) -> dict[str, str]:
        """Topic -> the id under which its offsets are noted."""

    def note_topics(self, ids: dict[str, str]) -> None:
        """Note of which topics the offsets are."""

    def pass_over(self, offset: int, lost: int) -> None:
        """Note that nothing is left to process before `offset`, and how much retention deleted."""

    def work(self, batch: Records) -> Iterator[None]:
        """Take in one micro-batch, in offset order; pauses where others may use the time."""

    def advance(self, now_ms: int) -> None:
        """Let time pass on the wall clock."""

    def stability(self) -> dict[str, float]:
        """Return how far the model's inputs are from those of its training."""

    def next_due(self) -> int | None:
        """Return a time before which no timer is due, None without timers."""

    def take_outputs(self) -> Outputs:
        """Take the outputs since the last time, unless they have to wait for the commit."""

    def drain(self) -> Outbox:
        """Take everything since the last drain."""

    def committed(self, outbox: Outbox) -> None:
        """Note that the outbox is in the store."""

    def replace_scorer(self, scorer: Any) -> None:
        """Use another model from the next event on."""


class PipelineFactory(Protocol):
    """Builds a partition's pipeline on its recovered store."""

    def __call__(
        self,
        *,
        settings: Settings,
        topic: str,
        partition: int,
        partitions: int,
        store: RecordStore,
        scorer: Any,
    ) -> PipelineLike:
        """Build it; it restores itself from `store`."""


@dataclass(frozen=True)
class Parts:
    """What every partition of a worker is built from."""

    settings: Settings
    engine: Engine
    memory: StoreMemory
    new_committer: Callable[[TopicPartition], Committer]
    new_pipeline: PipelineFactory
    scorer: Callable[[], Any]
    due_of: DueOf
    new_eraser: Callable[[TopicPartition], Eraser] | None = None
    """Makes what reads a source partition's requests to forget users."""


@dataclass
class OpenPartition:
    """What exists only while a partition is open."""

    committer: Committer
    store: WriteBehind
    pipeline: PipelineLike
    start: Start
    """Where in the source."""
    caught_up_at: int
    """Position at which everything that lay in the log on opening is consumed."""
    eraser: Eraser | None = None

    async def close(self, engine: Engine) -> None:
        """Release the connections and the folder; what is not committed is lost."""
        if self.eraser is not None:
            await self.eraser.close()
        await self.committer.close()
        await engine.run(self.store.close)


def state_path(settings: Settings, partition: int) -> Path:
    """Return the folder of a partition's local state."""
    return settings.data_dir / "state" / settings.app_id / str(partition)


async def open_partition(
    tp: TopicPartition, parts: Parts, progress: Progress | None = None
) -> OpenPartition:
    """Shut out earlier owners and restore everything that is durable; `progress` is told how far.

    Raises:
        OpeningGivenUp: it was taken away meanwhile.
        StreamError: it cannot be opened; nothing is left open.
    """
    settings = parts.settings
    if tp.partition >= settings.topics.partitions:
        problem = f"topic {tp.topic} has a partition {tp.partition}, which topics.partitions denies"
        raise TopicLayoutError([f"{problem}: {PARTITIONS_CHANGED}"])
    options = settings.kafka.client_options()
    began = time.monotonic()
    progress = progress or Progress()
    folder = _Folder(tp, parts, progress)
    committer = parts.new_committer(tp)
    eraser = parts.new_eraser(tp) if parts.new_eraser else None
    try:
        progress.enter("shutting out earlier owners")
        await committer.start()
        progress.enter("opening the folder")
        local = await folder.open()
        followed = [tp.topic, settings.changelog, settings.topics.erase, *_outputs(settings)]
        ids = await topic_ids(options, followed, OffsetError)
        check_changelog(local, settings.changelog, ids)
        progress.enter("settling the last transaction")
        await committer.settle(local.changelog_offset)
        progress.enter("asking for offsets")
        known = await source_offsets(options, settings.app_id, tp)
        changelog = TopicPartition(settings.changelog, tp.partition)
        store, recovered = await recover(
            options,
            changelog,
            local,
            due_of=parts.due_of,
            reset=folder.reset,
            aside=parts.engine.run_aside,
            progress=progress,
        )
        if settings.changelog in ids:
            store.note_changelog(ids[settings.changelog])
        progress.enter(PIPELINE_STEP)
        behind = folder.writing_behind(store)
        pipeline = await parts.engine.run(_new_pipeline, tp, parts, behind)
        check_source(tp, pipeline.topic_ids, pipeline.source_offset, ids)
        start = starting_point(tp, known, pipeline.source_offset)
        if known.pending:
            # Any decided commit of this partition's producer id replaces what lost its marker.
            log.warning(
                "a transaction ended without its marker in the group's offsets: the group's offset"
                " is committed again",
                partition=f"{tp.topic}-{tp.partition}",
                offset=start.offset,
            )
            await committer.confirm(start.offset)
        if eraser is not None:
            # All of them before the first event, so that each finds its place among the events.
            erase = settings.topics.erase
            again = erase in replaced(pipeline.topic_ids, ids)
            if again:
                log.warning("a new topic: requests to forget users are read again", topic=erase)
            await eraser.start(-1 if again else pipeline.erase_offset, progress)
        log_new_outputs(_outputs(settings) & {*replaced(pipeline.topic_ids, ids)}, folder.where)
        pipeline.note_topics(pipeline.topic_ids | ids)
    except BaseException:
        if eraser is not None:
            await eraser.close()
        folder.close()
        await committer.close()
        raise
    log.info(
        "partition is open",
        partition=f"{tp.topic}-{tp.partition}",
        offset=start.offset,
        behind=known.end - start.offset,
        restored=recovered.records,
        seconds=round(time.monotonic() - began, 2),
    )
    return OpenPartition(committer, behind, pipeline, start, known.end, eraser)


def _outputs(settings: Settings) -> set[str]:
    return {*output_topics(settings.topics).values()}


def _new_pipeline(tp: TopicPartition, parts: Parts, store: RecordStore) -> PipelineLike:
    return parts.new_pipeline(
        settings=parts.settings,
        topic=tp.topic,
        partition=tp.partition,
        partitions=parts.settings.topics.partitions,
        store=store,
        scorer=parts.scorer(),
    )


class _Folder:
    """The store's folder while it is being opened, wiped where that heals."""

    def __init__(self, tp: TopicPartition, parts: Parts, progress: Progress) -> None:
        settings = parts.settings
        self._progress = progress
        self._path = state_path(settings, tp.partition)
        self.where = f"{tp.topic}-{tp.partition}"
        self._identity = StoreIdentity(
            settings.app_id, settings.changelog, tp.partition, settings.topics.partitions
        )
        self._memory = parts.memory
        self._store: RocksStore | WriteBehind | None = None

    async def open(self) -> RocksStore:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return self._open()
            except StoreCorrupt as error:
                log.warning("state is wiped and restored", partition=self.where, reason=str(error))
                wipe(self._path)
            except StoreLocked:
                if time.monotonic() > deadline:
                    raise
                self._progress.done += 1
                await asyncio.sleep(_LOCK_POLL_S)

    def reset(self) -> RocksStore:
        self.close()
        wipe(self._path)
        return self._open()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _open(self) -> RocksStore:
        store = self._store = RocksStore.open(self._path, self._identity, self._memory)
        return store

    def writing_behind(self, store: RocksStore) -> WriteBehind:
        behind = self._store = WriteBehind(store, self._memory)
        return behind
