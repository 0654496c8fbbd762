"""Fault tests: what they record, how hard they try, and with which seed.

Environment: FAULTS=full (else a short part of every row), FAULT_SEED (full strength: random unless
given), FAULTS_JSON (file for the rows), SOAK_SECONDS.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Kafka
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Ledger, Scale

LEDGER = pytest.StashKey[Ledger]()
SCALE = pytest.StashKey[Scale]()
SHORT_SEED = 7


def _scale(config: pytest.Config) -> Scale:
    if SCALE not in config.stash:
        full = os.environ.get("FAULTS") == "full"
        drawn = random.SystemRandom().randrange(10**6) if full else SHORT_SEED
        config.stash[SCALE] = Scale(full, int(os.environ.get("FAULT_SEED", drawn)))
        config.stash[LEDGER] = Ledger()
    return config.stash[SCALE]


def pytest_report_header(config: pytest.Config) -> str:
    scale = _scale(config)
    return f"faults: {'full' if scale.full else 'short'}, FAULT_SEED={scale.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies here; `@pytest.mark.faults(full=True)` is for full strength only."""
    here = Path(__file__).parent
    left_out = []
    for item in items:
        asked = item.get_closest_marker("faults")
        if asked and asked.kwargs.get("full") and not _scale(config).full:
            left_out.append(item)
        elif here in item.path.parents:
            item.add_marker("faults")
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With pytest-xdist: carry the rows of this process to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        _scale(session.config)
        session.config.workeroutput["faults"] = session.config.stash[LEDGER].carried()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _scale(node.config)
    # A process that broke down has no output; its test is reported as failed.
    node.config.stash[LEDGER].add(getattr(node, "workeroutput", {}).get("faults", []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    scale = _scale(config)
    ledger = config.stash[LEDGER]
    if not ledger.as_list():
        return
    terminalreporter.section(f"faults, FAULT_SEED={scale.seed}")
    for line in ledger.table():
        terminalreporter.write_line(line)
    if path := os.environ.get("FAULTS_JSON"):
        ledger.write(Path(path))


@pytest.fixture
def scale(pytestconfig: pytest.Config) -> Scale:
    return _scale(pytestconfig)


@pytest.fixture
def rng(scale: Scale, request: pytest.FixtureRequest) -> random.Random:
    """Randomness of the test's own, repeatable by FAULT_SEED."""
    return scale.rng(request.node.name)


@pytest.fixture
def fault_row(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> FaultRow:
    """The row that the module's ROW and NAME stand for."""
    _scale(pytestconfig)
    return pytestconfig.stash[LEDGER].row(request.module.ROW, request.module.NAME)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds, each in a folder of its own, on the shared broker unless told otherwise; their
    processes end with the test."""
    made: list[World] = []

    def make(*, on: Kafka | None = None, **sections: Any) -> World:
        folder = tmp_path / f"world-{len(made)}"
        folder.mkdir()
        broker = on or request.getfixturevalue("kafka")
        made.append(World.make(folder, broker.bootstrap_servers, **sections))
        return made[-1]

    yield make
    for each in made:
        each.close()
