"""The local state is gone, is an old copy, or is another layout's: restored, or refused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.scorer import Scorer
from stream.store import RocksStore, StoreIdentity
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put
from tests.e2e.world import World
from tests.faults.ledger import Attempt, FaultRow, Scale
from tests.logs import disordered, duplicated, shop_log

pytestmark = pytest.mark.kafka
ROW, NAME = 2, "data folder wiped, stale, or of another partition count"

ROUNDS = 4


class Shop:
    """A log that comes in parts, with a worker run after each."""

    def __init__(self, world: World, rng: random.Random, parts: int) -> None:
        self.world = world
        self.scorer: Scorer = publish(world)
        seed = rng.randrange(10**6)
        log = duplicated(disordered(shop_log(seed, 300 * parts), seed, 900_000), seed, 0.1)
        self._parts = [log[i * 330 : (i + 1) * 330] for i in range(parts)]
        self._sent = 0

    @property
    def state(self) -> Path:
        return self.world.settings.data_dir / "state"

    def send(self) -> None:
        """Produce another part of the log."""
        part = self._parts.pop(0)
        put(self.world, part)
        self._sent += len(part)

    def arrived(self) -> None:
        """Wait until all that was sent is committed."""
        self.world.wait_committed(self._sent)

    def wipe(self) -> None:
        """Remove the local state."""
        shutil.rmtree(self.state)

    def work(self, *, killed: bool) -> float:
        """Process another part of the log; return the seconds until the first commit."""
        before = self._sent
        self.send()
        attempt = Attempt(1)
        with attempt.recovering():
            worker = self.world.start_worker()
            self.world.wait_committed(before + 1)
        self.arrived()
        worker.kill() if killed else worker.stop()
        return attempt.recover_seconds or 0.0

    def judge(self, attempt: Attempt) -> None:
        verdict, _ = judge(self.world, self.scorer)
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong


SHOP: dict[str, dict[str, object]] = {
    "worker": {"clock": "event", "emit": "every", "batch_size": 64},
    "churn": {"prior_gap_ms": 86_400_000, "tick_ms": 3_600_000, "raise_at": 0.6},
}


def make_world(world: Callable[..., World]) -> World:
    return world(**SHOP)


def test_wiped_and_stale_folders_are_restored_from_the_changelog(
    world: Callable[..., World],
    fault_row: FaultRow,
    scale: Scale,
    rng: random.Random,
    tmp_path: Path,
) -> None:
    """In turn: everything gone; a copy of two runs ago; one partition gone; a copy with the other
    partition as it is."""
    rounds = scale(1, 3)
    shop = Shop(make_world(world), rng, parts=3 + ROUNDS * rounds)
    copies = [tmp_path / "copy-0", tmp_path / "copy-1"]
    for copy in copies:
        shop.work(killed=bool(rng.getrandbits(1)))
        shutil.copytree(shop.state, copy)
    with fault_row.attempt(times=ROUNDS * rounds) as attempt:
        for turn in range(ROUNDS * rounds):
            older = copies.pop(0)
            app = Path(shop.world.settings.app_id)
            one = app / str(rng.randrange(2))
            for folder in (app,) if turn % ROUNDS < 2 else (one,):
                shutil.rmtree(shop.state / folder)
                if turn % ROUNDS in {1, 3}:
                    shutil.copytree(older / folder, shop.state / folder)
            attempt.recovered_in(shop.work(killed=bool(rng.getrandbits(1))))
            copies.append(tmp_path / f"copy-{turn + 2}")
            shutil.copytree(shop.state, copies[-1])
        shop.work(killed=False)
        shop.judge(attempt)


def test_a_folder_of_another_partition_count_is_refused(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop = Shop(make_world(world), rng, parts=1)
    settings = shop.world.settings
    folder = shop.state / settings.app_id / "0"
    foreign = StoreIdentity(settings.app_id, settings.changelog, 0, partitions=3)
    with RocksStore.open(folder, foreign) as store:
        store.apply([(b"uann", b"?")], (), 5)
    with fault_row.attempt() as attempt:
        worker = shop.world.start_worker()
        assert worker.process.wait(60) == 1
        (said,) = [line for line in worker.said().splitlines() if line.startswith("intentstream:")]
        assert "partition 0 of 3" in said
        assert "partition 0 of 2" in said
        assert "remove the folder" in said
        assert shop.world.raw(settings.topics.propensity) == []
        with RocksStore.open(folder, foreign) as store:
            assert store.get(b"uann") == b"?", "what is not understood is left alone"
        shutil.rmtree(folder)
        shop.work(killed=False)
        shop.judge(attempt)
