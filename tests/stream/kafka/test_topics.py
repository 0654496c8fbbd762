import asyncio
import os
import subprocess
import sys
import time
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.refused import MAX_ORIGINAL_BYTES
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.errors import BrokerError, TopicLayoutError
from stream.kafka.topics import check_topics, copies_kept_ms, create_topics, required_topics
from tests.patience import PATIENCE_S

NAMES = ("events", "late", "dead_letter", "propensity", "shadow", "churn", "outcomes")
CONTROL = ("models", "metrics", "erase", "erased", "rates", "status")


def settings_for(servers: str, prefix: str | None = None, **topics: object) -> Settings:
    prefix = prefix or uuid.uuid4().hex[:8]
    names = {name: f"{prefix}.{name}" for name in (*NAMES, *CONTROL)}
    return load_settings(
        overrides={
            "app_id": prefix,
            "kafka": {"bootstrap_servers": servers},
            "topics": {**names, **topics},
        }
    )


async def make(servers: str, *topics: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        answer = await admin.create_topics(list(topics))
        assert all(code == 0 for _, code, *_ in answer.topic_errors), answer
    finally:
        await admin.close()


def test_the_layout_is_co_partitioned_and_state_is_compacted():
    settings = settings_for("x:1", "p", partitions=6, replication=3)
    specs = {spec.name: spec for spec in required_topics(settings)}
    assert len(specs) == 13
    follow = {spec.name for spec in specs.values() if spec.partitions == 6}
    assert follow == {f"p.{name}" for name in (*NAMES, "erase", "erased", "users.changelog")}
    compacted = {spec.name for spec in specs.values() if spec.cleanup == "compact"}
    assert compacted == {"p.users.changelog", "p.models", "p.metrics", "p.status"}
    assert {spec.replication for spec in specs.values()} == {3}
    assert {spec.config["min.insync.replicas"] for spec in specs.values()} == {"2"}


@pytest.mark.parametrize(("ttl_ms", "kept"), [(5_000, "5000"), (0, "-1")])
def test_events_are_kept_as_long_as_users_are(ttl_ms, kept):
    settings = Settings(state={"ttl_ms": ttl_ms})
    kept_ms = {spec.name: spec.config.get("retention.ms") for spec in required_topics(settings)}
    topics = settings.topics
    assert [kept_ms[name] for name in (topics.events, topics.erase, topics.erased)] == [kept] * 3


@pytest.mark.parametrize("largest", [1000, 1 << 20])
def test_values_beyond_the_bound_are_let_in_and_their_copies_fit(largest):
    settings = Settings(worker={"max_event_bytes": largest})
    sizes = {
        spec.name: int(spec.config.get("max.message.bytes", 0))
        for spec in required_topics(settings)
    }
    assert sizes["shop.events"] >= max(8 * largest, 1 << 20)
    assert sizes["shop.events.dead-letter"] > MAX_ORIGINAL_BYTES * 4 / 3
    assert sizes["shop.events.late"] > MAX_ORIGINAL_BYTES * 4 / 3


@pytest.mark.kafka
async def test_created_once_and_then_found(kafka):
    settings = settings_for(kafka.bootstrap_servers, partitions=3)
    with pytest.raises(TopicLayoutError) as caught:
        await check_topics(settings)
    assert len(caught.value.problems) == 13
    assert all("intentstream topics create" in problem for problem in caught.value.problems)
    created = await create_topics(settings)
    assert sorted(created) == sorted(spec.name for spec in required_topics(settings))
    assert await create_topics(settings) == []
    await check_topics(settings)


@pytest.mark.kafka
async def test_how_long_copies_stay_is_told(kafka):
    settings = settings_for(kafka.bootstrap_servers)
    topics, day = settings.topics, 86_400_000
    await make(
        kafka.bootstrap_servers,
        NewTopic(
            topics.late,
            4,
            1,
            topic_configs={"retention.ms": "-1", "segment.ms": "1000"},
        ),
        NewTopic(
            topics.churn,
            4,
            1,
            topic_configs={"retention.ms": "5000", "segment.ms": "1000"},
        ),
    )
    await create_topics(settings)
    kept = copies_kept_ms(settings, await check_topics(settings))
    assert kept[topics.late] is None
    assert kept[topics.churn] == 6000
    assert kept[topics.dead_letter] == 30 * day + 7 * day
    assert kept[settings.changelog] == 4 * day
    assert {topics.models, topics.metrics, topics.status}.isdisjoint(kept)
    assert topics.erased in kept


@pytest.mark.kafka
async def test_producers_clocks_are_refused_where_the_brokers_must_count(kafka):
    settings = settings_for(kafka.bootstrap_servers)
    await make(kafka.bootstrap_servers, NewTopic(settings.topics.erase, 4, 1))
    with pytest.raises(
        TopicLayoutError, match=r"message\.timestamp\.type=CreateTime.*LogAppendTime"
    ):
        await create_topics(settings)


@pytest.mark.kafka
async def test_two_starters_at_once_create_each_topic_once(kafka):
    settings = settings_for(kafka.bootstrap_servers)
    made = await asyncio.gather(*(create_topics(settings) for _ in range(4)))
    names = [name for created in made for name in created]
    assert sorted(names) == sorted(spec.name for spec in required_topics(settings))


@pytest.mark.kafka
async def test_every_problem_is_named_with_its_remedy(kafka):
    settings = settings_for(kafka.bootstrap_servers, partitions=4)
    topics = settings.topics
    await make(
        kafka.bootstrap_servers,
        NewTopic(topics.late, 3, 1),
        NewTopic(settings.changelog, 8, 1),
        NewTopic(topics.models, 2, 1, topic_configs={"cleanup.policy": "compact,delete"}),
        NewTopic(topics.churn, 4, 1, topic_configs={"cleanup.policy": "compact"}),
    )
    with pytest.raises(TopicLayoutError) as caught:
        await create_topics(settings)
    problems = {problem.split()[1]: [] for problem in caught.value.problems}
    for problem in caught.value.problems:
        problems[problem.split()[1]].append(problem)
    logs = {topics.late, topics.models, topics.churn}
    assert set(problems) == {topics.events, settings.changelog, *logs}
    assert "has 3 partitions, not 4: delete it" in problems[topics.late][0]
    assert f"has 4 partitions but {settings.changelog}" in problems[topics.events][0]
    assert "has 8: a user's events are then not where" in problems[topics.events][0]
    assert "must never be deleted: set cleanup.policy=compact" in problems[settings.changelog][0]
    assert "has 2 partitions, not 1" in problems[topics.models][0]
    assert "cleanup.policy=compact,delete" in problems[topics.models][1]
    assert "compaction would drop" in problems[topics.churn][0]


@pytest.mark.kafka
async def test_a_source_of_another_size_asks_for_the_setting_alone(kafka):
    settings = settings_for(kafka.bootstrap_servers, partitions=6)
    await create_topics(settings)
    wrong = settings_for(kafka.bootstrap_servers, settings.app_id, partitions=4)
    with pytest.raises(TopicLayoutError) as caught:
        await check_topics(wrong)
    (problem,) = caught.value.problems
    assert problem.endswith("has 6 partitions, not 4: set topics.partitions to 6")


@pytest.mark.kafka
async def test_more_copies_than_brokers_is_refused_with_the_remedy(kafka):
    settings = settings_for(kafka.bootstrap_servers, replication=3)
    with pytest.raises(BrokerError, match=r"replication factor of 3.*check topics\.replication"):
        await create_topics(settings)


@pytest.mark.kafka
async def test_too_few_copies_are_named(kafka):
    settings = settings_for(kafka.bootstrap_servers)
    await create_topics(settings)
    wanted = settings_for(kafka.bootstrap_servers, settings.app_id, replication=2)
    with pytest.raises(TopicLayoutError) as caught:
        await check_topics(wanted)
    assert len(caught.value.problems) == 13
    assert all("1 copies, not 2" in problem for problem in caught.value.problems)


@pytest.mark.full
@pytest.mark.kafka
async def test_a_replicated_layout_on_three_brokers_survives_one(kafka_cluster):
    settings = settings_for(kafka_cluster.bootstrap_servers, partitions=3, replication=3)
    await create_topics(settings)
    await asyncio.to_thread(kafka_cluster.broker.kill, 3)
    try:
        await check_topics(settings)
    finally:
        await asyncio.to_thread(kafka_cluster.broker.restart, 3)


@pytest.mark.kafka
async def test_the_source_keeps_the_brokers_time_of_old_records(kafka):
    """A replay's producer may stamp records with times long past; they must not expire."""
    settings = settings_for(kafka.bootstrap_servers, partitions=1)
    await create_topics(settings)
    topic = settings.topics.events
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    before_ms = time.time() * 1000
    await producer.send_and_wait(topic, b"x", timestamp_ms=1_291_000_000_000)
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.seek_to_beginning()
    record = await consumer.getone()
    await consumer.stop()
    assert record.timestamp >= before_ms - 1000


async def test_a_missing_broker_is_named_at_once():
    begun = time.monotonic()
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:9.*intentstream broker start"):
        await check_topics(settings_for("127.0.0.1:9"))
    assert time.monotonic() - begun < 60


@pytest.mark.kafka
def test_the_commands(kafka, tmp_path):
    prefix = uuid.uuid4().hex[:8]

    def run(command: str, *words: str) -> subprocess.CompletedProcess[str]:
        names = {f"INTENTSTREAM_TOPICS__{name.upper()}": f"{prefix}.{name}"
                 for name in (*NAMES, *CONTROL)}  # fmt: skip
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "stream.cli.main",
                "topics",
                command,
                "--app-id",
                prefix,
                *words,
            ],
            env=os.environ | names,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    missing = run("check", *servers)
    assert missing.returncode == 1
    assert missing.stderr.count("is missing: run `intentstream topics create`\n") == 13
    made = run("create", *servers, "--partitions", "2")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(": created, ") == 13
    assert "was there" in run("create", *servers, "--partitions", "2").stdout
    assert run("check", *servers, "--partitions", "2").returncode == 0
    wrong = run("check", *servers)
    assert wrong.returncode == 1
    assert "set topics.partitions to 2" in wrong.stderr
    none = run("check", "--data-dir", str(tmp_path))
    assert none.returncode == 1
    assert none.stderr.count("\n") == 1
    assert "intentstream broker start" in none.stderr
    assert run("check", "--nonsense").returncode == 2
