import asyncio
import contextlib
import time
from collections import defaultdict
from itertools import chain

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner

from stream.config.loading import load_settings
from stream.errors import SettingsError
from stream.replay.errors import ProduceError
from stream.replay.order import Row
from stream.replay.pace import Pace
from stream.replay.produce import produce
from stream.replay.report import Report
from stream.replay.source import read_rows
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, unique
from tests.stream.replay.files import ONLINE_RETAIL


def settings_of(kafka):
    return load_settings(None, {"kafka": {"bootstrap_servers": kafka.bootstrap_servers}})


async def read_topic(kafka, topic, count):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    records = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(records) < count:
                batches = await consumer.getmany(timeout_ms=500)
                records += [record for batch in batches.values() for record in batch]
            # What comes now is too much.
            extra = await consumer.getmany(timeout_ms=200)
            assert not extra
    finally:
        await consumer.stop()
    return records


@pytest.fixture
async def topic(kafka):
    name = unique("produce")
    await create_topics(kafka.bootstrap_servers, name, partitions=4)
    return name


def made_of(records):
    return [Row(n, n, key.encode(), f"{n}".encode()) for n, key in enumerate(records)]


@pytest.mark.kafka
async def test_every_record_in_order_where_murmur2_puts_it(kafka, topic):
    rows = made_of([f"u{n * n % 997}" for n in range(30_000)])
    before = time.time_ns() // 1_000_000
    report = await produce(settings_of(kafka), rows, topic=topic)
    records = await read_topic(kafka, topic, len(rows))
    assert (report.sent, report.first_time, report.last_time) == (30_000, 0, 29_999)
    found = defaultdict(list)
    place = DefaultPartitioner()
    for record in records:
        found[record.partition].append(int(record.value))
        assert record.partition == place(record.key, [0, 1, 2, 3], [0, 1, 2, 3])
        assert record.timestamp >= before
    assert {partition: len(values) for partition, values in found.items()} == report.partitions
    assert all(values == sorted(values) for values in found.values())
    assert sorted(chain.from_iterable(found.values())) == list(range(30_000))


@pytest.mark.kafka
async def test_null_keys_and_records_larger_than_a_batch(kafka, topic):
    rows = [Row(1, 1, None, b"x"), Row(1, 2, b"u", b"y" * 600_000), Row(1, 3, b"u", b"z")]
    report = await produce(settings_of(kafka), rows, topic=topic)
    records = await read_topic(kafka, topic, 3)
    assert report.sent == 3
    assert {(record.key, len(record.value)) for record in records} == {
        (None, 1),
        (b"u", 600_000),
        (b"u", 1),
    }


@pytest.mark.kafka
async def test_pace_follows_event_time(kafka, topic):
    rows = [Row(place * 1000, place, b"u", b"%d" % place) for place in range(6)]
    report = await produce(settings_of(kafka), rows, topic=topic, pace=Pace(10.0))
    records = await read_topic(kafka, topic, 6)
    gaps = records[-1].timestamp - records[0].timestamp
    assert 450 <= gaps < 3_000
    assert report.seconds >= 0.45


@pytest.mark.kafka
async def test_a_clock_that_runs_ahead_is_named(kafka, monkeypatch):
    strict, now = unique("strict"), time.time_ns
    await create_topics(kafka.bootstrap_servers, strict, message_timestamp_after_max_ms="3600000")
    monkeypatch.setattr(time, "time_ns", lambda: now() + 3 * 86_400 * 10**9)
    said = rf"10 events for {strict}, partition 0, .* the clock of this machine says .*NTP"
    with pytest.raises(ProduceError, match=said):
        await produce(settings_of(kafka), made_of(["a"] * 10), topic=strict)


@pytest.mark.kafka
async def test_two_parts_add_up_in_one_report(kafka, topic):
    report = Report()
    rows = read_rows(ONLINE_RETAIL, "online-retail", report, order="file", limit=100)
    await produce(settings_of(kafka), rows, topic=topic, report=report)
    await produce(settings_of(kafka), made_of(["a"] * 10), topic=topic, report=report)
    assert report.sent == 110
    assert sum(report.partitions.values()) == 110
    await read_topic(kafka, topic, 110)


@pytest.mark.kafka
async def test_stop_delivers_what_was_due_and_says_so(kafka, topic):
    stop = asyncio.Event()
    rows = [Row(place * 60_000, place, b"u", b"x") for place in range(5)]
    report = Report()
    sending = asyncio.create_task(
        produce(settings_of(kafka), rows, topic=topic, pace=Pace(1.0), report=report, stop=stop)
    )
    while not report.sent:  # noqa: ASYNC110 - the report has no event to wait for
        await asyncio.sleep(0.05)
    stop.set()
    async with asyncio.timeout(PATIENCE_S):
        assert (await sending).interrupted
    assert report.sent == 1
    await read_topic(kafka, topic, 1)


@pytest.mark.kafka
async def test_cancelled_in_the_middle_leaves_nothing_behind(kafka, topic):
    rows = [Row(place * 60_000, place, b"u", b"x") for place in range(5)]
    sending = asyncio.create_task(produce(settings_of(kafka), rows, topic=topic, pace=Pace(1.0)))
    await asyncio.sleep(0.5)
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    assert sending.cancelled()


@pytest.mark.kafka
async def test_missing_topic_is_not_created(kafka):
    for _ in range(2):
        with pytest.raises(ProduceError, match="intentstream topics create"):
            await produce(settings_of(kafka), made_of("a"), topic=unique("missing"))


@pytest.mark.kafka
async def test_a_refused_record_is_an_error(kafka):
    name = unique("small")
    await create_topics(kafka.bootstrap_servers, name, max_message_bytes="1000")
    rows = [*made_of("ab"), Row(3, 3, b"u", b"x" * 5_000)]
    with pytest.raises(ProduceError, match=rf"{name}, partition 0, were not acknowledged"):
        await produce(settings_of(kafka), rows, topic=name)


async def test_no_broker():
    settings = load_settings(None, {"kafka": {"bootstrap_servers": "127.0.0.1:1"}})
    with pytest.raises(ProduceError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        await produce(settings, [])
    with pytest.raises(SettingsError, match="no Kafka broker"):
        await produce(load_settings(None, {"kafka": {"bootstrap_servers": ""}}), [])
