"""The only copy of a partition dies between a worker's flush and its commit, and comes back.

Kafka acknowledges that commit and never writes the partition's marker (`stream/kafka/markers.py`).
Three brokers; what the worker writes to or reads from otherwise lies on the two that stay.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError

from schemas.codec import encode
from schemas.errors import InvalidEvent
from schemas.events import View
from schemas.outputs import Source
from schemas.refused import dead_letter
from stream.config.settings import Settings
from stream.errors import DeadLetterError
from stream.kafka.topics import create_topics, replayed_topic, required_topics
from stream.operations import dlq
from stream.operations.letters import Choice
from tests.conftest import Kafka, running
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put, wait_until
from tests.e2e.world import Worker, World
from tests.faults.evidence import transactions
from tests.faults.ledger import FaultRow
from tests.faults.traffic import wait_for_log
from tests.logs import disordered, duplicated, shop_log
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import unique

pytestmark = pytest.mark.kafka
ROW, NAME = 19, "a partition's only copy dies between flush and commit"

OTHER, VICTIM = 1, 3
EVENTS = 900


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    # Where nobody copies the groups' offsets they too lose their leader with one broker.
    properties = {"broker.session.timeout.ms": "3000", "offsets.topic.replication.factor": "1"}
    yield from running(tmp_path_factory, 3, properties)


async def app_coordinated_by(bootstrap: str, *, victim: bool) -> str:
    """Return an app id whose group has the victim as its coordinator, or has not."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                app_id = unique("shop")
                try:
                    node = await client.coordinator_lookup(CoordinationType.GROUP, app_id)
                except KafkaError:  # the offsets topic is being created
                    await asyncio.sleep(0.1)
                    continue
                if (node == VICTIM) == victim:
                    return app_id
    finally:
        await client.close()


def written(settings: Settings) -> dict[str, str]:
    """Return what may be leaderless, and its topic."""
    return {
        "outputs": settings.topics.propensity,
        "changelog": settings.changelog,
        "offsets": "__consumer_offsets",
        "events": settings.topics.events,
        "notes": settings.replayed,
    }


def placed(leaderless: str) -> Callable[[Settings], object]:
    """Return what creates the topics of an app, one of them on the victim alone."""

    async def create(settings: Settings) -> None:
        victim = written(settings).get(leaderless)
        specs = [*required_topics(settings), replayed_topic(settings)]
        topics = []
        for spec in specs:
            node = VICTIM if spec.name == victim else OTHER
            where = {number: [node] for number in range(spec.partitions)}
            topics.append(
                NewTopic(spec.name, -1, -1, replica_assignments=where, topic_configs=spec.config)
            )
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            answer = await admin.create_topics(topics)
        finally:
            await admin.close()
        assert all(code == 0 for _, code, *_ in answer.topic_errors), answer
        await create_topics(settings, specs)

    return create


async def without_leader(bootstrap: str, topic: str) -> bool:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        metadata = await client.fetch_all_metadata()
    finally:
        await client.close()
    partitions = metadata._partitions.get(topic, {}).values()
    return any(partition.leader in {-1, None} for partition in partitions)


def is_stopped(worker: Worker) -> bool:
    assert worker.process.poll() is None, worker.said()[-3000:]
    stat = Path(f"/proc/{worker.process.pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "T"


def lose_the_leader(cluster: Kafka, topic: str) -> None:
    """Kill the victim and wait until what it led has no leader."""
    cluster.broker.kill(VICTIM)
    wait_until(lambda: asyncio.run(without_leader(cluster.bootstrap_servers, topic)))


def signs(leaderless: str, *, killed: bool) -> str:
    """Return what a worker logs that finds the marker missing."""
    if leaderless != "offsets":
        return "a transaction ended without its markers"
    # A living worker has the state and needs no offset; its next commit's marker decides.
    return "the group's offset is committed again" if killed else ""


@pytest.mark.parametrize(
    ("leaderless", "fate"),
    [
        ("outputs", "lives"),
        ("offsets", "killed"),
        pytest.param("changelog", "killed", marks=pytest.mark.faults(full=True)),
        pytest.param("outputs", "killed", marks=pytest.mark.faults(full=True)),
        pytest.param("changelog", "lives", marks=pytest.mark.faults(full=True)),
        pytest.param("offsets", "lives", marks=pytest.mark.faults(full=True)),
    ],
)
def test_acknowledged_without_a_leader(
    leaderless: str,
    fate: str,
    cluster: Kafka,
    world: Callable[..., World],
    fault_row: FaultRow,
) -> None:
    killed = fate == "killed"
    cluster.broker.start()
    shop = world(
        on=cluster,
        app_id=asyncio.run(
            app_coordinated_by(cluster.bootstrap_servers, victim=leaderless == "offsets")
        ),
        create=placed(leaderless),
        worker={"clock": "event", "emit": "every", "batch_size": 64, "commit_interval_ms": 50},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
        topics={"replication": 1},
    )
    scorer = publish(shop)
    log = duplicated(disordered(shop_log(19, EVENTS), 19, 900_000), 19, 0.1)
    put(shop, log)
    # Dead as soon as the commit is acknowledged, or alive to see that a marker is missing.
    fault = "in_transaction:3:stop" + (",after_commit:3:kill" if killed else "")
    with fault_row.attempt() as attempt:
        worker = shop.start_worker(INTENTSTREAM_FAULT=fault)
        # Where no worker has run before, it compiles its kernels first.
        wait_until(lambda: is_stopped(worker), 3 * PATIENCE_S)
        lose_the_leader(cluster, written(shop.settings)[leaderless])
        worker.process.send_signal(signal.SIGCONT)
        began = time.monotonic()
        if killed:
            code = worker.process.wait(PATIENCE_S)
            assert code == -signal.SIGKILL, worker.said()[-3000:]
        else:
            time.sleep(1)
        cluster.broker.restart(VICTIM)
        if killed:
            worker = shop.start_worker()
        if sign := signs(leaderless, killed=killed):
            wait_for_log(worker, sign)
        shop.wait_committed(len(log))
        attempt.recovered_in(time.monotonic() - began)
        worker.stop()
        verdict, _ = judge(shop, scorer)
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, f"{verdict.wrong}\n{transactions(cluster.folder, shop)}"


LETTERS = 20


def refused_once(shop: World) -> list[bytes]:
    """Post dead letters whose events are valid now; return those events."""
    values = [
        encode(View(event_id=f"e{n}", user_id=f"user-{n}", event_time=1_700_000_000_000))
        for n in range(LETTERS)
    ]

    async def post() -> None:
        why = InvalidEvent("future", None, "why")
        async with AIOKafkaProducer(bootstrap_servers=shop.bootstrap) as producer:
            for n, value in enumerate(values):
                letter = dead_letter(Source("shop", 0, n), b"key", value, why, 1_700_000_000_000)
                await producer.send_and_wait(
                    shop.settings.topics.dead_letter, encode(letter), partition=0
                )

    asyncio.run(post())
    return values


def lost_during_replay(
    cluster: Kafka, shop: World, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replay the dead letters; the leader of `topic` is away while the transaction ends."""

    class Losing(AIOKafkaProducer):
        async def commit_transaction(self) -> None:
            await asyncio.to_thread(lose_the_leader, cluster, topic)
            await super().commit_transaction()
            await asyncio.to_thread(cluster.broker.restart, VICTIM)

    monkeypatch.setattr(dlq, "AIOKafkaProducer", Losing)
    with pytest.raises(DeadLetterError, match=r"acknowledged a commit .* run the replay again"):
        asyncio.run(dlq.replay(shop.settings, Choice()))
    monkeypatch.undo()


@pytest.mark.parametrize(
    "leaderless", ["notes", pytest.param("events", marks=pytest.mark.faults(full=True))]
)
def test_dlq_replay_acknowledged_without_a_leader(
    leaderless: str,
    cluster: Kafka,
    world: Callable[..., World],
    fault_row: FaultRow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.broker.start()
    shop = world(on=cluster, create=placed(leaderless), topics={"replication": 1})
    values, topic = refused_once(shop), written(shop.settings)[leaderless]
    with fault_row.attempt() as attempt:
        lost_during_replay(cluster, shop, topic, monkeypatch)
        again = asyncio.run(dlq.replay(shop.settings, Choice()))
        assert (again.before, again.replayed) == (LETTERS, 0)
        seen = Counter(record.value for record in shop.raw(shop.settings.topics.events))
        attempt.lost = sum((Counter(values) - seen).values())
        attempt.duplicated = sum((seen - Counter(values)).values())


@pytest.mark.faults(full=True)
def test_dlq_replay_of_an_unknown_outcome_is_refused(
    cluster: Kafka, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.broker.start()
    shop = world(on=cluster, create=placed("notes"), topics={"replication": 1})
    refused_once(shop)
    lost_during_replay(cluster, shop, shop.settings.replayed, monkeypatch)

    async def overwritten() -> None:
        """Initialise the id as an earlier release did: how the transaction ended is forgotten."""
        async with AIOKafkaProducer(
            bootstrap_servers=shop.bootstrap, transactional_id=f"{shop.settings.app_id}-dlq"
        ):
            pass

    asyncio.run(overwritten())
    with pytest.raises(DeadLetterError, match=r"no marker in .*kafka-transactions\.sh abort"):
        asyncio.run(dlq.replay(shop.settings, Choice()))
    assert len(shop.raw(shop.settings.topics.events)) == LETTERS
