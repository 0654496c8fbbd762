"""`intentstream erase` against real workers: who asked is gone, once, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from models.encoding import hash64
from models.log.eventlog import EventLog, LogParts
from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.control import EraseReceipt, EraseUser
from schemas.events import Event, View
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter
from stream.cli.program import command_modules
from stream.kafka.erased import read_erased
from stream.learning.logreader import KafkaLog
from stream.learning.sources import FromFiles
from stream.pipeline.ingest import partition_of
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_options import StoreMemory
from stream.testing import PipelineDriver
from tests import logs
from tests.e2e.shop import publish, put, wait_until
from tests.e2e.world import World, run_program
from tests.patience import PATIENCE_S

MakeWorld = Callable[..., World]
SERVING = {
    "worker": {"clock": "event", "emit": "every", "batch_size": 64},
    "churn": {
        "prior_gap_ms": 86_400_000,
        "tick_ms": 3_600_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
}
ANN = "ann"


def shop_log(seed: int, events: int, users: int = 30) -> list[Event]:
    """The usual log, where one user has a name that is no part of another's."""
    return [
        msgspec.structs.replace(event, user_id=ANN) if event.user_id == "user-1" else event
        for event in logs.shop_log(seed, events, users)
    ]


def ask(world: World, *users: str) -> None:
    """Put requests into the log as any program may, with the broker's time after all before."""
    time.sleep(0.01)

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=world.bootstrap)
        async with producer:
            for n, user in enumerate(users):
                request = EraseUser(request_id=f"{user}-{n}", user_id=user, requested_at=1)
                await producer.send_and_wait(
                    world.settings.topics.erase,
                    encode(request),
                    key=user.encode(),
                    partition=partition_of(user.encode(), len(world.partitions)),
                )

    asyncio.run(send())
    time.sleep(0.01)


def serial(world: World, scorer: Scorer) -> list[PipelineDriver]:
    """What a serial run makes of both logs, per partition."""
    drivers = []
    topics = world.settings.topics
    events, requests = world.raw(topics.events), world.raw(topics.erase)
    for partition in world.partitions:
        it = PipelineDriver(
            scorer, world.settings, partition=partition, partitions=len(world.partitions)
        )
        mine = [r for r in events if r.partition == partition]
        end = mine[-1].offset + 1 if mine else 0
        asked = [(r.key, r.value, r.timestamp) for r in requests if r.partition == partition]
        it.erase_raw(asked, until=end)
        it.pipe_raw([(r.key, r.value, r.timestamp) for r in mine], batch=512)
        it.erase_raw([])
        drivers.append(it)
    return drivers


def assert_equal_to_serial(world: World, scorer: Scorer) -> None:
    drivers, topics = serial(world, scorer), world.settings.topics
    want = {p.prediction_id: p for d in drivers for p in d.predictions()}
    got = world.read(topics.propensity, Prediction)
    assert len(got) == len(want)
    for p in got:
        for name, score in want[p.prediction_id].targets.items():
            assert abs(p.targets[name].probability - score.probability) <= 1e-6
    alerts = sorted((a.alert_id, a.state) for d in drivers for a in d.alerts())
    assert sorted((a.alert_id, a.state) for a in world.read(topics.churn, ChurnAlert)) == alerts
    assert world.histories() == {u: h for d in drivers for u, h in d.histories().items()}

    def receipt(r: EraseReceipt) -> tuple[object, ...]:
        return r.request_id, r.user_id, r.before, sorted(r.removed.items())

    receipts = sorted(receipt(r) for d in drivers for r in d.receipts())
    assert sorted(receipt(r) for r in world.read(topics.erased, EraseReceipt)) == receipts


def stored_bytes(world: World) -> bytes:
    """Every key and value of the local stores."""
    out = []
    for partition in world.partitions:
        identity = StoreIdentity(
            world.settings.app_id, world.settings.changelog, partition, len(world.partitions)
        )
        path = world.settings.data_dir / "state" / world.settings.app_id / str(partition)
        with RocksStore.open(path, identity, StoreMemory()) as store:
            out += [key + value for key, value in store._db.items()]
    return b"".join(out)


def newest_in_changelog(world: World) -> dict[bytes, bytes | None]:
    return {record.key: record.value for record in world.raw(world.settings.changelog)}


@pytest.mark.full
@pytest.mark.kafka
def test_the_command_forgets_and_tells_what_it_removed(world: MakeWorld) -> None:
    shop = world(**SERVING)
    log = shop_log(11, 600)
    put(shop, log)
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    told = json.loads(shop.run("erase", ANN, "--by", "desk", "--json"))
    assert told["forgotten"]
    events = sum(e.user_id == ANN for e in log)
    assert told["removed"]["record"] == 1
    assert told["removed"]["events"] == events
    topics = shop.settings.topics
    now = time.time_ns() // 1_000_000
    days = (told["remaining"][topics.events] - now) / 86_400_000
    assert 400 < days < 408
    assert set(told["remaining"]) == {
        *(topics.events, topics.late, topics.dead_letter, topics.propensity, topics.churn),
        *(shop.settings.changelog, topics.shadow, topics.outcomes, topics.erase, topics.erased),
    }
    said = shop.run("erase", "nobody-at-all", "user-2")
    assert "nobody-at-all: forgotten, removed 0 record, 0 events, 0 timers, 0 open alerts" in said
    assert "user-2: forgotten, removed 1 record" in said
    assert topics.dead_letter in said
    worker.stop()

    assert "anonymous_id joins nothing" in said
    assert any("local files" in note for note in told["notes"])

    assert ANN.encode() not in stored_bytes(shop)
    assert newest_in_changelog(shop)[b"u" + ANN.encode()] is None
    assert {ANN, "user-2"} & set(shop.records()) == set()
    (request,) = [each for each in shop.read(topics.erase, EraseUser) if each.user_id == ANN]
    assert request.requested_by == "desk"


@pytest.mark.full
@pytest.mark.kafka
def test_no_file_of_the_worker_holds_an_erased_user(world: MakeWorld) -> None:
    shop = world(**SERVING)
    gone = "zebra-7f3a9c51"
    log = shop_log(11, 600)
    log += [msgspec.structs.replace(e, user_id=gone) for e in log if e.user_id == ANN]
    put(shop, log)
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    worker.stop()
    assert any(gone.encode() in text for text in table_bytes(shop))
    worker = shop.start_worker()
    shop.run("erase", gone)
    wait_until(lambda: "files are rewritten without erased users" in worker.said())
    worker.stop()
    assert not [text for text in table_bytes(shop) if gone[1:].encode() in text]


def table_bytes(world: World) -> list[bytes]:
    """Tables and write-ahead logs of all partitions."""
    folder = world.settings.data_dir / "state"
    return [path.read_bytes() for path in folder.rglob("*") if path.suffix in {".sst", ".log"}]


@pytest.mark.full
@pytest.mark.kafka
def test_a_later_event_starts_from_nothing(world: MakeWorld) -> None:
    shop = world(**SERVING)
    scorer = publish(shop)
    log = shop_log(12, 900)
    put(shop, log[:600])
    ask(shop, ANN, "user-2")
    put(shop, log[600:])
    # All of it lies there when the worker begins: requests and events find their order.
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    shop.wait_for(shop.settings.topics.erased, EraseReceipt, 2)
    worker.stop()
    assert_equal_to_serial(shop, scorer)
    assert shop.records()[ANN]["n"] == sum(e.user_id == ANN for e in log[600:])


@pytest.mark.full
@pytest.mark.kafka
@pytest.mark.parametrize(
    "stage",
    ["after_scoring", "in_transaction", "after_commit"],
)
def test_killed_while_it_forgets_it_has_forgotten_once(world: MakeWorld, stage: str) -> None:
    often = {**SERVING["worker"], "batch_size": 4, "commit_interval_ms": 1}
    shop = world(**{**SERVING, "worker": often})
    scorer = publish(shop)
    log = shop_log(13, 700)
    put(shop, log[:100])
    ask(shop, "user-0", ANN, "user-2", "user-3")
    put(shop, log[100:])
    for passage in (5, 3, 4):
        worker = shop.start_worker(INTENTSTREAM_FAULT=f"{stage}:{passage}:kill")
        assert worker.process.wait(PATIENCE_S) == -9, worker.said()[-3000:]
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    shop.wait_for(shop.settings.topics.erased, EraseReceipt, 4)
    worker.stop()
    assert_equal_to_serial(shop, scorer)


@pytest.mark.full
@pytest.mark.kafka
@pytest.mark.parametrize("stage", ["before_commit", "before_store"])
def test_killed_at_the_very_commit_of_a_request(world: MakeWorld, stage: str) -> None:
    """The worker is idle: the first commit is that of the request and nothing else."""
    shop = world(**SERVING)
    log = shop_log(14, 200)
    put(shop, log)
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    worker.stop()
    worker = shop.start_worker(INTENTSTREAM_FAULT=f"{stage}:1:kill")
    ask(shop, ANN)
    assert worker.process.wait(PATIENCE_S) == -9, worker.said()[-3000:]
    worker = shop.start_worker()
    (receipt,) = shop.wait_for(shop.settings.topics.erased, EraseReceipt, 1)
    # Both partitions work again, and what they had to say about the request is behind them.
    more = [event for event in shop_log(15, 100) if event.user_id != ANN]
    put(shop, more)
    shop.wait_committed(len(log) + len(more))
    worker.stop()
    assert receipt.removed["record"] == 1
    assert len(shop.raw(shop.settings.topics.erased)) == 1
    assert ANN not in shop.records()
    assert ANN.encode() not in stored_bytes(shop)


@pytest.mark.full
@pytest.mark.kafka
def test_a_worker_without_its_folder_does_not_bring_anybody_back(world: MakeWorld) -> None:
    shop = world(**SERVING)
    log = shop_log(15, 300)
    put(shop, log)
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    shop.run("erase", ANN)
    worker.stop()

    shutil.rmtree(shop.settings.data_dir / "state")
    worker = shop.start_worker()
    put(shop, [View(event_id="x", user_id="user-2", event_time=log[-1].event_time)])
    shop.wait_committed(len(log) + 1)
    worker.stop()
    assert ANN not in shop.records()
    assert len(shop.raw(shop.settings.topics.erased)) == 1


@pytest.mark.kafka
def test_a_request_that_says_nothing_is_a_dead_letter(world: MakeWorld) -> None:
    shop = world(**SERVING)
    put(shop, shop_log(16, 50))
    worker = shop.start_worker()
    shop.wait_committed(50)

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=shop.bootstrap) as producer:
            await producer.send_and_wait(shop.settings.topics.erase, b"{", key=b"x", partition=0)

    asyncio.run(send())
    (letter,) = shop.wait_for(shop.settings.topics.dead_letter, DeadLetter, 1)
    assert letter.source.topic == shop.settings.topics.erase
    shop.run("erase", ANN)
    worker.stop()


@pytest.mark.full
@pytest.mark.kafka
def test_without_a_worker_the_request_waits_and_is_told_so(world: MakeWorld) -> None:
    shop = world(**SERVING)
    put(shop, shop_log(17, 100))
    done = run_program("erase", ANN, "--wait", "2s", "--config", str(shop.config))
    assert done.returncode == 1
    assert "are carried out as soon as a worker runs" in done.stderr
    said = shop.run("erase", ANN, "--wait", "0")
    assert "asked for" in said
    worker = shop.start_worker()
    assert len(shop.wait_for(shop.settings.topics.erased, EraseReceipt, 2)) == 2
    worker.stop()
    assert ANN not in shop.records()


def whole(log: LogParts) -> EventLog:
    return EventLog.join(list(log.parts()))


@pytest.mark.kafka
def test_training_sets_are_free_of_who_asked(world: MakeWorld, tmp_path: Path) -> None:
    shop = world()
    log = shop_log(18, 500)
    put(shop, log[:400])
    reader = KafkaLog(shop.settings)
    ann, bob = (np.uint64(hash64(user)) for user in (ANN, "user-2"))
    first = whole(asyncio.run(reader.read()))
    assert (first.users == ann).sum() == sum(e.user_id == ANN for e in log[:400])

    ask(shop, ANN)
    # What the trainer has read already is not kept either.
    second = whole(asyncio.run(reader.read()))
    assert (second.users == ann).sum() == 0
    assert len(second) == sum(e.user_id != ANN for e in log[:400])
    back = [e for e in log[400:] if e.user_id == ANN]
    put(shop, log[400:])
    ask(shop, "user-2")
    for log_reader in (reader, KafkaLog(shop.settings)):
        found = whole(asyncio.run(log_reader.read()))
        assert (found.users == ann).sum() == len(back) > 0
        assert (found.users == bob).sum() == 0

    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n".join(map(encode, log)))
    assert (whole(FromFiles((file,)).read(None)).users == ann).sum() > 0
    # Of files only the events' own times are known, and all of these are long ago.
    kept = whole(FromFiles((file,), settings=shop.settings).read(None))
    assert (kept.users == ann).sum() == 0
    assert len(kept) == sum(e.user_id not in {ANN, "user-2"} for e in log)
    erased = asyncio.run(read_erased(shop.settings))
    assert erased.covers(ANN, 1)
    assert not erased.covers("user-3", 1)
    assert not erased.covers(ANN, 2**60)


@pytest.mark.full
@pytest.mark.kafka
def test_under_load_whoever_asks_is_gone_soon(world: MakeWorld) -> None:
    shop = world(worker={"clock": "auto", "emit": "latest"})
    worker = shop.start_worker()
    log: list[Event] = shop_log(19, 20_000, users=300)
    put(shop, log)
    began = time.monotonic()
    told = json.loads(shop.run("erase", "user-0", "--json"))
    seconds = time.monotonic() - began
    assert told["forgotten"]
    shop.wait_committed(len(log))
    worker.stop()
    assert seconds < 30
    assert "user-0" not in shop.records()


def test_the_command_is_known() -> None:
    assert command_modules()["erase"][1] == "Forget users, and show what was removed."
