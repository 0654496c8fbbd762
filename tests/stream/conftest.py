"""Fixtures of the engine's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream.broker.jars import classpath
from stream.cli.main import main
from tests.conftest import Kafka
from tests.models.shop import shop_log
from tests.stream.kafka_tools import create_topics, produce, unique
from tests.stream.one_partition import Committer, Pipeline, World
from tests.stream.training_tools import Cli, messages


@pytest.fixture(scope="module")
def shop() -> list[tuple[bytes, bytes]]:
    return messages(shop_log(users=250, days=80))


@pytest.fixture
def jsonl(tmp_path: Path, shop: list[tuple[bytes, bytes]]) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(value for _, value in shop))
    return path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the program in this process; returns what it wrote to (standard output, error)."""

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return out, err

    return run


@pytest.fixture
async def topics(kafka: Kafka) -> dict[str, str]:
    """Names of new topics by what they are for; two partitions each."""
    names = {kind: unique(kind) for kind in ("source", "changelog", "out")}
    await create_topics(kafka.bootstrap_servers, *names.values(), partitions=2)
    return names


@pytest.fixture
async def world(
    kafka: Kafka, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """A partition that the test feeds; parameters are settings of the worker."""
    Pipeline.made, Pipeline.due = [], None
    Committer.gate, Committer.failures, Committer.boxes = None, [], []
    Committer.silences = []
    made = await World(kafka, tmp_path, **getattr(request, "param", {})).create()
    # The offsets that the batches claim must exist.
    await produce(made.bootstrap, made.source, [(b"key", b"")] * 2000)
    yield made
    await made.stop()


@pytest.fixture(scope="module")
def cached() -> None:
    """Jars are there, so that no test times a download."""
    classpath(print)
