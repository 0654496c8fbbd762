"""The disk of the local state is full or read-only: the worker says so and ends, then goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream.broker.process import free_ports
from tests.e2e.world import Worker, World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.test_02_local_state import SHOP, Shop
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 10, "disk full, read-only folder"

WITHIN_S = 30.0
SIZE = "24m"


@dataclass
class Disk:
    """A small file system of its own."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0")

    def clear(self) -> None:
        self._filler.unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount a small disk at `folder`; skip where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_shop(world: Callable[..., World], rng: random.Random, parts: int) -> tuple[Shop, int]:
    (port,) = free_ports(1)
    sections = {**SHOP, "worker": {**SHOP["worker"], "http_port": port}}
    return Shop(world(**sections), rng, parts), port


def ready(port: int) -> bool:
    """Whether the worker says that it does its work."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as page:
            return bool(json.load(page)["ready"])
    except (urllib.error.URLError, OSError):
        return False


def ends(worker: Worker, port: int, began: float) -> str:
    """Wait until the worker is unready and has ended with an error; return its one line."""
    while worker.process.poll() is None:
        assert time.monotonic() - began < WITHIN_S, worker.said()[-3000:]
        time.sleep(0.05)
    assert not ready(port)
    assert worker.process.poll() == 1, worker.said()[-3000:]
    (said,) = [line for line in worker.said().splitlines() if line.startswith("intentstream:")]
    return said


def test_a_disk_that_runs_full_ends_the_worker_with_the_reason(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    times = scale(1, 5)
    shop, port = make_shop(world, rng, parts=3 * times)
    with small_disk(shop.state.parent) as disk, fault_row.attempt(times) as attempt:
        for _ in range(times):
            shop.work(killed=False)
            worker = shop.world.start_worker()
            wait_ready(worker, port)
            disk.fill()
            began = time.monotonic()
            shop.send()
            said = ends(worker, port, began)
            assert "No space left" in said
            assert "check free space" in said
            disk.clear()
            attempt.recovered_in(shop.work(killed=False))
        shop.judge(attempt)


def test_a_disk_that_is_full_or_read_only_at_the_start_ends_the_worker_with_the_reason(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    """With state on the disk, and at full strength also without any."""
    shop, port = make_shop(world, rng, parts=2)
    with small_disk(shop.state.parent) as disk, fault_row.attempt(scale(2, 4)) as attempt:
        for known in scale((True,), (False, True)):
            if known:
                shop.work(killed=False)
            disk.fill()
            said = ends(shop.world.start_worker(), port, time.monotonic())
            assert "No space left" in said
            disk.clear()
            disk.remount("ro")
            said = ends(shop.world.start_worker(), port, time.monotonic())
            assert "Read-only file system" in said
            assert "permissions" in said
            disk.remount("rw")
        attempt.recovered_in(shop.work(killed=False))
        shop.judge(attempt)


def test_a_restore_that_does_not_fit_ends_the_worker_with_the_reason(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    if not scale.full:
        pytest.skip("at full strength only")
    shop, port = make_shop(world, rng, parts=2)
    shop.work(killed=False)
    shop.wipe()
    shop.state.parent.rmdir()
    with small_disk(shop.state.parent) as disk, fault_row.attempt() as attempt:
        disk.fill()
        with disk._filler.open("r+b") as file:
            file.truncate(disk._filler.stat().st_size - 120_000)
        said = ends(shop.world.start_worker(), port, time.monotonic())
        assert "No space left" in said
        disk.clear()
        attempt.recovered_in(shop.work(killed=False))
        shop.judge(attempt)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_write_permission_ends_the_worker_with_the_reason(
    world: Callable[..., World], fault_row: FaultRow, rng: random.Random
) -> None:
    shop, port = make_shop(world, rng, parts=1)
    folder = shop.state.parent
    folder.mkdir()
    folder.chmod(0o555)
    with fault_row.attempt() as attempt:
        said = ends(shop.world.start_worker(), port, time.monotonic())
        assert "Permission denied" in said
        folder.chmod(0o755)
        attempt.recovered_in(shop.work(killed=False))
        shop.judge(attempt)


def wait_ready(worker: Worker, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready(port):
        assert worker.process.poll() is None, worker.said()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
