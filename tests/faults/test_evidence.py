"""What a failed fault test says of the brokers' files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
import pytest
from aiokafka import TopicPartition

from stream.partition.exactly_once import ExactlyOnce
from stream.pipeline.outbox import Outbox
from tests.conftest import Kafka
from tests.e2e.world import World
from tests.faults.evidence import transactions

pytestmark = pytest.mark.kafka


def test_a_doubled_output_is_told_with_the_transactions_around_it(
    kafka: Kafka, world: Callable[..., World]
) -> None:
    shop = world()
    names, settings = shop.settings.topics, shop.settings

    async def commit() -> None:
        committer = ExactlyOnce(
            {"bootstrap_servers": kafka.bootstrap_servers},
            app_id=settings.app_id,
            source=TopicPartition(names.events, 1),
            changelog=settings.changelog,
        )
        await committer.start()
        for said, score in (("once", 0.1), ("twice", 0.2), ("twice", 0.2000001)):
            value = orjson.dumps({"prediction_id": said, "score": score})
            outputs = {names.propensity: [(b"k", value)]}
            await committer.commit(Outbox(outputs, [(b"m", b"state")], [], 1, 1))
        await committer.producer.begin_transaction()
        await (await committer.producer.send(names.propensity, b"open", partition=1))
        await committer.close()
        await committer.start()
        await committer.close()

    asyncio.run(commit())
    said = transactions(kafka.folder, shop)
    assert f"{names.propensity}-1: doubled at [2, 4]" in said
    assert "doubled" not in said.replace(f"{names.propensity}-1: doubled", "")
    assert "5..5 COMMIT producer" in said
    assert "7..7 ABORT producer" in said
    assert f"{settings.changelog}-1: ['1..1 COMMIT producer" in said
    for status in ("ongoing", "prepare commit", "committed", "prepare abort", "aborted"):
        assert f": {status} producer" in said
    assert f"['{names.propensity}'" in said or f", '{names.propensity}'" in said
