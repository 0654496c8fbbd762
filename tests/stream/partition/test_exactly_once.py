"""One transaction per commit, opened ahead of it."""

import asyncio
import gc
import logging

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from stream.errors import CommitFenced
from tests.patience import PATIENCE_S
from tests.stream.committers import box, exactly_once
from tests.stream.kafka_tools import committed, read_all, unique

pytestmark = pytest.mark.kafka


async def test_a_commit_holds_changelog_outputs_and_offset(kafka, topics):
    app = unique("app")
    committer = exactly_once(kafka, topics, app)
    await committer.start()
    first = await committer.commit(box(topics, range(3), 3))
    second = await committer.commit(box(topics, range(3, 5), 5))
    await committer.close()

    changelog = await read_all(kafka.bootstrap_servers, topics["changelog"])
    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.partition for record in changelog] == [1] * 7
    assert [record.value for record in outputs] == [b"out %d" % n for n in range(5)]
    assert {record.partition for record in outputs} == {1}
    assert [record.offset for record in changelog if record.key == b"m"] == [first, second]
    source = TopicPartition(topics["source"], 1)
    assert await committed(kafka.bootstrap_servers, app, source) == 5


async def test_a_successor_fences_and_ends_what_was_open(kafka, topics):
    app = unique("app")
    old, new = exactly_once(kafka, topics, app), exactly_once(kafka, topics, app)
    await old.start()
    await old.commit(box(topics, [0], 1))
    await old.producer.begin_transaction()
    await (await old.producer.send(topics["out"], b"open", partition=1))

    await new.start()
    await new.commit(box(topics, [2], 3))
    await old.close()
    await new.close()

    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out 0", b"out 2"]
    assert await committed(kafka.bootstrap_servers, app, TopicPartition(topics["source"], 1)) == 3


async def test_group_members_and_transactional_offsets_live_together(kafka, topics):
    app = unique("app")
    member = AIOKafkaConsumer(
        topics["source"],
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=app,
        enable_auto_commit=False,
    )
    await member.start()
    committer = exactly_once(kafka, topics, app)
    await committer.start()
    await committer.commit(box(topics, [0], 42))
    await committer.close()
    await member.stop()

    assert await committed(kafka.bootstrap_servers, app, TopicPartition(topics["source"], 1)) == 42


async def opened(committer, topics, app):
    """Wait until the transaction has the group and the usual partitions."""
    manager = committer.producer._txn_manager
    partitions = {TopicPartition(topics[name], 1) for name in ("changelog", "out")}
    async with asyncio.timeout(PATIENCE_S):
        while (manager._txn_consumer_group, manager.txn_partitions) != (app, partitions):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_a_commit_needs_of_the_coordinator_is_asked_ahead(kafka, topics):
    app = unique("app")
    committer = exactly_once(kafka, topics, app)
    await committer.start()
    await committer.commit(box(topics, [0], 1))
    for _ in range(2):  # more than once is no more than once
        committer.expect()
    await opened(committer, topics, app)
    await committer.commit(box(topics, [1], 2))
    await committer.commit(box(topics, [2], 3))
    await committer.close()

    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out 0", b"out 1", b"out 2"]
    assert await committed(kafka.bootstrap_servers, app, TopicPartition(topics["source"], 1)) == 3


async def test_an_opened_transaction_is_left_to_the_successor(kafka, topics):
    app = unique("app")
    old, new = exactly_once(kafka, topics, app), exactly_once(kafka, topics, app)
    await old.start()
    await old.commit(box(topics, [0], 1))
    old.expect()
    await opened(old, topics, app)
    old.expect()
    await old.close()

    await new.start()
    await new.commit(box(topics, [1], 2))
    await new.close()
    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out 0", b"out 1"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_one_that_is_fenced_beside_its_opening_says_so(kafka, topics, when, caplog):
    caplog.set_level(logging.ERROR, "asyncio")
    app = unique("app")
    old, new = exactly_once(kafka, topics, app), exactly_once(kafka, topics, app)
    await old.start()
    await old.commit(box(topics, [0], 1))
    if when == "before":
        await new.start()
    old.expect()
    if when == "after":
        await opened(old, topics, app)
        await new.start()
    await asyncio.sleep(0.2)

    with pytest.raises(CommitFenced, match="took the partition over"):
        await old.commit(box(topics, [1], 2))
    old.expect()  # it has failed already
    await old.close()
    await new.commit(box(topics, [2], 3))
    await new.close()
    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out 0", b"out 2"]
    gc.collect()
    assert "never retrieved" not in caplog.text, "it was raised where somebody waited"
