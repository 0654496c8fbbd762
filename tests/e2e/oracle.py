"""What a serial run of the very log gives, and what a world has made of it instead.

Two oracles: the plain-Python one, which shares no code with the product, says what every user's
history is and which events count; the product's own pipeline, one partition at a time and without
a broker, says every prediction and every alert.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from models.history import history_bytes
from schemas.codec import decode_event
from schemas.errors import InvalidEvent
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter, LateEvent
from stream.kernels.replays import ReplayRules
from stream.pipeline.ingest import partition_of
from stream.testing import PipelineDriver
from tests.logs import judged_by_oracle
from tests.stream.kernels.replay_rules import Replays
from tests.told import told

if TYPE_CHECKING:
    import numpy as np
    from aiokafka import ConsumerRecord

    from models.overflow import Held
    from models.serving.scorer import Scorer
    from schemas.events import Event
    from tests.e2e.world import World
    from tests.oracle import UserHistory

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Swap:
    """Another model, or the same with another recalibration, from these offsets on."""

    offsets: dict[int, int]
    scorer: Scorer


def serial(world: World, scorer: Scorer, *swaps: Swap) -> dict[int, PipelineDriver]:
    """What a serial run of the very log makes of it, per partition; swaps in their order."""
    drivers = {
        p: PipelineDriver(scorer, world.settings, partition=p, partitions=len(world.partitions))
        for p in world.partitions
    }
    log: dict[int, list[ConsumerRecord]] = {p: [] for p in drivers}
    for record in world.raw(world.settings.topics.events):
        log[record.partition].append(record)
    for partition, driver in drivers.items():
        records = log[partition]
        begin = 0
        for swap in swaps:
            end = swap.offsets.get(partition, 0)
            driver.pipe_records(records[begin:end], batch=512)
            driver.pipeline.replace_scorer(swap.scorer)
            begin = end
        driver.pipe_records(records[begin:], batch=512)
    return drivers


@dataclass
class Verdict:
    """How far a world is from the oracles."""

    lost: int = 0
    """Messages and users that should be there and are not."""
    duplicated: int = 0
    """Messages that are there more often than they should be, or that should not be there."""
    repeats: bool = False
    """Whether a message may be there more than once."""
    wrong: list[str] = field(default_factory=list)
    """What is there once and says something else."""

    def count(self, what: str, want: Iterable[Hashable], got: Iterable[Hashable]) -> None:
        """Compare two multisets."""
        wanted, found = Counter(list(want)), Counter(list(got))
        if self.repeats:
            found = Counter(list(found))
        missing, extra = wanted - found, found - wanted
        self.lost += missing.total()
        self.duplicated += extra.total()
        for name, items in (("lost", missing), ("duplicated", extra)):
            if items:
                self.wrong.append(f"{items.total()} {what} {name}, e.g. {list(items)[:3]}")

    def expect(self, what: str, *, equal: bool) -> None:
        """Note a difference that is neither loss nor repetition."""
        if not equal:
            self.wrong.append(what)


def judge(
    world: World,
    scorer: Scorer,
    records: dict[str, tuple[np.void, Held]] | None = None,
    *,
    repeats: bool = False,
    swaps: tuple[Swap, ...] = (),
) -> tuple[Verdict, dict[int, PipelineDriver]]:
    """Compare what a read_committed subscriber sees, and the tables, with both oracles.

    Args:
        world: emits a prediction per event and follows event time; no worker of it runs.
        scorer: the model that served, all the time unless there are `swaps`.
        records: the tables; those of the local stores unless given.
        repeats: a message may be there more than once, as at-least-once allows.
        swaps: the models that served later, in their order.
    """
    verdict, drivers = Verdict(repeats=repeats), serial(world, scorer, *swaps)
    topics = world.settings.topics
    want = {p.prediction_id: p for d in drivers.values() for p in d.predictions()}
    got = world.read(topics.propensity, Prediction)
    verdict.count("predictions", want, [p.prediction_id for p in got])
    for prediction in got:
        reference = want.get(prediction.prediction_id)
        for name, score in reference.targets.items() if reference else ():
            near = abs(prediction.targets[name].probability - score.probability) <= TOLERANCE
            verdict.expect(f"{name} of {prediction.prediction_id}", equal=near)

    def alert(a: ChurnAlert) -> Hashable:
        return a.alert_id, a.state, a.episode

    alerts = [alert(a) for d in drivers.values() for a in d.alerts()]
    verdict.count("alerts", alerts, map(alert, world.read(topics.churn, ChurnAlert)))
    for topic, kind in ((topics.late, LateEvent), (topics.dead_letter, DeadLetter)):
        mine = [x.source for d in drivers.values() for x in d._read(topic, kind)]
        verdict.count(
            kind.__name__, map(str, mine), [str(x.source) for x in world.read(topic, kind)]
        )

    tables = world.tables() if records is None else records
    histories = {u: h for d in drivers.values() for u, h in d.histories().items()}
    verdict.count("users", histories, tables)
    for user, (record, held) in tables.items():
        mine = history_bytes(record, held.entries)
        same = mine == histories.get(user, mine)
        verdict.expect(f"history of {user}", equal=same)
    users, totals = judged_of(world)
    verdict.count("users of the plain oracle", users, tables)
    for user, (record, _) in tables.items():
        same = user not in users or told(record) == users[user].aggregates()
        verdict.expect(f"history of {user} against the plain oracle", equal=same)
    seen = [(p.source.partition, p.source.offset) for p in got]
    verdict.expect("number of events scored", equal=len(set(seen)) == totals["accepted"])
    return verdict, drivers


def judged_of(world: World) -> tuple[dict[str, UserHistory], dict[str, int]]:
    """What the plain oracle says of the log of a world."""
    valid, settings = _valid(world), world.settings
    rules = ReplayRules(
        settings.worker.history_gap_ms,
        settings.state.grace_ms,
        settings.state.grace_ms,
        settings.churn.replay_tick_ms,
    )
    replays = {partition: Replays(rules) for partition in world.partitions}
    came = []
    for event, partition, stamp in valid:
        loaded = stamp - event.event_time > settings.worker.history_age_ms
        on_time = False
        if settings.worker.clock == "event" or (settings.worker.clock == "auto" and loaded):
            *_, on_time = replays[partition].take(event.event_time, event.user_id, stamp)
        came.append((loaded, on_time))
    return judged_by_oracle([event for event, _, _ in valid], settings.state, came)


def valid_events(world: World) -> list[Event]:
    """The events of the log, partition after partition, without those that are none."""
    return [event for event, _, _ in _valid(world)]


def _valid(world: World) -> list[tuple[Event, int, int]]:
    """The same, with partition and Kafka timestamp of each."""
    events: list[tuple[Event, int, int]] = []
    worker = world.settings.worker
    replay, grace = worker.clock == "event", world.settings.state.grace_ms
    log = world.raw(world.settings.topics.events)
    for record in sorted(log, key=lambda r: (r.partition, r.offset)):
        with contextlib.suppress(InvalidEvent):
            event = decode_event(record.value, worker.max_event_bytes)
            key, partitions = event.user_id.encode(), len(world.partitions)
            if (
                record.key == key
                and partition_of(key, partitions) == record.partition
                and (replay or event.event_time <= record.timestamp + worker.max_future_ms)
            ):
                if not replay and event.event_time > record.timestamp + grace:
                    event = msgspec.structs.replace(event, event_time=record.timestamp)
                events.append((event, record.partition, record.timestamp))
    return events


def assert_equal_to_serial(world: World, scorer: Scorer) -> None:
    """Demand that nothing is lost, doubled or wrong."""
    verdict, _ = judge(world, scorer)
    assert not verdict.wrong, verdict
