"""Committers of partition 1 against the real broker, and what they commit."""

from aiokafka import TopicPartition

from stream.partition.at_least_once import AtLeastOnce
from stream.partition.exactly_once import ExactlyOnce
from stream.pipeline.outbox import Outbox


def box(topics, numbers, next_offset):
    return Outbox(
        outputs={topics["out"]: [(b"k", b"out %d" % n) for n in numbers]},
        changelog=[(b"u%d" % n, b"state") for n in numbers] + [(b"m", b"meta")],
        timers=[],
        next_offset=next_offset,
        records=len(numbers),
    )


def exactly_once(kafka, topics, app="app"):
    return ExactlyOnce(
        {"bootstrap_servers": kafka.bootstrap_servers},
        app_id=app,
        source=TopicPartition(topics["source"], 1),
        changelog=topics["changelog"],
    )


async def no_offset(_tp, _offset):
    pass


def at_least_once(kafka, topics, app="app", commit_offset=no_offset):
    return AtLeastOnce(
        {"bootstrap_servers": kafka.bootstrap_servers},
        app_id=app,
        source=TopicPartition(topics["source"], 1),
        changelog=topics["changelog"],
        commit_offset=commit_offset,
    )
