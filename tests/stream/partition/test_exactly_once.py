"""One transaction per commit."""

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

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
