import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stream.errors import RecoveryError
from stream.partition.exactly_once import ExactlyOnce
from stream.pipeline.outbox import Outbox
from stream.storage.changelog import ChangelogReader
from stream.storage.recovery import recover
from stream.storage.store import RocksStore, wipe
from stream.storage.store_identity import StoreIdentity
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, produce, read_all, unique
from tests.stream.runs import each, run_of

pytestmark = pytest.mark.kafka


class Place:
    """A changelog topic and the folder that mirrors it."""

    def __init__(self, kafka, folder):
        self.options = {"bootstrap_servers": kafka.bootstrap_servers}
        self.app = unique("app")
        self.changelog = TopicPartition(f"{self.app}.changelog", 0)
        self.path = folder / "db"
        self.identity = StoreIdentity(self.app, self.changelog.topic, 0, 1)
        self.store = RocksStore.open(self.path, self.identity)

    def reset(self):
        self.store.close()
        wipe(self.path)
        self.store = RocksStore.open(self.path, self.identity)
        return self.store

    async def recover(self, **options):
        self.store, done = await recover(
            self.options,
            self.changelog,
            self.store,
            due_of=each(due_of),
            reset=self.reset,
            **options,
        )
        return done

    async def commit(self, changelog, *, abort=False):
        committer = ExactlyOnce(
            self.options,
            app_id=self.app,
            source=TopicPartition("source", 0),
            changelog=self.changelog.topic,
        )
        await committer.start()
        try:
            if not abort:
                return await committer.commit(Outbox({}, changelog, [], None, 0))
            producer = committer.producer
            await producer.begin_transaction()
            for key, value in changelog:
                await producer.send_and_wait(
                    self.changelog.topic, key=key, value=value, partition=0
                )
            await producer.abort_transaction()
        finally:
            await committer.close()

    def contents(self):
        return dict(self.store.scan(b"u", 10**6))


def due_of(value):
    return int(value) if value.isdigit() else None


@pytest.fixture
async def place(kafka, tmp_path):
    made = Place(kafka, tmp_path)
    await create_topics(
        kafka.bootstrap_servers, made.changelog.topic, cleanup_policy="compact", segment_ms="1000"
    )
    yield made
    made.store.close()


async def test_an_empty_changelog_is_an_empty_store(place):
    done = await place.recover()

    assert (done.records, done.end_offset, done.wiped) == (0, 0, False)
    assert place.contents() == {}


async def test_the_latest_committed_value_wins_and_timers_follow(place):
    await place.commit([(b"ua", b"100"), (b"ub", b"200"), (b"m", b"one")])
    await place.commit([(b"ua", b"999"), (b"uc", b"999")], abort=True)
    await place.commit([(b"ua", b"150"), (b"ub", None), (b"m", b"two"), (b"f", b"fence")])

    done = await asyncio.wait_for(place.recover(), PATIENCE_S)

    assert done.records == 7
    assert place.contents() == {b"ua": b"150"}
    assert place.store.get(b"m") == b"two"
    assert place.store.get(b"f") is None
    assert place.store.due(1000, 9) == [(150, b"ua")]
    assert place.store.changelog_offset == done.end_offset - 1


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_changelog_that_the_broker_compresses_is_read(kafka, place, codec):
    changelog = TopicPartition(unique("compressed"), 0)
    place.changelog = changelog
    await create_topics(
        kafka.bootstrap_servers, changelog.topic, cleanup_policy="compact", compression_type=codec
    )
    users = {b"u%d" % n: b"%d" % (n * 100) for n in range(2000)}
    await place.commit(list(users.items()))
    await place.commit([])  # its start waits for the marker of the one before
    assert (await place.recover()).records == 2000  # restored
    await place.commit([(b"u1", b"7"), (b"u2", None)])
    await place.commit([])
    assert (await place.recover()).records == 2  # caught up

    del users[b"u2"]
    assert place.contents() == users | {b"u1": b"7"}


async def test_only_aborted_records_end_too(place):
    await place.commit([(b"ua", b"1")], abort=True)

    done = await asyncio.wait_for(place.recover(), PATIENCE_S)

    assert done.records == 0
    assert place.contents() == {}


async def test_a_lagging_store_catches_up_and_moves_its_timers(place):
    first = await place.commit([(b"ua", b"100"), (b"ub", b"200"), (b"m", b"1")])
    await place.recover()
    place.store.apply([], [], first)  # as after a commit: the marker is not counted
    await place.commit([(b"ua", b"300"), (b"ub", None), (b"uc", b"no timer"), (b"m", b"2")])

    done = await place.recover()

    assert done.records == 4
    assert not done.wiped
    assert place.contents() == {b"ua": b"300", b"uc": b"no timer"}
    assert place.store.due(1000, 9) == [(300, b"ua")]
    assert (await place.recover()).records == 0


async def test_a_store_ahead_of_the_changelog_is_not_wiped(place):
    """The changelog lost its end, or is another one: the store may be the last good copy."""
    await place.commit([(b"ua", b"1"), (b"m", b"1")])
    place.store.apply([(b"ux", b"only here"), (b"m", b"9")], [(b"ux", None, 5)], 1_000)

    with pytest.raises(RecoveryError, match=r"contains offset 1000 .* both are left as they are"):
        await place.recover()

    assert place.contents() == {b"ux": b"only here"}


async def test_a_store_older_than_the_changelogs_begin_is_restored(place, kafka):
    await place.commit([(b"ua", b"1"), (b"ub", b"2")])
    await place.recover()
    place.store.apply([], [], 0)
    await place.commit([(b"ub", b"3")])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.alter_configs(
        [
            ConfigResource(
                ConfigResourceType.TOPIC,
                place.changelog.topic,
                {"cleanup.policy": "compact,delete"},
            )
        ]
    )
    await admin.delete_records({place.changelog: RecordsToDelete(3)})
    await admin.close()

    done = await place.recover()

    assert done.wiped
    assert place.contents() == {b"ub": b"3"}


async def test_an_interrupted_restore_goes_on(place):
    await place.commit([(b"u%d" % n, b"%d" % n) for n in range(100)] + [(b"m", b"1")])
    place.store.begin_restore()
    place.store.load(run_of((b"u%d" % n, b"%d" % n) for n in range(50)), 49)
    place.store.close()
    place.store = RocksStore.open(place.path, place.identity)

    await place.recover()

    assert len(place.contents()) == 100
    assert len(place.store.due(1000, 1000)) == 100
    assert not place.store.restoring


@pytest.mark.full  # a broker looks for something to compact every 15 s
async def test_a_compacted_changelog_ends(place, kafka):
    place.changelog = TopicPartition(unique("compacted"), 0)
    await create_topics(
        kafka.bootstrap_servers,
        place.changelog.topic,
        cleanup_policy="compact",
        segment_ms="1000",
        min_cleanable_dirty_ratio="0.01",
    )
    began = time.time_ns() // 1_000_000 - 60_000
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    for round_number in range(4):
        for key in (b"ua", b"ub", b"m"):
            await producer.send_and_wait(
                place.changelog.topic,
                key=key,
                value=b"%d" % round_number,
                partition=0,
                timestamp_ms=began + round_number * 2_000,  # so that each round has a segment
            )
    await producer.stop()
    async with asyncio.timeout(PATIENCE_S):
        while len(await read_all(kafka.bootstrap_servers, place.changelog.topic)) == 12:
            pass

    done = await asyncio.wait_for(place.recover(), PATIENCE_S)

    assert done.records < done.end_offset == 12
    assert place.contents() == {b"ua": b"3", b"ub": b"3"}


async def test_a_stalled_changelog_is_given_up(place):
    await place.commit([(b"ua", b"1")])
    holder = AIOKafkaProducer(**place.options, transactional_id=unique("other"))
    await holder.start()
    await holder.begin_transaction()
    await holder.send_and_wait(place.changelog.topic, key=b"ub", value=b"2", partition=0)
    consumer = AIOKafkaConsumer(**place.options, isolation_level="read_committed")
    await consumer.start()
    consumer.assign([place.changelog])

    with pytest.raises(RecoveryError, match="no progress for 2 s at offset 2 of 3"):
        async for _ in ChangelogReader(consumer, place.changelog, 3, 2).responses(0):
            pass

    await consumer.stop()
    await holder.abort_transaction()
    await holder.stop()


async def test_many_records_are_restored(place, kafka):
    count = 100_000
    value = b"7" * 10 + bytes(390)
    await produce(
        kafka.bootstrap_servers,
        place.changelog.topic,
        ((b"u%08d" % n, value) for n in range(count)),
    )
    assert (await place.recover()).records == count
    assert place.store.user_count() == count
    assert place.store.due(2**62, 1) == []
    assert (await place.recover()).records == 0
