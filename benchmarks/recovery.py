"""How fast a lost state comes back: changelog -> RocksDB, with the timer index.

    python -m benchmarks.recovery --users 1000000 --json recovery.json

One changelog partition in one process, written in transactions as a worker writes it: the sealed
records of a simulated shop's users, in RocksDB's worst order (keys are hashed, so none follows its
neighbour). Each run restores all of it into an empty folder by the very call of a worker that
opens a partition, and is counted from asking the broker until the store can serve.
"""

import asyncio
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition

from models.serving.scorer import Scorer
from models.targets import shop_targets
from schemas.events import EventType
from stream.broker import EmbeddedKafka
from stream.config.durations import DAY_MS
from stream.config.settings import Settings
from stream.kafka.topics import create_topics
from stream.partition.engine import Engine
from stream.partition.exactly_once import ExactlyOnce
from stream.pipeline.layout import indexed_dues
from stream.pipeline.outbox import Outbox
from stream.pipeline.state import USER_PREFIX
from stream.simulate import Faults, Plan, deliver, rows, simulate
from stream.storage.recovery import recover
from stream.storage.store import RocksStore, wipe
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_options import StoreMemory
from stream.testing import PipelineDriver

TARGET: float = 200_000
"""Records per second."""
START_MS = 1_700_000_000_000
SAMPLE_USERS, SAMPLE_EVENTS = 2_000, 20_000
PER_COMMIT = 5_000


@dataclass(frozen=True)
class Restored:
    """What was restored, and how fast."""

    users: int
    record_bytes: float
    """Of a user's record on average."""
    seconds: list[float]
    """Of each run."""
    cpu_seconds: list[float]
    """What this process computed in each run, in all its threads; the broker's is not in it."""

    @property
    def records_per_second(self) -> float:
        """In the run in the middle."""
        return self.users / statistics.median(self.seconds)

    def measure(self) -> dict[str, Any]:
        """The figure beside its target, as the suite lists it."""
        rate = self.records_per_second
        return {
            "name": "recovery_records_per_second",
            "value": round(rate),
            "target": TARGET,
            "ok": rate >= TARGET,
            "users": self.users,
            "record_bytes": round(self.record_bytes),
            "seconds": [round(each, 3) for each in self.seconds],
            "cpu_seconds": [round(each, 3) for each in self.cpu_seconds],
        }


def sample_records() -> list[bytes]:
    """The stored records of a simulated shop's users."""
    targets = shop_targets(EventType.PURCHASE.value, DAY_MS, 30 * DAY_MS)
    driver = PipelineDriver(Scorer.rhythm(targets), Settings(worker={"clock": "wall"}))
    delivery = deliver(simulate(Plan(SAMPLE_USERS, SAMPLE_EVENTS, START_MS)), Faults())
    now = int(time.time() * 1000)
    driver.pipe_raw((row.key, row.value, now) for row in rows(delivery))
    return [value for _, value in driver.store.scan(USER_PREFIX, SAMPLE_USERS)]


def state_key(number: int) -> bytes:
    """The stored key of a user."""
    return (
        USER_PREFIX + hashlib.blake2b(number.to_bytes(8, "big"), digest_size=8).hexdigest().encode()
    )


def changelog(users: int, records: list[bytes]) -> Iterator[list[tuple[bytes, bytes | None]]]:
    """One record per user, in commits."""
    for start in range(0, users, PER_COMMIT):
        yield [
            (state_key(number), records[number % len(records)])
            for number in range(start, min(start + PER_COMMIT, users))
        ]


async def write(settings: Settings, users: int, records: list[bytes]) -> None:
    """Commit the changelog as the owner of partition 0."""
    committer = ExactlyOnce(
        settings.kafka.client_options(),
        app_id=settings.app_id,
        source=TopicPartition(settings.topics.events, 0),
        changelog=settings.changelog,
    )
    await committer.start()
    for commit in changelog(users, records):
        await committer.commit(Outbox({}, commit, [], None, 0))
    await committer.close()


async def restore(settings: Settings, users: int, records: list[bytes]) -> tuple[float, float]:
    """Restore into an empty folder; return the seconds it took, and the CPU seconds."""
    folder = settings.data_dir / "state"
    identity = StoreIdentity(settings.app_id, settings.changelog, 0, 1)
    memory, engine = StoreMemory(), Engine()

    def reset() -> RocksStore:
        raise SystemExit("an empty folder cannot fail to continue the changelog")

    begun, cpu_begun = time.perf_counter(), time.process_time()
    store, _ = await recover(
        settings.kafka.client_options(),
        TopicPartition(settings.changelog, 0),
        RocksStore.open(folder, identity, memory),
        due_of=indexed_dues,
        reset=reset,
        aside=engine.run_aside,
    )
    took, computed = time.perf_counter() - begun, time.process_time() - cpu_begun
    last = users - 1
    complete = store.user_count() == users
    complete = complete and store.get(state_key(last)) == records[last % len(records)]
    store.close()
    engine.close()
    wipe(folder)
    if not complete:
        raise SystemExit("the restored state is not what was written")
    return took, computed


def measure_recovery(users: int, runs: int) -> Restored:
    """Write the changelog of `users` on a broker of its own, then restore it `runs` times."""
    with tempfile.TemporaryDirectory() as name:
        broker = EmbeddedKafka(Path(name) / "kafka")
        settings = Settings(
            app_id="recovery",
            data_dir=Path(name) / "data",
            kafka={"bootstrap_servers": broker.start().bootstrap_servers},
            topics={"partitions": 1},
        )
        try:
            records = sample_records()
            asyncio.run(create_topics(settings))
            asyncio.run(write(settings, users, records))
            took = [asyncio.run(restore(settings, users, records)) for _ in range(runs)]
        finally:
            broker.stop()
    used = [records[number % len(records)] for number in range(min(users, len(records)))]
    seconds, computed = map(list, zip(*took, strict=True))
    return Restored(users, statistics.mean(map(len, used)), seconds, computed)


def main(
    users: Annotated[int, typer.Option(min=1, help="Users in the changelog.")] = 1_000_000,
    runs: Annotated[int, typer.Option(min=1, help="Restores.")] = 3,
    out: Annotated[Path | None, typer.Option("--json", help="Where to write.")] = None,
) -> None:
    """Measure and print; exit status 1 when the target is missed."""
    measure = measure_recovery(users, runs).measure()
    print(json.dumps(measure))
    if out:
        out.write_text(json.dumps(measure, indent=2) + "\n", encoding="utf-8")
    if not measure["ok"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
