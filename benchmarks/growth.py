"""Events/s as users, partitions and history grow, and with a hot user; at-least-once."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.bytes_held import MANY_USERS
from benchmarks.contestants import RING, ours
from benchmarks.log import LogPlan
from benchmarks.measures import Measure, at_least
from benchmarks.part import Bench, Raw
from benchmarks.race import race
from benchmarks.sizes import FULL, Sizes

NAME = "growth"
USUAL = "usual"
HOT = "hot user"
HOT_SHARE = 0.5


def cases(sizes: Sizes) -> dict[str, tuple[LogPlan, int]]:
    """Case -> its log and the length of histories."""
    if not sizes.grow_events:
        return {}
    events, users = sizes.grow_events, min(sizes.users, sizes.grow_events // 4)
    usual = LogPlan(events, users)
    found = {USUAL: (usual, RING), HOT: (LogPlan(events, users, hot_share=HOT_SHARE), RING)}
    found |= {f"{n} users": (LogPlan(events, n), RING) for n in sizes.grow_users}
    found |= {f"{n} partitions": (LogPlan(events, users, n), RING) for n in sizes.grow_partitions}
    return found | {f"history of {n}": (usual, n) for n in sizes.grow_rings}


def _measure_of(case: str) -> str:
    return f"growth_{case.replace(' ', '_')}_over_usual"


HOT_RATIO = "hot_user_over_log_normal"
MANY_RATIO = "growth_many_users_over_usual"
MEASURES = (
    at_least(HOT_RATIO, "x", 0.7, "events/s with half of all events from one user, over without"),
    Measure(
        "growth_usual_events_per_second",
        "events/s",
        f"{FULL.users:,} users, 4 partitions, histories of {RING}: what the next rows compare with",
    ),
    Measure(MANY_RATIO, "x", f"events/s with {FULL.many_users:,} users, over the usual"),
    *(
        Measure(_measure_of(case), "x", f"events/s with {case}, over the usual")
        for case in cases(FULL)
        if case not in {USUAL, HOT}
    ),
)


async def measure(bench: Bench) -> Raw:
    """Every case once, the usual one at the beginning and at the end."""
    found: Raw = {name: [] for name in cases(bench.sizes)}
    order = list(cases(bench.sizes).items())
    again = order[:1] if bench.sizes.repeats > 1 else []
    for name, (plan, ring) in (*order, *again):
        log = await bench.place.log(plan)
        run = bench.run(log, plan.partitions)
        contestant = ours(name, "", "at_least_once", state={"ring": ring})
        done, _ = await race(bench.place, contestant, run, plan.events, 2 * bench.sizes.allowed_s)
        found[name].append(done.row())
        bench.say(f"growth, {name}: {done.events_per_second:,.0f} events/s")
    return found


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """Ratios of medians to the usual case."""
    medians = {}
    for name in dict.fromkeys(name for raw in raws for name in raw):
        rows = [row for raw in raws for row in raw.get(name, [])]
        medians[name] = statistics.median(row["events_per_second"] for row in rows)
    if not medians:
        return {}
    usual = medians.pop(USUAL)
    hot = medians.pop(HOT) / usual
    found = {_measure_of(name): rate / usual for name, rate in medians.items()}
    if MANY_USERS in before:
        found[MANY_RATIO] = before[MANY_USERS] / usual
    return found | {HOT_RATIO: hot, "growth_usual_events_per_second": usual}
