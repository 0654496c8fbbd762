"""A trivial pipeline: counts the events of each user. `program` is a worker with it."""

import asyncio
import logging
import os
import sys
import threading
from types import SimpleNamespace

import structlog

from stream.config.loading import load_settings
from stream.pipeline.outbox import Counters, Outbox, PartitionMeta, decode_meta, encode_meta
from stream.worker.worker import Worker
from tests.stream.runs import each

UNASKED = SimpleNamespace(
    version="none",
    code=0,
    targets=(),
    hidden_size=0,
    history_length=1,
    recurrent=True,
    rebuilds=0,
    overlaps=False,
    ranks=(),
    shown=0,
    feature_version="1",
    cold_start=True,
    raises=False,
    reference_profile=(),
)
"""A model that this pipeline never asks."""


class CountingPipeline:
    """One output and one count per event; events below the user's offset are skipped."""

    def __init__(self, *, settings, topic, partition, partitions, store, scorer):
        self.scorer = scorer
        self._topic = settings.topics.propensity
        self._store = store
        self._meta: PartitionMeta = decode_meta(store.get(b"m"))
        self._counts = {}
        self._dirty = {}
        self._outputs = []
        self._covered = 0
        self._moved = False

    @property
    def source_offset(self):
        return self._meta.source_offset

    @property
    def watermark(self):
        return 0

    @property
    def counters(self) -> Counters:
        return self._meta.counters

    @property
    def pending(self):
        return self._moved

    def work(self, records):
        missing = [k for k in {b"u" + r.key for r in records} if k not in self._counts]
        for key, value in zip(missing, self._store.get_many(missing), strict=True):
            self._counts[key] = int(value or 0)
        counts, dirty, outputs = self._counts, self._dirty, self._outputs
        skipped = 0
        for record in records:
            if record.offset < self._meta.source_offset:
                skipped += 1
                continue
            key = b"u" + record.key
            counts[key] = count = counts[key] + 1
            dirty[key] = count
            outputs.append((record.key, b"%s:%d:%d" % (record.key, count, record.offset)))
        self._meta.counters.consumed += len(records) - skipped
        self._meta.source_offset = max(records[-1].offset + 1, self._meta.source_offset)
        self._covered += len(records)
        self._moved = True
        return iter(())

    @property
    def topic_ids(self):
        return self._meta.topic_ids

    def note_topics(self, ids):
        self._moved |= self._meta.source_offset >= 0 and ids != self._meta.topic_ids
        self._meta.topic_ids = ids

    def pass_over(self, offset, lost):
        self._moved |= lost > 0 or offset > max(self._meta.source_offset, 0)
        self._meta.source_offset = max(self._meta.source_offset, offset)
        self._meta.counters.lost += lost

    def advance(self, now_ms):
        pass

    def stability(self):
        return {}

    def next_due(self):
        return None

    def take_outputs(self):
        outputs, self._outputs = self._outputs, []
        return {self._topic: outputs} if outputs else {}

    def drain(self):
        outbox = Outbox(
            {self._topic: self._outputs} if self._outputs else {},
            [
                *((key, b"%d" % count) for key, count in self._dirty.items()),
                (b"m", encode_meta(self._meta)),
            ],
            [],
            self._meta.source_offset if self._moved else None,
            self._covered,
        )
        self._dirty, self._outputs, self._covered, self._moved = {}, [], 0, False
        return outbox

    def committed(self, outbox):
        pass

    def replace_scorer(self, scorer):
        self.scorer = scorer


async def main():
    settings = load_settings()
    worker = Worker(
        settings,
        new_pipeline=CountingPipeline,
        due_of=each(lambda _value: None),
        scorer=UNASKED,
    )
    await worker.run()


def program():
    """Be a worker."""
    logging.basicConfig(level=os.environ.get("LOG", "WARNING"), stream=sys.stderr)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main())
    sys.stderr.write(f"threads left: {[t.name for t in threading.enumerate()]}\n")
