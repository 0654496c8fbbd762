import asyncio

import pytest

from stream.config.settings import Settings
from stream.errors import BrokerError, TopicLayoutError
from stream.worker.topic_watch import TopicWatch
from tests.patience import PATIENCE_S


class Topics:
    """What each look finds; the last one again and again."""

    def __init__(self, *found):
        self.found = list(found)
        self.looks = 0

    async def __call__(self, _settings):
        found = self.found[min(self.looks, len(self.found) - 1)]
        self.looks += 1
        if found is not None:
            raise found


GONE = TopicLayoutError(["topic alerts is missing: run `intentstream topics create`"])


def watch(topics):
    return TopicWatch(Settings(), topics, every_s=0.01, confirm_s=0.01)


async def test_a_topic_that_is_gone_ends_the_worker_and_is_named():
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(TopicLayoutError, match=r"topic alerts is missing.*while the worker"):
            await watch(Topics(None, None, GONE)).run(None)


async def test_what_heals_at_once_or_cannot_be_asked_is_no_reason_to_end():
    topics = Topics(GONE, None, BrokerError("no broker"), BrokerError("no broker"), None)
    running = asyncio.create_task(watch(topics).run(None))
    while topics.looks < 8:  # noqa: ASYNC110  # state of another task
        await asyncio.sleep(0.01)
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})
    await watch(topics).finish(None)
