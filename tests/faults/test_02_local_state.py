"""The local state is gone, is an old copy, or is another layout's: restored, or refused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.serving.scorer import Scorer
from stream.storage.store import RocksStore
from stream.storage.store_identity import StoreIdentity
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put
from tests.e2e.world import World
from tests.faults.ledger import Attempt, FaultRow, Scale
from tests.logs import disordered, duplicated, shop_log
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 2, "data folder wiped, stale, or of another partition count"

TURNS = (
    ("wiped", "stale"),
    ("stale", "left"),
    ("left", "wiped"),
    ("wiped", "wiped"),
    ("stale", "stale"),
)
"""What happens to the folders of partitions 0 and 1 between two runs."""


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
    "churn": {
        "prior_gap_ms": 86_400_000,
        "tick_ms": 3_600_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
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
    """Each partition's folder is removed, or replaced by a copy of an earlier run, or left."""
    turns = list(scale(TURNS[:2], TURNS * 3))
    shop = Shop(make_world(world), rng, parts=len(turns) + 2)
    copies = [tmp_path / "copy-0"]
    shop.work(killed=True)
    shutil.copytree(shop.state, copies[0])
    shop.work(killed=bool(rng.getrandbits(1)))
    broken = sum(fate != "left" for turn in turns for fate in turn)
    with fault_row.attempt(times=broken) as attempt:
        for left, turn in zip(reversed(range(len(turns))), turns, strict=True):
            older = rng.choice(copies)
            copies.append(tmp_path / f"copy-{len(copies)}")
            shutil.copytree(shop.state, copies[-1])
            for partition, fate in enumerate(turn):
                folder = Path(shop.world.settings.app_id) / str(partition)
                if fate != "left":
                    shutil.rmtree(shop.state / folder)
                if fate == "stale":
                    shutil.copytree(older / folder, shop.state / folder)
            # What is compared at the end is the database, which lags behind where one is killed.
            killed = bool(rng.getrandbits(1)) and left > 0
            attempt.recovered_in(shop.work(killed=killed))
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
        assert worker.process.wait(PATIENCE_S) == 1
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
