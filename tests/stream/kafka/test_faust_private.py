"""Each private attribute of Faust and mode that is used, tried with the real libraries."""

import asyncio
from pathlib import Path

import faust
import pytest
from mode import Service

from stream.kafka import faust_private as private
from tests.patience import PATIENCE_S
from tests.private import tried


def test_every_function_has_its_test():
    assert tried(private.__all__, Path(__file__)) == set(private.__all__)


async def test_is_stopped_tells_a_service_that_was_stopped():
    class Idle(Service):
        """Does nothing."""

    service = Idle()
    await service.start()
    assert not private.is_stopped(service)
    await service.stop()
    assert private.is_stopped(service)


@pytest.mark.slow
async def test_has_actor_tells_an_agent_whose_actor_ended():
    app = faust.App("private", broker="kafka://127.0.0.1:1", store="memory://")

    async def reads(stream):
        async for _ in stream:
            pass

    agent = app.agent(app.channel())(reads)
    assert not private.has_actor(agent)
    await agent.start()
    try:
        assert private.has_actor(agent)
        (actor,) = agent._actors
        actor.actor_task.cancel()
        await asyncio.wait({actor.actor_task}, timeout=PATIENCE_S)
        assert not private.has_actor(agent)
        # A task that is cancelled before its first step never awaits it.
        actor.it.close()
    finally:
        await agent.stop()
