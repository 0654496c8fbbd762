"""Outputs, requests and what `outcomes` reads, deleted and created again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from schemas.control import EraseReceipt
from schemas.events import View
from schemas.outputs import Prediction
from stream.errors import TopicReplaced
from stream.kafka.topics import create_topics
from stream.outcomes.service import OutcomeService
from tests.e2e.shop import put, wait_until
from tests.e2e.test_erase import ask
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.world import World

pytestmark = pytest.mark.kafka


async def make_again(world: World, *topics: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=world.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([*topics])
        async with asyncio.timeout(PATIENCE_S):
            while {*topics} & {*await admin.list_topics()}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await create_topics(world.settings)


def views(*users: str) -> list[View]:
    return [View(event_id=f"v-{u}", user_id=u, event_time=1_700_000_000_000) for u in users]


@pytest.mark.full
def test_output_topics_made_again_are_named_and_filled_on(world: Callable[..., World]) -> None:
    shop = world(topics={"partitions": 1}, worker={"clock": "event"})
    topic = shop.settings.topics.propensity
    line = "an output topic was deleted and created again"
    worker = shop.start_worker()
    put(shop, views("ann"))
    shop.wait_committed(1)
    asyncio.run(make_again(shop, topic))
    wait_until(lambda: line in worker.said())
    put(shop, views("bob"))
    found = shop.wait_for(topic, Prediction, 1)
    assert [each.user_id for each in found] == ["bob"]
    worker.stop()

    asyncio.run(make_again(shop, topic))
    worker = shop.start_worker()
    put(shop, views("eve"))
    found = shop.wait_for(topic, Prediction, 1)
    assert [each.user_id for each in found] == ["eve"]
    worker.stop()
    assert worker.said().count(line) == 1
    # It is noted: another start says nothing.
    worker = shop.start_worker()
    put(shop, views("joe"))
    shop.wait_for(topic, Prediction, 2)
    worker.stop()
    assert line not in worker.said()


def test_new_requests_to_erase_are_read_from_the_beginning(world: Callable[..., World]) -> None:
    shop = world(topics={"partitions": 1}, worker={"clock": "event"})
    topics = shop.settings.topics
    worker = shop.start_worker()
    put(shop, views("ann", "bob", "eve"))
    ask(shop, "ann")
    shop.wait_for(topics.erased, EraseReceipt, 1)
    worker.stop()
    asyncio.run(make_again(shop, topics.erase))
    ask(shop, "bob", "nobody", "eve")
    worker = shop.start_worker()
    receipts = shop.wait_for(topics.erased, EraseReceipt, 4)
    assert [r.user_id for r in receipts] == ["ann", "bob", "nobody", "eve"]
    assert [r.removed["events"] for r in receipts] == [1, 1, 0, 1]
    assert "requests to forget users are read again" in worker.said()

    asyncio.run(make_again(shop, topics.erase))
    assert worker.process.wait(PATIENCE_S) == 1
    assert f"{topics.erase} was deleted and created again" in worker.said()


@pytest.mark.parametrize("kind", ["events", "propensity", "erase", "outcomes"])
def test_outcomes_end_where_a_topic_is_made_again(world: Callable[..., World], kind: str) -> None:
    shop = world(topics={"partitions": 1}, outcomes={"publish_ms": 1000})
    put(shop, views("ann"))

    async def follow() -> None:
        service = OutcomeService(shop.settings)
        running = asyncio.create_task(service.run())
        async with asyncio.timeout(PATIENCE_S):
            published = None
            # Ids are known from the first look on, which comes before the second publication.
            while published in (None, service.published_at) or service.published_at is None:
                published = published or service.published_at
                await asyncio.sleep(0.1)
                assert not running.done(), running.exception()
            name = getattr(shop.settings.topics, kind)
            await make_again(shop, name)
            with pytest.raises(TopicReplaced, match=f"^{name} was deleted and created again"):
                await running

    asyncio.run(follow())
