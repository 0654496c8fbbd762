import asyncio

from stream.worker.worker import ended_early


async def test_parts_that_end_early_are_named():
    parts = {
        asyncio.create_task(asyncio.sleep(0), name="TopicWatch"),
        asyncio.create_task(asyncio.sleep(0), name="Heartbeats"),
    }
    done, _ = await asyncio.wait(parts)
    assert ended_early(done).startswith("Heartbeats and TopicWatch ended, which should go on")
