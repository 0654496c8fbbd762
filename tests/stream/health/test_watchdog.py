import asyncio
import re
import threading
import time

import pytest

from stream.errors import StalledError
from stream.health.vitals import Sign
from stream.health.watchdog import EXIT_CODE, Stalls, Watchdog, cluster_answers
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, unique

pytestmark = pytest.mark.slow


def test_a_sign_stands_still_when_its_mark_does():
    stalls = Stalls()
    assert stalls.look([Sign("a", 1), Sign("b", 1)], 0, 10) == []
    assert stalls.look([Sign("a", 2), Sign("b", 1)], 9, 10) == []
    (stall,) = stalls.look([Sign("a", 2), Sign("b", 1)], 12, 10)
    assert (stall.what, stall.seconds) == ("b", 12)
    assert [s.what for s in stalls.look([Sign("a", 2), Sign("b", 2)], 19, 10)] == ["a"]


def test_a_sign_that_was_not_shown_begins_anew():
    stalls = Stalls()
    stalls.look([Sign("a", 1)], 0, 10)
    stalls.look([], 5, 10)
    assert stalls.look([Sign("a", 1)], 11, 10) == []
    assert stalls.look([Sign("a", 1)], 20, 10) == []
    assert len(stalls.look([Sign("a", 1)], 21, 10)) == 1


def test_forgiven_seconds_do_not_count():
    stalls = Stalls()
    stalls.look([Sign("a", 1), Sign("b", 1)], 0, 10)
    stalls.forgive(5)
    stalls.forgive(2, ["b"])
    (stall,) = stalls.look([Sign("a", 1), Sign("b", 1)], 16, 10)
    assert (stall.what, stall.seconds) == ("a", 11)


STALL_S, LOOK_S, PROBE_EVERY_S = 0.5, 0.05, 0.1


class Dog:
    """A watchdog over signs that the test shows, quick to bark."""

    def __init__(self, *, answers=True):
        self.signs, self.errors, self.exits = [], [], []
        self.look = lambda: self.signs
        self.course = []
        """What it did, in order."""
        self.answers = answers
        self.asked = 0
        self.cut_off = threading.Event()
        self.dog = Watchdog(
            self._signs,
            self._end,
            stall_s=STALL_S,
            cluster_answers=self._answer,
            cut_off=self._exit,
        )

        report = self.dog._report

        def reported(stalls, *, silent):
            report(stalls, silent=silent)
            if self.dog.problems and "unready" not in self.course:
                self.course.append("unready")

        self.dog._report = reported

    def _signs(self):
        return self.look()

    def _end(self, error):
        self.course.append("ended")
        self.errors.append(error)

    def _answer(self):
        self.asked += 1
        return self.answers

    def _exit(self, code):
        self.course.append("cut off")
        self.exits.append(code)
        self.cut_off.set()
        self.dog._resting.set()

    def wait(self, condition, seconds=PATIENCE_S):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def dog(monkeypatch):
    monkeypatch.setattr("stream.health.watchdog._LOOK_S", LOOK_S)
    monkeypatch.setattr("stream.health.watchdog._PROBE_EVERY_S", PROBE_EVERY_S)
    monkeypatch.setattr("stream.health.watchdog.CLEAN_END_S", 0.5)
    monkeypatch.setattr("stream.health.watchdog.Watchdog._last_resort_s", lambda self: 60)
    made = []

    def make(**options):
        made.append(Dog(**options))
        return made[-1]

    yield make
    for each in made:
        each.dog.rest()


def test_a_standstill_is_reported_then_ends_the_worker_then_the_process(dog):
    it = dog()
    it.signs = [Sign("shop.events-3: commit", 7)]
    it.dog.start()
    it.wait(it.cut_off.is_set)
    assert it.course == ["unready", "ended", "cut off"]
    assert "shop.events-3: commit: no progress" in it.dog.problems[0]
    (error,) = it.errors
    assert isinstance(error, StalledError)
    (seconds,) = re.findall(r"shop.events-3: commit: no progress for (\d+) s", str(error))
    assert int(seconds) >= 2 * STALL_S
    assert it.exits == [EXIT_CODE]


def test_a_worker_that_goes_on_is_well_again(dog):
    it = dog()
    it.look = lambda: [Sign("a", len(it.course))]  # goes on as soon as it is unready
    it.dog.start()
    it.wait(lambda: it.course and not it.dog.problems)
    assert it.course == ["unready"]


def test_a_cluster_that_does_not_answer_makes_unready_and_ends_nothing(dog):
    it = dog(answers=False)
    it.signs = [Sign("a: commit", 1, waits_for_cluster=True)]
    it.dog.start()
    it.wait(lambda: it.asked > 3 * STALL_S / PROBE_EVERY_S)
    assert "the Kafka cluster does not answer" in it.dog.problems[0]
    assert it.course == ["unready"]
    back = time.monotonic()
    it.answers = True
    it.wait(lambda: it.errors)
    # Once it is back, what waited for it has the time of a standstill to go on.
    assert time.monotonic() - back > 0.4


def test_what_does_not_need_the_cluster_is_not_excused_by_it(dog):
    it = dog(answers=False)
    it.signs = [Sign("a: commit", 1, waits_for_cluster=True), Sign("b: computing", 1)]
    it.dog.start()
    it.wait(lambda: it.errors)
    assert "b: computing" in str(it.errors[0])


def test_a_worker_that_ends_in_time_is_not_cut_off(dog):
    it = dog()
    it.dog.start()
    it.dog.ending(PATIENCE_S)
    it.dog.rest()
    assert not it.dog._thread.is_alive()
    assert it.exits == []


def test_a_worker_that_does_not_end_in_time_is_cut_off(dog):
    it = dog()
    it.dog.start()
    it.dog.ending(0.3)
    assert it.cut_off.wait(PATIENCE_S)


def test_a_loop_that_is_held_up_is_noticed(dog):
    it = dog()
    loop, let_go = asyncio.new_event_loop(), threading.Event()
    it.dog.watch_loop("main event loop", loop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        it.dog.start()
        _, rounds = it.dog._loops["main event loop"]
        it.wait(lambda: rounds[0] > 3 * STALL_S / LOOK_S and not it.dog.problems)
        loop.call_soon_threadsafe(let_go.wait)
        it.wait(lambda: it.dog.problems)
        assert "main event loop" in it.dog.problems[0]
        let_go.set()
        it.wait(lambda: not it.dog.problems)
    finally:
        let_go.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        it.dog.rest()
        loop.close()


def test_a_watchdog_that_fails_itself_ends_the_worker(dog):
    it = dog()

    def broken():
        raise ZeroDivisionError

    it.dog._look = broken
    it.dog.start()
    assert it.cut_off.wait(PATIENCE_S)
    assert isinstance(it.errors[0], ZeroDivisionError)


def test_one_look_that_fails_ends_nothing(dog):
    it = dog()
    failing = iter([RuntimeError("dictionary changed size during iteration")])
    looks = []

    def look():
        looks.append(1)
        for error in failing:
            raise error
        return []

    it.dog._look = look
    it.dog.start()
    it.wait(lambda: len(looks) > 6)
    it.dog.rest()
    assert it.errors == it.exits == []


def test_a_loop_added_during_a_look_is_no_error(dog):
    it = dog()
    loop = asyncio.new_event_loop()

    class Adding:
        def call_soon_threadsafe(self, *_):
            it.dog.watch_loop("another", loop)

    it.dog.watch_loop("first", Adding())
    assert [sign.what for sign in it.dog._rounds()] == ["first"]
    assert [sign.what for sign in it.dog._rounds()] == ["first", "another"]
    loop.close()


def test_a_log_that_nobody_can_write_to_keeps_no_worker_alive(dog, monkeypatch):
    class Closed:
        def __getattr__(self, _):
            raise ValueError("I/O operation on closed file")

    it = dog()
    it.dog._look = lambda: 1 / 0
    monkeypatch.setattr("stream.health.watchdog.log", Closed())
    it.dog.start()
    assert it.cut_off.wait(PATIENCE_S)
    assert isinstance(it.errors[0], ZeroDivisionError)


@pytest.mark.kafka
def test_a_cluster_is_asked_on_a_connection_of_its_own(kafka):
    topic = unique("source")
    asyncio.run(create_topics(kafka.bootstrap_servers, topic))
    assert cluster_answers({"bootstrap_servers": kafka.bootstrap_servers}, [topic])
    assert not cluster_answers({"bootstrap_servers": "127.0.0.1:1"}, [topic])
