"""The restart from a changelog, as `benchmarks.recovery` measures it, in the table."""

import asyncio
from collections.abc import Mapping, Sequence

from benchmarks.measures import at_least
from benchmarks.part import Bench, Raw
from benchmarks.recovery import TARGET, measure_recovery

NAME = "recovery"
MEASURES = (
    at_least(
        "recovery_records_per_second",
        "records/s",
        TARGET,
        "changelog of all users -> a RocksDB that can serve, one partition",
    ),
)


async def measure(bench: Bench) -> Raw:
    """On a broker of its own."""
    users, repeats = bench.sizes.many_users, bench.sizes.repeats
    found = (await asyncio.to_thread(measure_recovery, users, repeats)).measure()
    bench.say(f"recovery: {found['value']:,} records/s")
    return found


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Of the last sitting."""
    del before
    return {MEASURES[0].name: raws[-1]["value"]}
