"""Ends a worker in which something has died without a word.

Faust and aiokafka can stop without an error: an agent that crashed is gone (faust-streaming issues
175, 640), heartbeats time out and nothing is consumed any more (532), a partition is never fetched
(629), a recovery waits forever. So progress itself is watched, from a thread of its own that no
event loop can hold up: what makes none for a while makes the worker unready, and later ends it. The
end is tried the clean way first. If that hangs too the process is cut off; at last, when even this
thread does not come by (a library that never lets go of the interpreter), by a timer of the C
library's.
"""

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stream.errors import StalledError
from stream.health.vitals import Sign

EXIT_CODE: Final = 70
"""Exit status of a process that was cut off."""
END_AFTER: Final = 2.0
"""Multiple of the time after which a standstill makes the worker unready, until it ends it."""
CLEAN_END_S: Final = 12.0
"""How long a worker that stands still may take to end the clean way."""
_LOOK_S: Final = 0.5
_FAILED_LOOKS: Final = 3
"""So many looks in a row that raise an error end the worker."""
_PROBE_S: Final = 4.0
_PROBE_EVERY_S: Final = 3.0
_PAUSE_S: Final = 5.0
"""A look that comes later than this after the one before says that the process was suspended."""

log = structlog.get_logger(__name__)

Look = Callable[[], Iterable[Sign]]


@dataclass(frozen=True, slots=True)
class Stall:
    """A sign whose mark has not changed for too long."""

    what: str
    seconds: float
    waits_for_cluster: bool


class Stalls:
    """Knows since when each sign has shown no progress."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: dict[str, tuple[Hashable, float]] = {}

    def look(self, signs: Iterable[Sign], now: float, limit_s: float) -> list[Stall]:
        """Take note of the signs; return what has not changed for `limit_s` seconds."""
        seen: dict[str, tuple[Hashable, float]] = {}
        stalls = []
        for sign in signs:
            mark, since = self._seen.get(sign.what, (None, now))
            if mark != sign.mark:
                since = now
            seen[sign.what] = sign.mark, since
            if now - since >= limit_s:
                stalls.append(Stall(sign.what, now - since, sign.waits_for_cluster))
        self._seen = seen
        return stalls

    def forgive(self, seconds: float, what: Iterable[str] | None = None) -> None:
        """Do not count these last seconds: for all signs, or for those named."""
        for name in list(self._seen) if what is None else what:
            mark, since = self._seen[name]
            self._seen[name] = mark, since + seconds


class Watchdog:
    """Looks at the signs of life of one worker and acts on them."""

    def __init__(
        self,
        look: Look,
        end: Callable[[BaseException], None],
        *,
        stall_s: float,
        cluster_answers: Callable[[], bool],
        cut_off: Callable[[int], None] = os._exit,
    ) -> None:
        """Start nothing.

        Args:
            look: returns the signs; called from the watchdog's thread.
            end: ends the worker the clean way because of an error; called from its thread.
            stall_s: no progress for this long is a standstill; twice as long ends the worker.
            cluster_answers: whether the cluster could serve who waits for it; may take seconds.
            cut_off: ends the process.
        """
        self._look = look
        self._end = end
        self._stall_s = stall_s
        self._cluster_answers = cluster_answers
        self._cut_off = cut_off
        self._stalls = Stalls()
        self._loops: dict[str, tuple[asyncio.AbstractEventLoop, list[int]]] = {}
        self._resting = threading.Event()
        self._deadline: float | None = None
        self._probed_at = -_PROBE_EVERY_S
        self._serves = True
        self._thread: threading.Thread | None = None
        self.problems: tuple[str, ...] = ()
        """What stands still now, for the health report."""

    def watch_loop(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        """Watch that an event loop goes round; from any thread."""
        # Another dictionary, because the watchdog's thread may be iterating over this one.
        self._loops = {**self._loops, name: (loop, [0])}

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def ending(self, within_s: float) -> None:
        """Cut the process off unless `rest` is called within this time."""
        deadline = time.monotonic() + within_s
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def rest(self) -> None:
        """Stop looking: the worker has ended."""
        self._resting.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        began, failed = time.monotonic(), 0
        try:
            while not self._resting.wait(_LOOK_S):
                faulthandler.dump_traceback_later(self._last_resort_s(), exit=True)
                paused = time.monotonic() - began - _LOOK_S
                if paused > _PAUSE_S:
                    self._stalls.forgive(paused)
                try:
                    self._watch(time.monotonic())
                    failed = 0
                except Exception:
                    # What it looks at changes in other threads meanwhile: that alone ends nothing.
                    failed += 1
                    if failed >= _FAILED_LOOKS:
                        raise
                began = time.monotonic()
        except Exception as error:
            with contextlib.suppress(Exception):  # a log that nobody can write to may be the reason
                log.exception("the watchdog fails")
            self._end(error)
            self._hard_end("the watchdog failed")
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _last_resort_s(self) -> float:
        """After which time without a look the C library's timer ends the process."""
        return END_AFTER * self._stall_s + CLEAN_END_S

    def _watch(self, now: float) -> None:
        stalls = self._stalls.look([*self._rounds(), *self._look()], now, self._stall_s)
        waiting = [stall for stall in stalls if stall.waits_for_cluster]
        silent = bool(waiting) and not self._cluster_serves()
        if silent:
            # Its silence ends nothing here, and what waits has time to go on once it is back.
            asked_s = time.monotonic() - now
            for stall in waiting:
                self._stalls.forgive(stall.seconds - self._stall_s + asked_s, [stall.what])
        self._report(stalls, silent=silent)
        fatal = [
            stall
            for stall in stalls
            if stall.seconds >= END_AFTER * self._stall_s
            and not (silent and stall.waits_for_cluster)
        ]
        if fatal and self._deadline is None:
            self.ending(CLEAN_END_S)
            worst = max(fatal, key=lambda stall: stall.seconds)
            self._end(
                StalledError(
                    f"{worst.what}: no progress for {worst.seconds:.0f} s; the worker ends so that"
                    " it can be started anew; look at its log before this line"
                )
            )
        if self._deadline is not None and now > self._deadline:
            self._hard_end("the worker does not end by itself")

    def _rounds(self) -> list[Sign]:
        signs = []
        for name, (loop, rounds) in self._loops.items():
            signs.append(Sign(name, rounds[0]))
            with contextlib.suppress(RuntimeError):  # it is closed: the worker ends
                loop.call_soon_threadsafe(_count, rounds)
        return signs

    def _cluster_serves(self) -> bool:
        now = time.monotonic()
        if now - self._probed_at < _PROBE_EVERY_S:
            return self._serves
        self._serves = self._cluster_answers()
        self._probed_at = time.monotonic()
        return self._serves

    def _report(self, stalls: list[Stall], *, silent: bool) -> None:
        problems = []
        if silent:
            problems.append("the Kafka cluster does not answer, or partitions have no leader")
        problems += [f"{stall.what}: no progress for {stall.seconds:.0f} s" for stall in stalls]
        if bool(problems) != bool(self.problems):
            if problems:
                log.warning("the worker stands still", problems=problems)
            else:
                log.info("the worker goes on")
        self.problems = tuple(problems)

    def _hard_end(self, reason: str) -> None:
        with contextlib.suppress(Exception):
            log.error("the process is cut off", reason=reason, exit_code=EXIT_CODE)
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            sys.stderr.flush()
        self._cut_off(EXIT_CODE)


def _count(rounds: list[int]) -> None:
    rounds[0] += 1


def cluster_answers(client_options: dict[str, Any], topics: Iterable[str]) -> bool:
    """Ask the cluster on a connection of its own whether these topics' partitions have leaders.

    Returns:
        False when no broker answers within seconds, or a partition has no leader; True otherwise,
        also where a topic is missing.
    """
    return asyncio.run(_answers(client_options, sorted(topics)))


async def _answers(client_options: dict[str, Any], topics: list[str]) -> bool:
    admin = AIOKafkaAdminClient(**client_options, request_timeout_ms=int(_PROBE_S * 1000))
    try:
        async with asyncio.timeout(_PROBE_S):
            await admin.start()
            described = await admin.describe_topics(topics)
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                await admin.close()
    return all(partition["leader"] >= 0 for topic in described for partition in topic["partitions"])
