"""Commits that Kafka acknowledges while a partition has no leader: outputs come once all the same.

Three brokers; the partition in question has its only copy on one that is killed between the flush
and the commit.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError

from stream.errors import ClusterUnreachable, TransactionUndecided
from stream.kafka.markers import REPAIR_TIMEOUT_MS
from stream.kafka.offsets import source_offsets
from stream.kafka.transactions import Outcome
from stream.partition import exactly_once
from stream.partition.exactly_once import ExactlyOnce
from tests.conftest import running
from tests.patience import PATIENCE_S
from tests.stream.committers import box
from tests.stream.kafka_tools import read_all, unique

pytestmark = pytest.mark.kafka

VICTIM, OTHER = 3, 1
PARTITION = 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    properties = {"broker.session.timeout.ms": "4000", "offsets.topic.replication.factor": "1"}
    yield from running(tmp_path_factory, 3, properties)


class Shop:
    """Topics of one app, `leaderless` of them on the victim alone, and its committers."""

    def __init__(self, cluster, leaderless):
        self.cluster, self.leaderless = cluster, leaderless
        self.topics = {kind: unique(kind) for kind in ("source", "out", "changelog")}
        self.app = ""

    async def made(self):
        """Create the topics; choose an app whose coordinators are where the case needs them."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.cluster.bootstrap_servers)
        await admin.start()
        answer = await admin.create_topics(
            [
                NewTopic(
                    name, -1, -1, replica_assignments={0: [self._node(kind)], 1: [self._node(kind)]}
                )
                for kind, name in self.topics.items()
            ]
        )
        await admin.close()
        assert all(code == 0 for _, code, *_ in answer.topic_errors), answer
        client = AIOKafkaClient(bootstrap_servers=self.cluster.bootstrap_servers)
        await client.bootstrap()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self.app = unique("app")
                if await self._fits(client):
                    break
        await client.close()
        return self

    def _node(self, kind):
        return VICTIM if kind == self.leaderless else OTHER

    async def _fits(self, client):
        try:
            group = await client.coordinator_lookup(CoordinationType.GROUP, self.app)
            ids = await client.coordinator_lookup(
                CoordinationType.TRANSACTION, f"{self.app}-{PARTITION}"
            )
        except KafkaError:  # its topic is being created
            await asyncio.sleep(0.1)
            return False
        return (group == VICTIM) == (self.leaderless == "offsets") and ids != VICTIM

    def committer(self):
        return ExactlyOnce(
            {"bootstrap_servers": self.cluster.bootstrap_servers},
            app_id=self.app,
            source=TopicPartition(self.topics["source"], PARTITION),
            changelog=self.topics["changelog"],
            outputs=[self.topics["out"]],
        )

    def lose_the_leader(self, _place=""):
        """Kill the victim and wait until what it led has no leader."""
        self.cluster.broker.kill(VICTIM)
        name = self.topics.get(self.leaderless, "__consumer_offsets")
        # In a thread of its own: the caller is inside an event loop, which is to stand still.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, self._leaderless(name)).result()

    def bring_it_back(self):
        self.cluster.broker.restart(VICTIM)

    async def _leaderless(self, name):
        client = AIOKafkaClient(bootstrap_servers=self.cluster.bootstrap_servers)
        await client.bootstrap()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            metadata = await client.fetch_all_metadata()
            leaders = {p.leader for p in metadata._partitions.get(name, {}).values()}
            if leaders & {-1, None}:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"{name} keeps its leader")
        await client.close()

    async def outputs(self):
        records = await read_all(self.cluster.bootstrap_servers, self.topics["out"])
        return [record.value for record in records]

    async def state(self):
        records = await read_all(self.cluster.bootstrap_servers, self.topics["changelog"])
        return [record.key for record in records]

    async def offsets(self):
        tp = TopicPartition(self.topics["source"], PARTITION)
        options = {"bootstrap_servers": self.cluster.bootstrap_servers}
        return await source_offsets(options, self.app, tp)


async def committed_without_leader(shop, monkeypatch):
    """Commit 0 to 9, then 10 to 19 while the partition in question has no leader."""
    committer = shop.committer()
    await committer.start()
    await committer.commit(box(shop.topics, range(10), 10))
    monkeypatch.setattr(exactly_once, "stage", shop.lose_the_leader)
    await committer.commit(box(shop.topics, range(10, 20), 20))
    monkeypatch.undo()
    return committer


def state_of(numbers):
    """Keys of the changelog after commits of ten records each."""
    return [
        key
        for first in range(0, numbers, 10)
        for key in [*(b"u%d" % n for n in range(first, first + 10)), b"m"]
    ]


def outputs_of(numbers):
    return [b"out %d" % n for n in range(numbers)]


@pytest.mark.full
@pytest.mark.parametrize("leaderless", ["out", "changelog", "offsets"])
async def test_next_owner_decides_what_was_acknowledged(cluster, monkeypatch, leaderless):
    shop = await Shop(cluster, leaderless).made()
    committer = await committed_without_leader(shop, monkeypatch)
    shop.bring_it_back()
    if leaderless != "offsets":
        with pytest.raises(ClusterUnreachable, match=r"-1: the cluster acknowledged a commit"):
            await committer.commit(box(shop.topics, range(20, 30), 30))
    await committer.close()
    committer = shop.committer()
    await committer.start()
    await committer.settle(-1)
    assert await shop.outputs() == outputs_of(20)
    assert await shop.state() == state_of(20)
    offsets = await shop.offsets()
    assert (offsets.committed, offsets.pending) == (
        (10, True) if leaderless == "offsets" else (20, False)
    )
    await committer.confirm(20)
    offsets = await shop.offsets()
    assert (offsets.committed, offsets.pending) == (20, False)
    # What comes next is aborted, and takes nothing back.
    await aborted(committer, shop, monkeypatch)
    committer = shop.committer()
    await committer.start()
    await committer.commit(box(shop.topics, range(20, 30), 30))
    await committer.close()
    assert await shop.outputs() == outputs_of(30)
    assert await shop.state() == state_of(30)
    assert (await shop.offsets()).committed == 30


async def aborted(committer, shop, monkeypatch):
    """Fail between the flush and the commit of the third outbox."""

    def failing(_place):
        raise RuntimeError

    monkeypatch.setattr(exactly_once, "stage", failing)
    with pytest.raises(RuntimeError):
        await committer.commit(box(shop.topics, range(20, 30), 30))
    monkeypatch.undo()
    await committer.close()


async def initialised(shop, timeout_ms):
    """Initialise the transactional id and write no markers."""
    producer = AIOKafkaProducer(
        bootstrap_servers=shop.cluster.bootstrap_servers,
        transactional_id=f"{shop.app}-{PARTITION}",
        transaction_timeout_ms=timeout_ms,
    )
    await producer.start()
    return producer


@pytest.mark.full
async def test_an_owner_killed_while_it_decides(cluster, monkeypatch):
    shop = await Shop(cluster, "out").made()
    committer = await committed_without_leader(shop, monkeypatch)
    await committer.close()
    shop.bring_it_back()
    killed = await initialised(shop, REPAIR_TIMEOUT_MS[Outcome.COMMITTED])
    await killed.begin_transaction()
    killed._txn_manager.maybe_add_partition_to_txn(TopicPartition(shop.topics["out"], PARTITION))
    while killed._txn_manager.partitions_to_add():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await killed.stop()  # leaves the transaction open, as a kill does
    committer = shop.committer()
    await committer.start()
    assert await shop.outputs() == outputs_of(20)
    await committer.close()


@pytest.mark.full
async def test_a_lost_abort_marker_doubles_nothing(cluster, monkeypatch):
    shop = await Shop(cluster, "out").made()
    committer = shop.committer()
    await committer.start()
    await committer.commit(box(shop.topics, range(20), 20))
    await aborted(committer, shop, monkeypatch)
    shop.lose_the_leader()
    # An owner that loses the leader after it has looked for one.
    killed = await initialised(shop, REPAIR_TIMEOUT_MS[Outcome.ABORTED])
    await killed.stop()
    shop.bring_it_back()
    committer = shop.committer()
    await committer.start()
    await committer.commit(box(shop.topics, range(20, 30), 30))
    await committer.close()
    assert await shop.outputs() == outputs_of(30)


@pytest.mark.full
async def test_local_state_proves_a_commit(cluster, monkeypatch):
    shop = await Shop(cluster, "changelog").made()
    committer = await committed_without_leader(shop, monkeypatch)
    await committer.close()
    shop.bring_it_back()
    # An owner of an earlier release: how the last transaction ended is overwritten.
    await (await initialised(shop, 60_000)).stop()
    committer = shop.committer()
    await committer.start()
    with pytest.raises(TransactionUndecided, match=r"no marker in changelog-\w+-1 at 12"):
        await committer.settle(11)
    await committer.settle(22)
    assert await shop.state() == state_of(20)
    await committer.close()
