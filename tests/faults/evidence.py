"""What the brokers' own files say, when transactions came out otherwise than they should have.

A doubled output is either committed twice, which is ours, or was aborted and is told all the same,
which is the broker's. Only the markers in the log and the coordinator's notes tell the two apart,
and the folders are gone when the test is over. So a test that fails says them.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from aiokafka.record.memory_records import MemoryRecords

from tests.e2e.world import World

AROUND = 6
"""Batches told before and after one that holds a doubled message."""
LATEST = 40
"""Notes of the coordinator told of each transactional id."""
_NOTE = struct.Struct(">hqhib")
"""Version, producer's id and epoch, timeout, status; partitions and times follow."""
_STATUS = ("empty", "ongoing", "prepare commit", "prepare abort", "committed", "aborted")


def transactions(folder: Path, shop: World) -> str:
    """What each broker has of the outputs that are there twice, and of the transactions."""
    lines: list[str] = []
    topics = shop.settings.topics
    for topic, name in ((topics.propensity, "prediction_id"), (topics.churn, "alert_id")):
        for partition, offsets in _doubled(shop, topic, name).items():
            lines += [f"{topic}-{partition}: doubled at {offsets}"]
            for node in _nodes(folder):
                lines += _around(node / f"{topic}-{partition}", offsets)
    for partition in shop.partitions:
        for node in _nodes(folder):
            changelog = f"{shop.settings.changelog}-{partition}"
            lines += [f"{node.parent.name} {changelog}: {_ends(node / changelog)}"]
            lines += _notes(node, f"{shop.settings.app_id}-{partition}")
    return "\n".join(lines)


def _nodes(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("node-*/data/meta.properties"))


def _doubled(shop: World, topic: str, name: str) -> dict[int, list[int]]:
    """Partition -> offsets of the messages that a read_committed subscriber sees again.

    `name`: of the field that says which message it is; the last bits of a score may differ.
    """
    places: dict[tuple[int, str], list[int]] = defaultdict(list)
    for record in shop.raw(topic):
        places[record.partition, orjson.loads(record.value)[name]].append(record.offset)
    found: dict[int, list[int]] = defaultdict(list)
    for (partition, _), offsets in places.items():
        if len(offsets) > 1:
            found[partition] += offsets
    return found


def _batches(partition: Path) -> Iterator[Any]:
    """The batches of a partition's folder, or nothing where this broker has none of it."""
    for segment in sorted(partition.glob("*.log")):
        records = MemoryRecords(segment.read_bytes())
        while records.has_next():
            yield records.next_batch()


def _around(partition: Path, offsets: list[int]) -> list[str]:
    batches = list(_batches(partition))
    told = set()
    for place, batch in enumerate(batches):
        if any(batch.base_offset <= offset < batch.next_offset for offset in offsets):
            told |= set(range(max(0, place - AROUND), min(len(batches), place + AROUND + 1)))
    node = partition.parent.parent.name
    return [f"  {node} {_told(batches[place])}" for place in sorted(told)]


def _told(batch: Any) -> str:
    kind = "data"
    if batch.is_control_batch:
        kind = {0: "ABORT", 1: "COMMIT"}.get(next(iter(batch)).key[3], "control")
    return (
        f"{batch.base_offset}..{batch.next_offset - 1} {kind} producer {batch.producer_id}"
        f" epoch {batch.producer_epoch} sequence {batch.base_sequence}"
    )


def _ends(partition: Path) -> str:
    """The last markers and the end of a partition."""
    batches = list(_batches(partition))
    markers = [_told(batch) for batch in batches if batch.is_control_batch]
    return f"{markers[-AROUND:]}, ends at {batches[-1].next_offset if batches else 0}"


def _notes(node: Path, transactional_id: str) -> list[str]:
    """What the coordinator noted of a transactional id, the latest."""
    records = (
        record
        for partition in sorted(node.glob("__transaction_state-*"))
        for batch in _batches(partition)
        for record in batch
        if transactional_id.encode() in (record.key or b"") and record.value
    )
    notes = [f"{record.offset} at {record.timestamp}: {_note(record.value)}" for record in records]
    return [f"  {node.parent.name} {transactional_id} {note}" for note in notes[-LATEST:]]


def _note(value: bytes) -> str:
    _, producer, epoch, _, status = _NOTE.unpack_from(value)
    topics = [name.decode() for name in re.findall(rb"[\w.-]{4,}", value[_NOTE.size :])]
    return f"{_STATUS[status]} producer {producer} epoch {epoch} {topics}"
