"""What happens to a shop in a test: events, models, broken things."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaProducer

from models.serving.artifact import script_bytes
from models.serving.registry import Registry
from models.serving.scorer import Scorer, make_golden
from schemas.codec import encode
from stream.kafka.announce import announce
from stream.pipeline.ingest import partition_of
from tests.logs import gru_manifest, random_gru
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.networks.gru import Gru
    from schemas.events import Event
    from tests.e2e.world import World


def put(world: World, events: list[Event]) -> None:
    """Send events as any producer would."""
    put_raw(world, [(event.user_id.encode(), encode(event)) for event in events])


def put_raw(
    world: World, records: list[tuple[bytes | None, bytes | None]], partition: int | None = None
) -> None:
    """Send records of any size, each to the partition of its key (of user-1 where there is none)
    unless told which."""

    async def send() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=world.bootstrap,
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=16 << 20,
        )
        async with producer:
            sent = [
                await producer.send(
                    world.settings.topics.events,
                    value,
                    key=key,
                    partition=partition_of(key or b"user-1", len(world.partitions))
                    if partition is None
                    else partition,
                )
                for key, value in records
            ]
            await asyncio.gather(*sent)

    asyncio.run(send())


def publish(world: World, seed: int = 0, version: str = "gru-1") -> Scorer:
    """Publish and announce an untrained GRU; return the very model that workers will load."""
    return publish_network(world, random_gru(seed), version)


def publish_network(world: World, network: Gru, version: str) -> Scorer:
    """Publish and announce a network; return the very model that workers will load."""
    manifest = gru_manifest(network, version, time.time_ns() // 1_000_000)
    script = script_bytes(network)
    manifest = Registry(world.settings.models_dir).publish(
        manifest, script, make_golden(script, manifest)
    )
    asyncio.run(announce(world.settings, manifest))
    return Scorer.of_script(script, manifest)


def publish_broken(world: World, source: str, version: str) -> None:
    """Announce a model whose file was tampered with afterwards."""
    registry = Registry(world.settings.models_dir)
    folder = registry.path(version)
    folder.mkdir()
    for file in registry.path(source).iterdir():
        content = file.read_bytes()
        tampered = content[:-1] + bytes([content[-1] ^ 1])
        (folder / file.name).write_bytes(tampered if file.suffix == ".pt" else content)
    manifest = next(m for v, m in registry.manifests() if v == source)
    asyncio.run(announce(world.settings, msgspec.structs.replace(manifest, version=version)))


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
