import asyncio
import threading
import time

import pytest

from stream.engine import Engine


async def test_work_runs_in_one_thread_in_order_while_the_loop_goes_on():
    engine = Engine()
    seen = []

    def work(number):
        time.sleep(0.02)
        seen.append((number, threading.current_thread().name))
        return number

    ticks = 0
    running = asyncio.gather(*(engine.run(work, n) for n in range(5)))
    while not running.done():
        await asyncio.sleep(0.005)
        ticks += 1

    assert await running == list(range(5))
    assert [number for number, _ in seen] == list(range(5))
    assert len({name for _, name in seen}) == 1
    assert ticks > 5
    engine.close()


async def test_an_error_comes_back():
    engine = Engine()

    def work():
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await engine.run(work)
    engine.close()
