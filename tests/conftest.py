"""Real Kafka for the tests: one broker, and a replicated cluster, each started when first used."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from stream.broker import EmbeddedKafka
from stream.broker.config import OPTIONS
from tests.jvm import short_lived

# Like the worker, tests compute in one thread: the others belong to the broker and the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(OPTIONS, short_lived())


# Who is told to end stops what it has started: brokers live on otherwise.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, signal.default_int_handler)

# A busy machine is not an error; and in CI a change is judged by the same examples each time.
settings.register_profile("shop", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("shop")


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Commands that run inside a test send log lines to its stderr, which ends with it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@dataclass(frozen=True)
class Kafka:
    """A running cluster; `broker` can kill and restart single nodes."""

    bootstrap_servers: str
    broker: EmbeddedKafka
    folder: Path


def running(
    factory: pytest.TempPathFactory, brokers: int, properties: dict[str, str] | None = None
) -> Iterator[Kafka]:
    """Run a cluster of so many brokers, and leave nothing of it."""
    folder = factory.mktemp("kafka") / "data"
    broker = EmbeddedKafka(folder, brokers, properties)
    try:
        yield Kafka(broker.start().bootstrap_servers, broker, folder)
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker, shared by all tests: use topic names and app ids of your own."""
    yield from running(tmp_path_factory, 1)


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Three brokers, replication 3, min.insync.replicas 2; leave all of them running."""
    # Tests kill brokers, and wait until their sessions have ended.
    yield from running(tmp_path_factory, 3, {"broker.session.timeout.ms": "4000"})
