"""What `intentstream status` says: lag, rates, totals, life signs."""

import json
import subprocess
import sys
import time
from io import StringIO

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from rich.console import Console

from schemas.codec import encode
from schemas.control import ModelPublished, WorkerStatus
from schemas.errors import Reason
from schemas.monitoring import ModelMetrics, RankingMetrics, TargetMetrics
from schemas.outputs import Source
from schemas.refused import DeadLetter
from stream.cli.status import _tables
from stream.config.settings import Settings
from stream.errors import BrokerError
from stream.kafka.partitioners import CRC32
from stream.kafka.topics import create_topics
from stream.operations.misplaced import LETTERS
from stream.operations.status_report import (
    FRESH_MS,
    MODELS,
    StatusReport,
    open_status,
)
from tests.patience import PATIENCE_S
from tests.stream.kafka.test_partitioners import wrong
from tests.stream.kafka.test_topics import settings_for
from tests.stream.kafka_tools import produce, unique

pytestmark = pytest.mark.kafka

NOW = 1_700_000_000_000
DRIFTED = (
    "m1: 1 of its inputs has drifted since its training (stability index above 0.25): orders 0.30"
)


def beat(partition: int, updated_at: int, consumed: int, **changes: object) -> tuple[bytes, bytes]:
    status = WorkerStatus(
        worker_id="w1",
        partition=partition,
        offset=consumed,
        high_water=consumed,
        watermark=NOW,
        consumed=consumed,
        accepted=consumed - 3,
        duplicate=1,
        late=1,
        invalid=1,
        predictions=consumed // 2,
        alerts=2,
        model_version="m1",
        users=10,
        updated_at=updated_at,
        timers_due_at=NOW + partition,
    )
    status = msgspec.structs.replace(status, **changes)
    return str(partition).encode(), encode(status)


async def made(kafka) -> Settings:
    settings = settings_for(kafka.bootstrap_servers, unique("status"), partitions=2)
    await create_topics(settings)
    return settings


async def read(settings: Settings) -> StatusReport:
    async with open_status(settings) as reader:
        return await reader.read()


async def test_before_any_worker_everything_is_lag(kafka):
    settings = await made(kafka)
    await produce(kafka.bootstrap_servers, settings.topics.events, [(b"a", b"{}")] * 5, 1)
    report = await read(settings)
    assert [(row.committed, row.end, row.lag) for row in report.partitions] == [
        (None, 0, 0),
        (None, 5, 5),
    ]
    assert (report.lag, report.workers, report.published) == (5, [], None)
    assert report.totals["consumed"] == 0
    assert report.timers_due_at is None


async def test_what_an_open_transaction_keeps_back_is_lag(kafka):
    settings = await made(kafka)
    topic = settings.topics.events
    await produce(kafka.bootstrap_servers, topic, [(b"a", b"{}")] * 5)
    now = time.time_ns() // 1_000_000
    seen = beat(0, now, 5, high_water=9, lost=3, blocked_at=5)
    await produce(kafka.bootstrap_servers, settings.topics.status, [seen])
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("tx")
    ) as producer:
        await producer.begin_transaction()
        for _ in range(4):
            await producer.send_and_wait(topic, b"{}", b"b", 0)
        report = await read(settings)
        await producer.abort_transaction()

    assert (report.partitions[0].end, report.lag, report.lost) == (9, 9, 3)
    alarm = "partition 0: blocked by an open transaction at offset 5, 4 records wait behind it"
    assert alarm in report.alarms


async def test_totals_rates_and_life_signs(kafka):
    settings = await made(kafka)
    now = time.time_ns() // 1_000_000
    old = now - FRESH_MS - 60_000
    beats = [
        beat(0, now - 4000, 100),
        beat(1, old - 1000, 10),
        beat(0, now - 2000, 300),
        beat(1, old, 40, worker_id="w2", model_version="m0", timers_due_at=None),
        beat(0, now - 3000, 1, worker_id="w3"),
        beat(0, now - 1000, 400),
        (b"junk", b"{"),
    ]
    await produce(kafka.bootstrap_servers, settings.topics.status, beats)
    model = ModelPublished(
        version="m1",
        digest="0" * 64,
        uri="m1",
        architecture="gru",
        feature_version="1",
        metrics={},
        published_at=NOW,
    )
    await produce(kafka.bootstrap_servers, settings.topics.models, [(b"m1", encode(model))])
    report = await read(settings)
    live, gone = report.partitions
    assert (live.alive, gone.alive) == (True, False)
    assert live.events_per_second == pytest.approx(100)  # (400 - 100) / 3
    assert live.predictions_per_second == pytest.approx(50)
    assert gone.events_per_second == 0
    assert report.events_per_second == pytest.approx(100)
    totals = report.totals
    assert totals["consumed"] == 440
    assert totals["consumed"] == sum(
        totals[name] for name in ("accepted", "duplicate", "late", "invalid")
    )
    assert (totals["users"], report.dead_letters) == (20, 2)
    assert (report.workers, report.model_versions) == (["w1"], ["m1"])
    assert (report.published, report.timers_due_at) == ("m1", NOW)


async def test_a_rate_does_not_reach_over_a_pause_or_a_new_state(kafka):
    settings = await made(kafka)
    now = time.time_ns() // 1_000_000
    beats = [
        *(beat(0, now - FRESH_MS - 10_000 + n, 5 * n) for n in range(3, 6)),
        beat(0, now - 3000, 500),
        beat(0, now - 1000, 510),
        beat(1, now - 3000, 9000),
        beat(1, now - 2000, 10),
        beat(1, now - 1000, 17),
    ]
    await produce(kafka.bootstrap_servers, settings.topics.status, beats)
    report = await read(settings)
    assert [row.events_per_second for row in report.partitions] == [5, 7]


async def test_a_reader_keeps_up(kafka):
    settings = await made(kafka)
    now = time.time_ns() // 1_000_000
    async with open_status(settings) as reader:
        assert (await reader.read()).totals["consumed"] == 0
        await produce(kafka.bootstrap_servers, settings.topics.status, [beat(0, now, 50)])
        assert (await reader.read()).totals["consumed"] == 50


async def test_events_in_wrong_partitions_name_their_client(kafka):
    settings = settings_for(kafka.bootstrap_servers, unique("status"), partitions=3)
    await create_topics(settings)
    topics = settings.topics
    letters = [
        (sample.key, DeadLetter(reason=reason, source=Source(topic, where, n), key=sample.key))
        for reason, topic in (
            (Reason.WRONG_PARTITION, topics.events),
            (Reason.WRONG_PARTITION, topics.erase),
            (Reason.TRUNCATED, topics.events),
        )
        for n, sample in enumerate(wrong(CRC32, 40, partitions=3))
        for where in [sample.partition]
    ]
    pairs = [(key, encode(letter)) for key, letter in letters]
    await produce(kafka.bootstrap_servers, topics.dead_letter, [*pairs, (b"x", b"{")])

    report = await read(settings)

    assert report.misplaced == 40
    (found,) = report.clients
    assert (found.partitioner, found.matches) == (CRC32, 40)
    shown = StringIO()
    Console(file=shown, width=400).print(_tables(report))
    assert "100% of 40 letters: CRC32, librdkafka's default" in shown.getvalue()
    assert "partitioner=murmur2_random" in shown.getvalue()


async def test_only_the_newest_dead_letters_are_read(kafka):
    settings = await made(kafka)
    topics = settings.topics
    samples = wrong(CRC32, LETTERS, partitions=2)
    letters = [
        DeadLetter(
            reason=Reason.WRONG_PARTITION, source=Source(topics.events, s.partition, n), key=s.key
        )
        for n, s in enumerate(samples)
    ]
    await produce(
        kafka.bootstrap_servers, topics.dead_letter, [(each.key, encode(each)) for each in letters]
    )
    assert (await read(settings)).misplaced == LETTERS // 2


def status(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = ("events", "status", "models", "metrics", "dead_letter")
    topics = {
        f"INTENTSTREAM_TOPICS__{name.upper()}": getattr(settings.topics, name) for name in names
    }
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "status", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env=topics
        | {
            "COLUMNS": "150",
            "INTENTSTREAM_APP_ID": settings.app_id,
            "INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        },
    )


async def test_the_command(kafka):
    settings = await made(kafka)
    now = time.time_ns() // 1_000_000
    await produce(kafka.bootstrap_servers, settings.topics.status, [beat(0, now, 50)])
    done = status(settings, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["totals"]["consumed"] == 50
    done = status(settings)
    assert done.returncode == 0
    assert "50 = 47 accepted + 1 duplicate + 1 late + 1 invalid" in done.stdout


def judged(version: str, matured: int = 500, **changes: object) -> tuple[bytes, bytes]:
    target = TargetMetrics(
        total=900,
        matured=matured,
        base_rate=0.2,
        log_loss=0.4321,
        base_log_loss=0.5,
        ece=0.0123,
        auc=0.8125,
    )
    metrics = ModelMetrics(
        model_version=version,
        targets={"purchase": target},
        updated_at=NOW,
        event_time=NOW,
        rollout="champion",
    )
    return version.encode(), encode(msgspec.structs.replace(metrics, **changes))


async def test_models_are_those_told_of_last_with_their_last_figures(kafka):
    settings = await made(kafka)
    told = [judged(f"m{n}") for n in range(MODELS + 1)]
    told += [judged("m3", 700), (b"junk", b"{")]
    await produce(kafka.bootstrap_servers, settings.topics.metrics, told)
    found = (await read(settings)).models
    others = [f"m{n}" for n in range(1, MODELS + 1) if n != 3]
    assert [model.model_version for model in found] == [*others, "m3"]
    assert found[-1].targets["purchase"].matured == 700


async def test_alarms_are_of_what_is_served_now(kafka):
    settings = await made(kafka)
    now = time.time_ns() // 1_000_000
    alarming = {"alarms": ["scores have drifted"]}
    told = [judged(version, **alarming) for version in ("m1", "m2", "m3")]
    await produce(kafka.bootstrap_servers, settings.topics.metrics, told)
    gone = {"model_version": "m3", "stability": {"silence": 0.9}}
    beats = [
        beat(0, now, 50, canary_version="m2", stability={"orders": 0.3, "silence": 0.25}),
        beat(1, now - FRESH_MS - 60_000, 50, **gone),
    ]
    await produce(kafka.bootstrap_servers, settings.topics.status, beats)
    assert (await read(settings)).alarms == [
        "m1: scores have drifted",
        "m2: scores have drifted",
        DRIFTED,
    ]


async def test_the_command_shows_models_and_alarms(kafka):
    settings = await made(kafka)
    now = time.time_ns() // 1_000_000
    beats = [beat(0, now, 50, stability={"orders": 0.3}, canary_version="m2", shadow_version="m4")]
    await produce(kafka.bootstrap_servers, settings.topics.status, beats)
    before = status(settings).stdout
    assert "log-loss" not in before, "no table without a model"
    assert "ALARM m1: 1 of its inputs has drifted" in before
    assert "canary m2, shadow m4" in before
    ranking = RankingMetrics(
        total=6789, judged=5678, hit_rate=0.625, ndcg=0.3125, last_hit_rate=0.25
    )
    told = [
        judged("m1", 12_345, alarms=["ECE is high"]),
        judged("m0", rollout=None),
        judged("m2", targets={}, rankings={"item": ranking}),
    ]
    await produce(kafka.bootstrap_servers, settings.topics.metrics, told)
    lines = status(settings).stdout.splitlines()
    assert any("ALARM m1: ECE is high" in line for line in lines)
    rows = [line.split() for line in lines]
    figures = ["0.8125", "-", "0.4321", "0.0123", "-"]
    assert ["m1", "champion", "purchase", "12,345", *figures] in rows
    assert ["m0", "-", "purchase", "500", *figures] in rows
    assert ["m2", "champion", "next", "item", "5,678", "0.6250", "0.2500", "0.3125"] in rows


async def test_without_a_broker_it_is_one_line():
    settings = settings_for("127.0.0.1:1")
    done = status(settings)
    assert done.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(BrokerError):
        await read(settings)


async def test_amounts_that_do_not_add_up_raise_alarms(kafka):
    settings, now = await made(kafka), time.time_ns() // 1_000_000
    mixed, shop = {"EUR": 2, "JPY": 3}, {"currency": "EUR", "currencies": {"JPY": 3}}
    status = settings.topics.status
    await produce(kafka.bootstrap_servers, status, [beat(0, now, 10, currencies=mixed)])
    (alarm,) = (await read(settings)).alarms
    assert "(EUR 2, JPY 3 events): set money.currency" in alarm
    later = now + 1
    beats = [beat(0, later, 10, **shop), beat(1, later, 10, **shop, unpriced={"CHF": 4})]
    await produce(kafka.bootstrap_servers, status, beats)
    (alarm,) = (await read(settings)).alarms
    assert "the amounts of 4 events in CHF do not count" in alarm
