from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Kafka
from tests.e2e.world import World


@pytest.fixture
def world(kafka: Kafka, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds; their processes end with the test."""
    made: list[World] = []

    def make(**sections: dict[str, object]) -> World:
        made.append(World.make(tmp_path, kafka.bootstrap_servers, **sections))
        return made[-1]

    yield make
    for each in made:
        each.close()
