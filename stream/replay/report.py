"""What became of every line of a file."""

from dataclasses import dataclass, field
from typing import Any, Final

from stream.replay.adapter import Rejected

__all__ = ["MAX_EXAMPLES", "Report", "Tally"]

MAX_EXAMPLES: Final = 10


@dataclass(slots=True)
class Tally:
    """How often something happened, and the first lines where it did."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """Count one more, remembering the line while there are fewer than `MAX_EXAMPLES`."""
        self.count += 1
        if len(self.lines) < MAX_EXAMPLES:
            self.lines.append(line)

    @property
    def places(self) -> str:
        """The first lines, in words."""
        more = ", ..." if self.count > len(self.lines) else ""
        return f"line{'s' * (len(self.lines) > 1)} {', '.join(map(str, self.lines))}{more}"


@dataclass(slots=True)
class Report:
    """Counts of one replay.

    An entry is what gives one event or one reject: a line, or in OTTO files one of a line's
    events. Always entries = ready + outside + unparsed + invalid; once all that are ready have
    been offered to the topic, ready = sent + beyond_limit.
    """

    path: str = ""
    format: str = ""
    lines: int = 0
    """Data lines read; a header is none."""
    entries: int = 0
    ready: int = 0
    """Good events inside the window."""
    outside: Tally = field(default_factory=Tally)
    """Good lines before `since` or not before `until`."""
    unparsed: dict[str, Tally] = field(default_factory=dict)
    """Lines that cannot be read, by reason."""
    invalid: dict[str, Tally] = field(default_factory=dict)
    """Lines that can be read but describe no event, by reason."""
    beyond_limit: int = 0
    """Read, in order, after `limit` events had been taken."""
    sent: int = 0
    """Acknowledged by the broker."""
    partitions: dict[int, int] = field(default_factory=dict)
    """Events sent, by partition."""
    first_time: int | None = None
    last_time: int | None = None
    """Earliest and latest event time sent, in milliseconds."""
    seconds: float = 0.0
    """Wall time of sending, reading included."""
    interrupted: bool = False
    """Whether someone asked to stop; reading stops as well."""

    def reject(self, rejected: Rejected) -> None:
        """Count a line that gives no event."""
        tallies = self.unparsed if rejected.kind == "unparsed" else self.invalid
        tallies.setdefault(rejected.reason, Tally()).add(rejected.line)

    @property
    def unparsed_count(self) -> int:
        """Lines that could not be read."""
        return sum(tally.count for tally in self.unparsed.values())

    @property
    def invalid_count(self) -> int:
        """Lines that describe no event."""
        return sum(tally.count for tally in self.invalid.values())

    @property
    def rejected(self) -> int:
        """Lines, or entries, that gave no event."""
        return self.unparsed_count + self.invalid_count

    @property
    def unaccounted(self) -> int:
        """Entries read that were neither sent nor counted under a reason; 0 unless interrupted."""
        known = self.sent + self.outside.count + self.rejected + self.beyond_limit
        return self.entries - known

    def why_nothing(self) -> str:
        """One line on why no event is ready: counts by reason, each with its first lines."""
        rejected = sorted(
            {**self.unparsed, **self.invalid}.items(), key=lambda item: -item[1].count
        )
        reasons = [f"{tally.count:,} {reason} ({tally.places})" for reason, tally in rejected]
        if self.outside.count:
            reasons.append(
                f"{self.outside.count:,} outside --since/--until ({self.outside.places})"
            )
        if self.unparsed.keys() or not self.lines:
            reasons.append(f"check that the file is {self.format}")
        return (
            f"no event of {self.path} can be used: {self.lines:,} lines read"
            f"{': ' if reasons else ''}{'; '.join(reasons)}"
        )

    @property
    def rate(self) -> float:
        """Events sent per second."""
        return self.sent / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for a JSON encoder."""
        return {
            "path": self.path,
            "format": self.format,
            "lines": self.lines,
            "entries": self.entries,
            "sent": self.sent,
            "outside": self.outside.count,
            "outside_lines": self.outside.lines,
            "unparsed": self.unparsed_count,
            "unparsed_reasons": _reasons(self.unparsed),
            "invalid": self.invalid_count,
            "invalid_reasons": _reasons(self.invalid),
            "beyond_limit": self.beyond_limit,
            "unaccounted": self.unaccounted,
            "partitions": {str(key): self.partitions[key] for key in sorted(self.partitions)},
            "first_time": self.first_time,
            "last_time": self.last_time,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.rate, 1),
            "interrupted": self.interrupted,
        }


def _reasons(tallies: dict[str, Tally]) -> dict[str, dict[str, Any]]:
    return {
        reason: {"count": tally.count, "lines": tally.lines}
        for reason, tally in sorted(tallies.items(), key=lambda item: -item[1].count)
    }
