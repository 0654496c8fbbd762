"""Speed of a replay: which wall-clock moment an event time falls on."""

import math
import time
from collections.abc import Callable

from stream.replay.errors import ReplayError

__all__ = ["Pace", "parse_speed"]


def parse_speed(text: str) -> float:
    """Read "max" as infinity, or "3600" or "3600x" as seconds of event time per wall second.

    Raises:
        ReplayError: it is neither, or not positive.
    """
    if text == "max":
        return math.inf
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise ReplayError(
            f"--speed {text}: give seconds of event time per second, such as 3600, or max"
        )
    return speed


class Pace:
    """Maps event time to the wall clock from an anchor: the first event asked about.

    An event older than the anchor is due at once. Changing the speed sets a new anchor.
    """

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Take event seconds per wall second, infinity for no waiting, and a clock in seconds."""
        self._speed = speed
        self._clock = clock
        self._anchor: tuple[int, float] | None = None

    @property
    def speed(self) -> float:
        """Seconds of event time per wall second."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed = speed
        self._anchor = None

    @property
    def unlimited(self) -> bool:
        """Whether nothing ever waits."""
        return math.isinf(self._speed)

    def wait(self, event_time: int) -> float:
        """Return the seconds until the event is due; 0 or less: it is due now."""
        if self.unlimited:
            return 0.0
        if self._anchor is None:
            self._anchor = (event_time, self._clock())
        first, started = self._anchor
        return started + (event_time - first) / 1000 / self._speed - self._clock()
