"""What a broker's refusal of a record's timestamp says: the clock of this machine is wrong.

All that is sent is stamped with the clock of the machine that sends it. A topic takes timestamps up
to `message.timestamp.after.max.ms` ahead of the broker's clock, one hour by default since Kafka 4
(KIP-1030), and no older ones than `message.timestamp.before.max.ms`, by default of any age.
"""

import time
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (
    ("days", 86_400_000),
    ("hours", 3_600_000),
    ("minutes", 60_000),
    ("seconds", 1_000),
)


def clock_is_wrong(where: str = "", broker_ms: int | None = None) -> str:
    """Return one sentence for a timestamp that was refused, with the time of this machine.

    A refusal does not tell the broker's own time: it tells its bounds from version 8 of the
    response on (KIP-467), and aiokafka 0.14 asks for version 7.

    Args:
        where: topic and partition, empty where the client does not tell them.
        broker_ms: the broker's time a moment ago, ms since 1970, where it is known.
    """
    now = time.time_ns() // 1_000_000
    apart = "is"
    if broker_ms is not None:
        apart = f"is {_apart(now - broker_ms)} the broker's, which says {_shown(broker_ms)}; it is"
    return (
        f"{where + ': ' if where else ''}the broker refuses the timestamp of a record: the clock of"
        f" this machine says {_shown(now)}, and {apart} further ahead of the broker's clock than"
        " message.timestamp.after.max.ms of the topic allows (1 h by default since Kafka 4), or"
        " further behind it than message.timestamp.before.max.ms; synchronise the clock of this"
        " machine, or the broker's, with NTP and start again"
    )


def _shown(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _apart(ms: int) -> str:
    """How far one clock is from another, in the largest unit of which it is at least two."""
    name, unit = next((pair for pair in _UNITS if abs(ms) >= 2 * pair[1]), _UNITS[-1])
    return f"{abs(ms) / unit:.1f} {name} {'ahead of' if ms > 0 else 'behind'}"
