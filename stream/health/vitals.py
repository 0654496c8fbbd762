"""Signs of life: what the parts of a worker show of themselves, so that a standstill is noticed.

No part needs a clock for this. A sign carries a mark that differs whenever there was progress; the
watchdog looks at the marks and knows since when one has not changed. A part that has nothing to do
shows no sign.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from stream.errors import OpeningGivenUp


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that is under way."""

    what: str
    """Names it in messages; unique within a worker."""
    mark: Hashable
    """Changes with every progress."""
    waits_for_cluster: bool = False
    """Whether it cannot go on while no broker answers."""


@dataclass
class Progress:
    """How far the opening of a partition is; written by whoever does it, read by whoever asks."""

    step: str = "waiting"
    done: int = 0
    """Position in the changelog while it is restored."""
    end: int = 0
    """Where the changelog ends."""
    given_up: bool = False
    """Whether nobody wants the partition any more."""

    def enter(self, step: str, done: int = 0, end: int = 0) -> None:
        """Enter the next step, unless it is given up: raises `OpeningGivenUp` then."""
        self.check()
        self.begin(step, done, end)

    def check(self) -> None:
        """Raise `OpeningGivenUp` if nobody wants the partition any more."""
        if self.given_up:
            raise OpeningGivenUp("the partition was taken away while it was being opened")

    def begin(self, step: str, done: int = 0, end: int = 0) -> None:
        """Enter the next step."""
        self.step, self.done, self.end = step, done, end
