"""What every part of the benchmark is given, and what it must be able to do."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.contestants import Run
from benchmarks.log import LogPlan
from benchmarks.measures import Measure
from benchmarks.place import Place
from benchmarks.sizes import Sizes

Raw = dict[str, Any]
"""What a part measured in one sitting, as JSON."""
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Bench:
    """One sitting."""

    place: Place
    sizes: Sizes
    say: Callable[[str], None] = print
    session: int = field(default_factory=lambda: time.time_ns() // 1_000_000_000)

    @property
    def plan(self) -> LogPlan:
        """The log that everybody reads."""
        return LogPlan(self.sizes.events, self.sizes.users)

    def run(self, source: str, partitions: int) -> Run:
        """A run with a name of its own."""
        return Run(f"bench{self.session}-{next(_NUMBERS)}", source, partitions)


class Part(Protocol):
    """A module of measures."""

    NAME: str
    MEASURES: Sequence[Measure]

    async def measure(self, bench: Bench) -> Raw:
        """Measure once, with all the repetitions that the sizes ask for."""

    def values(self, raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
        """Measure name -> value, of all sittings; `before`: those of the parts before."""
