"""Events/s with more users than `make bench` has time for: `python -m benchmarks.users`.

At least once, one log per case with as many events as users: each event is somebody new, who is
looked for in RocksDB in vain and stays there. That is the dearest an event can be.
"""

import asyncio
import sys
from typing import Annotated

import typer

from benchmarks.contestants import ours
from benchmarks.log import LogPlan
from benchmarks.part import Bench
from benchmarks.place import Place
from benchmarks.race import race
from benchmarks.sizes import FULL

_MILLION = 1_000_000
_SLOWEST = 10_000
"""Events/s below which a case is given up."""


async def measure(bench: Bench, users: int) -> None:
    """Run one case and say how it went."""
    plan = LogPlan(users, users)
    log = await bench.place.log(plan)
    run = bench.run(log, plan.partitions)
    contestant = ours(f"{users} users", "", "at_least_once")
    done, _ = await race(bench.place, contestant, run, plan.events, users / _SLOWEST)
    bench.say(f"{users:,} users: {done.row()}")


def main(
    millions: Annotated[list[float] | None, typer.Argument(help="Users, in millions.")] = None,
) -> None:
    """Measure each number of users in turn."""
    with Place.open(None) as place:
        bench = Bench(place, FULL)
        for number in millions or [1, 5]:
            asyncio.run(measure(bench, round(number * _MILLION)))


if __name__ == "__main__":
    sys.exit(typer.run(main))
