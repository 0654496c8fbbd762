import asyncio
import threading
import time

import pytest

from stream.partition.engine import Engine


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


async def test_what_pauses_lets_others_go_first_and_then_goes_on():
    engine = Engine()
    seen = []

    def work(name):
        for turn in range(2):
            seen.append(f"{name}{turn}")
            yield None
        seen.append(name)
        yield name

    both_are_queued = threading.Event()
    first = asyncio.ensure_future(engine.run(both_are_queued.wait))
    working = [asyncio.ensure_future(engine.run_in_turns(work(name))) for name in "ab"]
    await asyncio.sleep(0)
    both_are_queued.set()
    assert await asyncio.gather(first, *working) == [True, "a", "b"]
    assert seen == ["a0", "b0", "a1", "b1", "a", "b"]
    engine.close()


async def test_an_error_after_a_pause_comes_back():
    engine = Engine()

    def work():
        yield None
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await engine.run_in_turns(work())
    engine.close()


async def test_who_has_gone_is_given_no_further_turn():
    engine = Engine()
    begun, seen = threading.Event(), []

    def work():
        begun.set()
        time.sleep(0.05)
        yield None
        seen.append("a second turn")
        yield 1

    waiting = asyncio.ensure_future(engine.run_in_turns(work()))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await engine.run(lambda: 2) == 2
    assert await engine.run(lambda: 3) == 3
    assert not seen
    engine.close()


async def test_closing_between_two_turns_leaves_nobody_waiting():
    engine = Engine()
    begun = threading.Event()

    def work():
        begun.set()
        time.sleep(0.05)
        yield None
        yield 1

    waiting = asyncio.ensure_future(engine.run_in_turns(work()))
    queued = asyncio.ensure_future(engine.run_in_turns(work()))
    await asyncio.to_thread(begun.wait)
    engine.close()
    for each in (waiting, queued):
        with pytest.raises(asyncio.CancelledError):
            await each


async def test_an_error_comes_back():
    engine = Engine()

    def work():
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await engine.run(work)
    engine.close()
