"""Whether the benchmarked configuration is still right, against a serial run over the same log."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contestants import ALO, CONTESTANTS, EO, Run, worker_tree
from benchmarks.log import LogPlan
from benchmarks.measures import at_most
from benchmarks.model import scorer
from benchmarks.part import Bench, Raw
from benchmarks.place import Outputs, Place
from benchmarks.race import Beside, race
from schemas.codec import decode
from schemas.outputs import Prediction
from stream.config.settings import Settings
from stream.pipeline.state import USER_PREFIX
from stream.storage.store_memory import MemoryStore
from stream.testing import PipelineDriver, stored_histories

NAME = "correct"
TOLERANCE = 1e-6
EVENTS = 40_000
_WHAT = {
    "missing": "predictions that a serial run makes and the worker did not",
    "extra": "predictions that are there twice, or should not be there",
    "different": f"probabilities that differ by more than {TOLERANCE:g}",
    "histories": "users whose history in the changelog is not the serial run's",
}
_OF = {"at_least_once": ALO, "exactly_once": EO}
MEASURES = tuple(
    at_most(f"{what}_{guarantee}", "", 0, f"{says}; {guarantee.replace('_', '-')}")
    for guarantee in _OF
    for what, says in _WHAT.items()
)


async def measure(bench: Bench, guarantees: Iterable[str] = tuple(_OF)) -> Raw:
    """Run each guarantee on a part of the log, and compare."""
    events = min(EVENTS, bench.sizes.events // 4)
    plan = LogPlan(events, events // 10)
    log = await bench.place.log(plan)
    found: Raw = {"events": plan.events}
    for guarantee in guarantees:
        run = bench.run(log, plan.partitions)
        beside = _compared(bench.place, plan, guarantee)
        _, found[guarantee] = await race(
            bench.place, CONTESTANTS[_OF[guarantee]], run, plan.events, 300.0, beside
        )
        bench.say(f"against a serial run, {guarantee}: {found[guarantee]}")
    return found


def _compared(place: Place, plan: LogPlan, guarantee: str) -> Beside:
    async def compare(run: Run, outputs: Outputs) -> dict[str, Any]:
        settings = Settings(**worker_tree(place, run, guarantee))
        log = await place.read(run.source)
        want: dict[str, Prediction] = {}
        histories: dict[str, bytes] = {}
        for partition in range(plan.partitions):
            driver = PipelineDriver(
                scorer(), settings, partition=partition, partitions=plan.partitions
            )
            mine = [record for record in log.records if record.partition == partition]
            driver.pipe_records(sorted(mine, key=lambda record: record.offset))
            want |= {p.prediction_id: p for p in driver.predictions()}
            histories |= driver.histories()
        got = [decode(Prediction, record.value) for record in outputs.records]
        unique = {p.prediction_id: p for p in got}
        return {
            "missing": len(want.keys() - unique.keys()),
            "extra": len(got) - len(want.keys() & unique.keys()),
            "different": sum(_differ(want[name], unique[name]) for name in want.keys() & unique),
            "histories": await _other_histories(place, settings, histories),
        }

    return compare


def _differ(a: Prediction, b: Prediction) -> bool:
    return any(
        abs(score.probability - b.targets[name].probability) > TOLERANCE
        for name, score in a.targets.items()
    )


async def _other_histories(place: Place, settings: Settings, want: Mapping[str, bytes]) -> int:
    """Users whose newest changelog record holds another history than wanted, or none."""
    store = MemoryStore()
    for record in (await place.read(settings.changelog)).records:
        if record.key is not None and record.key.startswith(USER_PREFIX):
            store.apply([(record.key, record.value)], [], record.offset)
    found = stored_histories(store, settings)
    return sum(found.get(user) != history for user, history in want.items())


def values(raws: Sequence[Raw], before: Mapping[str, float]) -> dict[str, float]:
    """The worst of all sittings."""
    del before
    return {
        f"{what}_{guarantee}": max(raw[guarantee][what] for raw in raws if guarantee in raw)
        for guarantee in _OF
        if any(guarantee in raw for raw in raws)
        for what in _WHAT
    }
