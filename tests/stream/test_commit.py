import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalGenerationError

from stream.commit import FENCE_KEY, AtLeastOnce, ExactlyOnce
from stream.errors import ClusterUnreachable, CommitError, CommitFenced, RecordTooLarge
from stream.outbox import Outbox
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import committed, create_topics, read_all, unique

pytestmark = pytest.mark.kafka


@pytest.fixture
async def topics(kafka):
    names = {kind: unique(kind) for kind in ("source", "changelog", "out")}
    await create_topics(kafka.bootstrap_servers, *names.values(), partitions=2)
    return names


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
    await old._producer.begin_transaction()
    await (await old._producer.send(topics["out"], b"open", partition=1))

    await new.start()
    await new.commit(box(topics, [2], 3))
    await old.close()
    await new.close()

    outputs = await read_all(kafka.bootstrap_servers, topics["out"])
    assert [record.value for record in outputs] == [b"out 0", b"out 2"]
    assert await committed(kafka.bootstrap_servers, app, TopicPartition(topics["source"], 1)) == 3


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


async def test_at_least_once_commits_the_offset_last(kafka, topics):
    calls = []

    async def commit_offset(tp, offset):
        calls.append(
            (tp, offset, len(await read_all(kafka.bootstrap_servers, topics["changelog"])))
        )

    committer = AtLeastOnce(
        {"bootstrap_servers": kafka.bootstrap_servers},
        app_id=unique("app"),
        source=TopicPartition(topics["source"], 0),
        changelog=topics["changelog"],
        commit_offset=commit_offset,
    )
    await committer.start()
    # The first record of the changelog is the fence.
    assert await committer.commit(box(topics, range(3), 3)) == 4
    assert await committer.commit(box(topics, range(3, 5), 5)) == 7
    await committer.close()

    source = TopicPartition(topics["source"], 0)
    assert {tp for tp, _, _ in calls} == {source}
    assert [offset for _, offset, _ in calls] == [3, 5]
    assert calls[0][2] >= 5
    assert calls[1][2] == 8


def at_least_once(kafka, topics, app="app"):
    async def commit_offset(_tp, _offset):
        pass

    return AtLeastOnce(
        {"bootstrap_servers": kafka.bootstrap_servers},
        app_id=app,
        source=TopicPartition(topics["source"], 1),
        changelog=topics["changelog"],
        commit_offset=commit_offset,
    )


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


async def test_a_refused_offset_kills_the_at_least_once_committer(kafka, topics):
    async def commit_offset(_tp, _offset):
        raise IllegalGenerationError

    committer = AtLeastOnce(
        {"bootstrap_servers": kafka.bootstrap_servers},
        app_id=unique("app"),
        source=TopicPartition(topics["source"], 0),
        changelog=topics["changelog"],
        commit_offset=commit_offset,
    )
    await committer.start()
    await committer.commit(box(topics, [0], 1))
    await asyncio.sleep(0)
    with pytest.raises(CommitFenced):
        await committer.commit(box(topics, [1], 2))
    await committer.close()


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
