"""The event log is read from Kafka and from files."""

import asyncio
import json
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from models.encoding import hash64, item_code
from models.history import AMOUNT_UNIT, Events
from models.log.eventlog import EventLog
from models.log.names import catalogue
from models.log.spool import Spool
from models.money import Rate, Rates
from schemas.codec import encode
from schemas.events import Purchase, View
from stream.config.settings import Settings
from stream.errors import TopicLayoutError, TopicReplaced, TrainerError
from stream.learning.logreader import KafkaLog, read_files
from stream.pipeline.event_times import EventTimes
from stream.pipeline.ingest import Ingest
from stream.pipeline.records import Row
from tests.conftest import Kafka
from tests.stream.kafka_tools import create_topics, produce, unique
from tests.stream.training_tools import Nowhere, settings_for


async def transaction(kafka: Kafka, topic: str, rows: list[tuple[bytes, bytes]], end: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("tx")
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for key, value in rows:
            await producer.send(topic, value, key=key, partition=0)
        if end == "commit":
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
    finally:
        await producer.stop()


@pytest.mark.kafka
async def test_a_topic_made_again_is_not_read_on(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    """In the same process, and from the position that another one noted."""
    topic, servers = unique("events"), kafka.bootstrap_servers
    await create_topics(servers, topic, f"{topic}-erase")
    await produce(servers, topic, shop[:40])
    settings = settings_for(tmp_path, kafka, topic)
    log, later = KafkaLog(settings), KafkaLog(settings)
    assert len(await log.read()) == 40
    position = log.position
    later.go_on(position)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()
    await create_topics(servers, topic)
    await produce(servers, topic, shop[:90])

    for reader in (log, later):
        with pytest.raises(TopicReplaced, match=rf"{topic} was read under id .* created again"):
            await reader.read()
        assert reader.position.items() >= {k: v for k, v in position.items() if "/" in k}.items()
    assert len(await KafkaLog(settings).read()) == 90


@pytest.mark.kafka
class TestKafkaLog:
    async def test_it_reads_all_committed_valid_events(
        self, kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
    ) -> None:
        topic = unique("events")
        servers = kafka.bootstrap_servers
        await create_topics(servers, topic, f"{topic}-erase", partitions=2)
        await produce(servers, topic, shop[:40], partition=0)
        await produce(servers, topic, shop[40:90], partition=1)
        await produce(servers, topic, [(b"u1", b"{"), (b"other", shop[0][1])], partition=1)
        await transaction(kafka, topic, shop[90:100], "abort")
        await transaction(kafka, topic, shop[100:110], "commit")
        log = KafkaLog(settings_for(tmp_path, kafka, topic))
        seen: list[tuple[int, int]] = []
        spool = await log.read(lambda done, total: seen.append((done, total)))
        async with asyncio.timeout(60):
            # A commit is acknowledged before its marker is in the log.
            while len(spool) < 100:
                spool = await log.read(lambda done, total: seen.append((done, total)))
        found = EventLog.join(list(spool.parts()))
        assert log.refused == {"truncated": 1, "key_mismatch (user_id)": 1}
        assert len(found) == 100
        expected = {hash64(key.decode()) for key, _ in [*shop[:90], *shop[100:110]]}
        assert set(found.users.tolist()) == expected
        ids = {hash64(f"e{n}") for n in [*range(90), *range(100, 110)]}
        assert set(found.events.id.tolist()) == ids
        assert all(done <= total for done, total in seen)
        assert seen[-1][0] == seen[-1][1] > 0

    async def test_a_second_read_fetches_only_news(
        self, kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
    ) -> None:
        topic = unique("events")
        await create_topics(kafka.bootstrap_servers, topic, f"{topic}-erase")
        log = KafkaLog(settings_for(tmp_path, kafka, topic))
        assert len(await log.read()) == 0
        await produce(kafka.bootstrap_servers, topic, shop[:30])
        assert len(await log.read()) == 30
        await produce(kafka.bootstrap_servers, topic, shop[30:50])
        seen: list[tuple[int, int]] = []
        found = await log.read(lambda done, total: seen.append((done, total)))
        assert len(found) == 50
        assert seen[-1] == (20, 20)
        assert len(await log.read()) == 50

    async def test_a_missing_topic_is_named(self, kafka: Kafka, tmp_path: Path) -> None:
        log = KafkaLog(settings_for(tmp_path, kafka, unique("nothing")))
        with pytest.raises(TopicLayoutError, match=r"topic nothing-.* is missing: .*topics create"):
            await log.read()


async def test_a_silent_broker_is_named(tmp_path: Path) -> None:
    silent = r"cannot read t: no Kafka broker answers at 127\.0\.0\.1:1 .*broker start"
    with pytest.raises(TrainerError, match=silent):
        await KafkaLog(settings_for(tmp_path, Nowhere())).read()


def test_files_and_topic_give_the_same_events(
    jsonl: Path, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    with jsonl.open("ab") as file:
        file.write(b'\n{"event_id"')
    with Spool(tmp_path) as spool:
        assert read_files(spool, [jsonl]) == {"truncated": 1}
        found = EventLog.join(list(spool.parts()))
        assert len(found) == len(spool) == len(shop)
        assert set(found.users.tolist()) == {hash64(key.decode()) for key, _ in shop}
        read_files(spool, [jsonl])
        assert len(spool) == 2 * len(shop)


def test_parquet_and_lines_give_the_same_events(
    tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    lines, columns = tmp_path / "events.jsonl", tmp_path / "events.parquet"
    lines.write_bytes(b"\n".join(value for _, value in shop[:500]))
    rows = [json.loads(value) for _, value in shop[:500]]
    pq.write_table(pa.Table.from_pylist(rows), columns)
    logs = []
    for path, name in ((lines, "jsonl"), (columns, "parquet")):
        with Spool(tmp_path) as spool:
            assert read_files(spool, [path], name) == {}
            logs.append(EventLog.join(list(spool.parts())))
    assert np.array_equal(logs[0].users, logs[1].users)
    for name in Events.__slots__:
        ours, theirs = getattr(logs[0].events, name), getattr(logs[1].events, name)
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_names_in_files_are_taken_note_of(
    tmp_path: Path, shop: list[tuple[bytes, bytes]], form: str
) -> None:
    rows = [json.loads(value) for _, value in shop[:500]]
    path = tmp_path / f"events.{form}"
    if form == "jsonl":
        path.write_bytes(b"\n".join(value for _, value in shop[:500]))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    names = catalogue(("item", "category"))
    with Spool(tmp_path) as spool:
        read_files(spool, [path], form, names=names)
    assert names["item"].rows() == seen_items(rows)
    assert names["category"].rows() == []


def seen_items(rows: list[dict[str, str]]) -> list[tuple[int, int, str]]:
    counts = Counter(row["item_id"] for row in rows)
    return sorted((item_code(name), count, name) for name, count in counts.items())


@pytest.mark.kafka
async def test_names_in_a_topic_are_taken_note_of(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    topic = unique("events")
    await create_topics(kafka.bootstrap_servers, topic, f"{topic}-erase")
    # One that the kernel leaves to msgspec, and one that is refused, before the others.
    odd = View(event_id="x", user_id="u1", event_time=1_600_000_000_000, item_id="sk\u00f8 \u263a")
    await produce(kafka.bootstrap_servers, topic, [(b"u1", b"{"), (b"u1", encode(odd))])
    await produce(kafka.bootstrap_servers, topic, shop[:300])
    settings = settings_for(tmp_path, kafka, topic)
    train = settings.train.model_copy(update={"rank": ("item",)})
    log = KafkaLog(settings.model_copy(update={"train": train}))
    assert len(await log.read()) == 301
    rows = [json.loads(value) for _, value in [*shop[:300], (b"", encode(odd))]]
    assert log.names["item"].rows() == seen_items(rows)
    assert await log.read()
    assert log.names["item"].rows() == seen_items(rows)
    assert set(log.names) == {"item"}
    assert KafkaLog(settings).names == {}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_files_and_workers_convert_amounts_alike(tmp_path: Path, form: str) -> None:
    rates = Rates("EUR", [Rate(date(2020, 9, 1), "JPY", 1 / 150)])
    kinds = (("EUR", 100.0), ("jpy", 15_000.0), (None, 50.0), ("CHF", 7.0), ("JPY", 333.0))
    events = [
        Purchase(
            event_id=f"e{n}",
            user_id="ann",
            event_time=1_600_000_000_000 + n,
            price=price,
            currency=currency,
            order_discount=price / 10 if n != 2 else None,
        )
        for n, (currency, price) in enumerate(kinds)
    ]
    path = tmp_path / f"events.{form}"
    if form == "jsonl":
        path.write_bytes(b"\n".join(map(encode, events)))
    else:
        rows = [json.loads(encode(event)) for event in events]
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), path)
    with Spool(tmp_path) as spool:
        assert read_files(spool, [path], form, rates=rates) == {}
        found = EventLog.join(list(spool.parts())).events
    assert (found.amount / AMOUNT_UNIT).tolist() == [100, 100, 50, 0, 2.22]
    assert (found.discount / AMOUNT_UNIT).tolist() == [10, 10, 0, 0, 0.222]
    records = [Row(n, e.event_time, b"ann", encode(e)) for n, e in enumerate(events)]
    times = EventTimes.of(Settings())
    ingest = Ingest(
        partition=0,
        partitions=1,
        max_bytes=1 << 20,
        times=times,
        check_partitioner=False,
        rates=rates,
    )
    served = ingest.decode(records).events
    assert served.amount.tolist() == found.amount.tolist()
    assert served.discount.tolist() == found.discount.tolist()


COLUMNS = pa.schema(
    {
        "event_id": pa.string(),
        "type": pa.string(),
        "user_id": pa.string(),
        "event_time": pa.int64(),
        "price": pa.float64(),
        "currency": pa.string(),
        "order_discount": pa.float64(),
    }
)
