"""The table of measures: name, unit, target, direction."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["at least", "at most", "reported"]


@dataclass(frozen=True)
class Measure:
    """A figure of the benchmark.

    Attributes:
        name: unique.
        unit: of the value.
        says: what it is, for people.
        target: what must be reached, none: it is reported only.
        direction: on which side of the target is good.
    """

    name: str
    unit: str
    says: str
    target: float | None = None
    direction: Direction = "reported"

    def ok(self, value: float) -> bool | None:
        """Whether the value reaches the target; None without one."""
        if self.target is None or self.direction == "reported":
            return None
        return value >= self.target if self.direction == "at least" else value <= self.target


def at_least(name: str, unit: str, target: float, says: str) -> Measure:
    """More is better."""
    return Measure(name, unit, says, target, "at least")


def at_most(name: str, unit: str, target: float, says: str) -> Measure:
    """Less is better."""
    return Measure(name, unit, says, target, "at most")


def judged(measures: Iterable[Measure], values: Mapping[str, float]) -> list[dict[str, Any]]:
    """The rows of bench.json: those measures that have a value, in the order of the table."""
    rows = []
    for measure in measures:
        if measure.name in values:
            value = values[measure.name]
            rounded = round(value, 3) if abs(value) < 1000 else round(value)  # noqa: PLR2004
            rows.append(asdict(measure) | {"value": rounded, "ok": measure.ok(value)})
    return rows
