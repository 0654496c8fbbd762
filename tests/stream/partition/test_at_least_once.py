"""Outputs at once, the changelog behind them, the offset last."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalGenerationError

from stream.errors import CommitFenced, RecordTooLarge
from tests.patience import PATIENCE_S
from tests.stream.committers import at_least_once, box, exactly_once
from tests.stream.kafka_tools import create_topics, read_all, unique

pytestmark = pytest.mark.kafka


async def test_at_least_once_commits_the_offset_last(kafka, topics):
    calls = []

    async def commit_offset(tp, offset):
        calls.append(
            (tp, offset, len(await read_all(kafka.bootstrap_servers, topics["changelog"])))
        )

    committer = at_least_once(kafka, topics, unique("app"), commit_offset)
    await committer.start()
    # The first record of the changelog is the fence.
    assert await committer.commit(box(topics, range(3), 3)) == 4
    assert await committer.commit(box(topics, range(3, 5), 5)) == 7
    await committer.close()

    source = TopicPartition(topics["source"], 1)
    assert {tp for tp, _, _ in calls} == {source}
    assert [offset for _, offset, _ in calls] == [3, 5]
    assert calls[0][2] >= 5
    assert calls[1][2] == 8


async def test_at_least_once_outputs_are_seen_before_their_commit_and_in_order(kafka, topics):
    committer = at_least_once(kafka, topics, unique("app"))
    await committer.start()
    for number in range(50):
        committer.send({topics["out"]: [(b"k", b"out %d" % number)]})
        if number % 20 == 0:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(PATIENCE_S):
        outputs = []
        while len(outputs) < 50:
            outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out %d" % n for n in range(50)]
    assert len(await read_all(kafka.bootstrap_servers, topics["changelog"])) == 1, "the fence"

    committer.send({topics["out"]: [(b"k", b"out 50")]})
    await committer.commit(box(topics, [51], 52))
    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs[50:]] == [b"out 50", b"out 51"]
    await committer.close()


async def test_at_least_once_an_output_that_fails_fails_the_commit_that_covers_it(kafka, topics):
    small = unique("small")
    await create_topics(kafka.bootstrap_servers, small, partitions=2, max_message_bytes="50000")
    committer = at_least_once(kafka, topics, unique("app"))
    await committer.start()
    committer.send({small: [(b"k", bytes(60_000))]})
    await asyncio.sleep(0.2)
    committer.send({topics["out"]: [(b"k", b"later")]})

    with pytest.raises(RecordTooLarge, match=small):
        await committer.commit(box(topics, [1], 2))
    await committer.close()

    keys = [record.key for record in await read_all(kafka.bootstrap_servers, topics["changelog"])]
    assert b"u1" not in keys


@pytest.mark.parametrize("successor", ["at_least_once", "exactly_once"])
async def test_at_least_once_a_woken_owner_overwrites_nothing(kafka, topics, successor):
    app = unique("app")

    old = at_least_once(kafka, topics, app)
    new = (at_least_once if successor == "at_least_once" else exactly_once)(kafka, topics, app)
    await old.start()
    await old.commit(box(topics, [0], 1))
    await new.start()
    if successor == "exactly_once":
        await new.commit(box(topics, [1], 2))

    with pytest.raises(CommitFenced):
        await old.commit(box(topics, [2], 3))
    await new.commit(box(topics, [3], 4))
    await old.close()
    await new.close()

    keys = [record.key for record in await read_all(kafka.bootstrap_servers, topics["changelog"])]
    assert b"u2" not in keys
    assert keys[-2:] == [b"u3", b"m"]


async def test_a_refused_offset_kills_the_at_least_once_committer(kafka, topics):
    async def commit_offset(_tp, _offset):
        raise IllegalGenerationError

    committer = at_least_once(kafka, topics, unique("app"), commit_offset)
    await committer.start()
    await committer.commit(box(topics, [0], 1))
    await asyncio.sleep(0)
    with pytest.raises(CommitFenced):
        await committer.commit(box(topics, [1], 2))
    await committer.close()
