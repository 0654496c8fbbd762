"""What a user costs: bytes in RocksDB and in the changelog, memory, and a restart with all of them.

Two logs: the one that everybody reads (bytes of users with the usual histories), and one with as
many users as events, at least 1,000,000 in the full benchmark (memory, restart).
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS, EO, Run, ours, start_worker, worker_tree
from benchmarks.log import LogPlan
from benchmarks.measures import Measure, at_most
from benchmarks.part import Bench, Raw
from benchmarks.place import Outputs, Place
from benchmarks.race import Beside, race
from stream.pipeline.state import USER_PREFIX

NAME = "bytes_held"
MANY_USERS = "many_users_events_per_second"
_GIB = 1 << 30
MEASURES = (
    at_most("rocksdb_bytes_per_user", "B", 700, "RocksDB's folder after a clean stop, per user"),
    at_most(
        "changelog_bytes_per_user",
        "B",
        400,
        "newest changelog record of a user, key and value, on average: what compaction leaves",
    ),
    Measure("changelog_bytes_per_event", "B", "changelog written per event, before compaction"),
    at_most("worker_rss_gib", "GiB", 1.5, "resident memory of the worker with all users, most"),
    at_most("worker_rss_growth", "x", 1.1, "memory at the end over memory at three quarters"),
    Measure(MANY_USERS, "events/s", "with as many users as events, at-least-once"),
    at_most(
        "local_restart_seconds",
        "s",
        3.0,
        "a worker with all users in its folder: first new event scored, beyond an empty worker's",
    ),
    Measure("local_restart_total_seconds", "s", "the same from the start of its process"),
)


async def measure(bench: Bench) -> Raw:
    """Both logs, and the restart."""
    place, sizes = bench.place, bench.sizes
    log = await place.log(bench.plan)
    allowed = 5 * sizes.allowed_s
    done, held = await race(
        place,
        CONTESTANTS[EO],
        bench.run(log, bench.plan.partitions),
        bench.plan.events,
        allowed,
        _held(place),
    )
    bench.say(f"bytes: {held}")
    plan = LogPlan(sizes.many_users, sizes.many_users)
    # A topic of its own: the restart adds to it.
    many = f"bench{bench.session}-many.events"
    await place.empty_log(plan, many)
    await place.fill(plan, many)
    contestant = ours("many users", "", "at_least_once")
    restart: dict[str, float] = {}

    async def beside(run: Run, outputs: Outputs) -> dict[str, Any]:
        found = await _held(place)(run, outputs)
        tree = worker_tree(place, run, "at_least_once")
        restart["seconds"] = await _seconds_to_first(bench, run, tree, plan, "worker")
        return found

    all_users, held_many = await race(
        place, contestant, bench.run(many, plan.partitions), plan.events, allowed, beside
    )
    await place.delete(many)
    bench.say(f"{plan.users} users: {held_many}, restart {restart}")
    return {
        "usual": {"users": bench.plan.users, "run": done.row(), **held},
        "many": {"users": plan.users, "run": all_users.row(), **held_many, "restart": restart},
    }


def _held(place: Place) -> Beside:
    async def look(run: Run, _: Outputs) -> dict[str, Any]:
        folder = place.folder / run.name / "worker"
        log = await place.read(f"{run.name}.users.changelog")
        newest = {}
        for record in log.records:
            if record.key is not None and record.key.startswith(USER_PREFIX):
                newest[record.key] = len(record.key) + len(record.value or b"")
        written = sum(len(r.key or b"") + len(r.value or b"") for r in log.records)
        return {
            "rocksdb_bytes": _size(folder),
            "changelog_users": len(newest),
            "changelog_newest_bytes": sum(newest.values()),
            "changelog_written_bytes": written,
        }

    return look


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def _seconds_to_first(
    bench: Bench, run: Run, tree: Mapping[str, Any], plan: LogPlan, instance: str
) -> float:
    """From the start of a worker's process until it has scored one new event."""
    place = bench.place
    async with place.watcher(run.output) as ends:
        before = await ends()
        more = LogPlan(
            plan.partitions * 4, plan.partitions * 4, plan.partitions, seed=plan.seed + 1
        )
        await place.fill(more, run.source)
        begun = time.monotonic()
        with start_worker(place, run, tree, instance) as worker:
            while sum((await ends()).values()) == sum(before.values()):
                if not worker.runs:
                    raise SystemExit(f"the worker ended: {worker.said()}")
                await asyncio.sleep(0.02)
            return time.monotonic() - begun


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Of the last sitting."""
    del before
    usual, many = raws[-1]["usual"], raws[-1]["many"]
    rss = many["run"]["rss"]
    late = [held for at, held in rss if at >= rss[0][0] + 0.75 * (rss[-1][0] - rss[0][0])]
    return {
        "rocksdb_bytes_per_user": usual["rocksdb_bytes"] / usual["users"],
        "changelog_bytes_per_user": usual["changelog_newest_bytes"] / usual["changelog_users"],
        "changelog_bytes_per_event": usual["changelog_written_bytes"] / usual["run"]["outputs"],
        "worker_rss_gib": many["run"]["peak_rss_bytes"] / _GIB,
        "worker_rss_growth": many["run"]["end_rss_bytes"] / late[0],
        MANY_USERS: many["run"]["events_per_second"],
        "local_restart_total_seconds": many["restart"]["seconds"],
        "local_restart_seconds": max(
            many["restart"]["seconds"] - many["run"]["start_seconds"], 0.0
        ),
    }
