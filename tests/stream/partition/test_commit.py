"""What both guarantees share: one producer, dead after its first error."""

import time

import pytest
from aiokafka import TopicPartition

from stream.errors import (
    ClockRefused,
    ClusterUnreachable,
    CommitError,
    CommitFenced,
    RecordTooLarge,
)
from stream.partition.at_least_once import FENCE_KEY
from stream.partition.exactly_once import ExactlyOnce
from stream.pipeline.outbox import Outbox
from tests.stream.committers import at_least_once, box, exactly_once
from tests.stream.kafka_tools import create_topics, read_all, unique

pytestmark = pytest.mark.kafka


async def test_a_fenced_committer_says_so(kafka, topics):
    app = unique("app")
    old, new = exactly_once(kafka, topics, app), exactly_once(kafka, topics, app)
    await old.start()
    await old.commit(box(topics, [0], 1))
    await new.start()

    with pytest.raises(CommitFenced, match="took the partition over"):
        await old.commit(box(topics, [1], 2))
    with pytest.raises(CommitError, match="has failed"):
        await old.commit(box(topics, [1], 2))

    await old.close()
    await new.close()
    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out 0"]


async def test_a_large_outbox_is_split(kafka, topics):
    committer = exactly_once(kafka, topics, unique("app"))
    await committer.start()
    outbox = Outbox(
        outputs={topics["out"]: [(b"k", bytes(100_000)) for _ in range(35)]},
        changelog=[(b"u%d" % n, bytes(100_000)) for n in range(25)],
        timers=[],
        next_offset=None,
        records=0,
    )
    last = await committer.commit(outbox)
    await committer.close()

    changelog = await read_all(kafka.bootstrap_servers, topics["changelog"])
    assert len(changelog) == 25
    assert last == changelog[-1].offset
    assert len(await read_all(kafka.bootstrap_servers, topics["out"])) == 35


async def test_a_record_that_is_too_large_names_topic_and_remedy(kafka, topics):
    small = unique("small")
    await create_topics(kafka.bootstrap_servers, small, partitions=2, max_message_bytes="50000")
    committer = exactly_once(kafka, topics, unique("app"))
    await committer.start()
    outbox = Outbox({small: [(b"k", bytes(60_000))]}, [(b"m", b"x")], [], 1, 1)

    with pytest.raises(RecordTooLarge, match=rf"{small}-1.*max.message.bytes"):
        await committer.commit(outbox)
    await committer.close()


@pytest.mark.parametrize("make", [exactly_once, at_least_once])
async def test_a_clock_three_days_ahead_is_named(kafka, topics, make, monkeypatch):
    strict, now = unique("strict"), time.time_ns
    bound = {"message.timestamp.after.max.ms": "3600000"}  # Kafka 4 has it by default
    await create_topics(kafka.bootstrap_servers, strict, partitions=2, **bound)
    committer = make(kafka, topics | {"changelog": strict}, unique("app"))
    said = rf"^{strict}-1: the broker refuses .* UTC, .*ahead.*{next(iter(bound))}.*NTP"
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3 * 86_400 * 10**9)

    async def write():
        await committer.start()  # at least once it writes already
        await committer.commit(box(topics, [0], 1))

    with pytest.raises(ClockRefused, match=said):
        await write()
    await committer.close()
    monkeypatch.undo()
    assert await read_all(kafka.bootstrap_servers, strict) == []


@pytest.mark.parametrize("make", [exactly_once, at_least_once])
async def test_an_owner_finds_out_whether_it_still_is_one(kafka, topics, make):
    app = unique("app")
    old, new = make(kafka, topics, app), make(kafka, topics, app)
    await old.start()
    await old.commit(box(topics, [0], 1))
    await old.confirm(1)
    await new.start()
    with pytest.raises(CommitFenced):
        await old.confirm(1)
    await old.confirm(1)  # it has failed already
    await new.confirm(1)
    await old.close()
    await new.close()

    changelog = await read_all(kafka.bootstrap_servers, topics["changelog"])
    assert [r.key for r in changelog if r.key != FENCE_KEY] == [b"u0", b"m"]
    assert len(await read_all(kafka.bootstrap_servers, topics["out"])) == 1


async def test_a_missing_broker_is_reported():
    committer = ExactlyOnce(
        {"bootstrap_servers": "127.0.0.1:1"},
        app_id="app",
        source=TopicPartition("source", 0),
        changelog="changelog",
    )
    with pytest.raises(ClusterUnreachable, match="check the broker"):
        await committer.start()
    await committer.close()
