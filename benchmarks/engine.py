"""CPU time of the pure pipeline per event and stage: `python -m benchmarks.engine`.

One partition without Kafka, over a store that keeps nothing: what the engine's thread does from
records to a drained outbox, a commit per micro-batch. The clock is that of this thread, so other
load on the machine blurs the figures but does not add to them.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer

from benchmarks.model import scorer as untrained
from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.events import CartAdd, Event, Purchase, Search, View
from stream.config.settings import Settings
from stream.pipeline import ingest, scoring, state, step
from stream.pipeline.churn import ChurnWatch
from stream.pipeline.emit import Emitter
from stream.pipeline.fallback import CheckedScorer
from stream.pipeline.records import Records, Row
from stream.storage.store_memory import MemoryStore
from stream.testing import PipelineDriver

Emit = Literal["every", "latest"]
SIGMA = 1.5
"""Of the users' log-normal activity."""
SPACING_MS = 20
KINDS: tuple[type[Event], ...] = (View, View, View, View, CartAdd, Search, Purchase)
STAGES: tuple[tuple[str, Any, str], ...] = (
    ("decode", ingest.Ingest, "decode"),
    ("rows", state.UserTable, "rows"),
    ("order and state", step, "take_events"),
    ("features", step, "input_features"),
    ("features", step, "profile"),
    ("states", CheckedScorer, "encode"),
    ("states", CheckedScorer, "advance"),
    ("heads", CheckedScorer, "probabilities"),
    ("judge, rest", scoring, "judge"),
    ("emit", Emitter, "predictions"),
    ("churn", ChurnWatch, "after_events"),
    ("alerts", Emitter, "alerts"),
    ("drain and seal", state.UserTable, "drain"),
)
"""(stage, where, name of the function); what one does inside another counts for the inner one."""


class Clock:
    """CPU seconds of this thread by stage, each without the stages inside it."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.seconds: dict[str, float] = {}
        self._inside = 0.0

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, which notes its time under `stage`."""

        def call(*arguments: Any, **options: Any) -> Any:
            before, self._inside = self._inside, 0.0
            begun = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                took = time.thread_time() - begun
                self.seconds[stage] = self.seconds.get(stage, 0.0) + took - self._inside
                self._inside = before + took

        return call


@contextmanager
def stages(clock: Clock) -> Iterator[None]:
    """Note the time of every stage while the block runs."""
    originals = [(where, name, getattr(where, name)) for _, where, name in STAGES]
    for (stage, where, name), (_, _, function) in zip(STAGES, originals, strict=True):
        setattr(where, name, clock.timed(stage, function))
    try:
        yield
    finally:
        for where, name, function in originals:
            setattr(where, name, function)


class Sink(MemoryStore):
    """A store that keeps nothing."""

    def apply(self, changelog: Any, timers: Any, changelog_offset: int) -> None:
        """Drop it all."""


def make_log(events: int, users: int, hot_share: float = 0.0, disorder_ms: int = 0) -> Records:
    """Records of log-normally active users, the newest of now.

    Args:
        events: how many.
        users: of how many users.
        hot_share: share of events that one user sends.
        disorder_ms: events are up to so much older than their place in the log.
    """
    rng = np.random.default_rng(1)
    share = np.exp(rng.normal(0, SIGMA, users))
    user = rng.choice(users, events, p=share / share.sum())
    user[rng.random(events) < hot_share] = 0
    now = int(time.time() * 1000)
    times = now - (events - np.arange(events)) * SPACING_MS
    times -= rng.integers(0, disorder_ms + 1, events)
    kind, item = rng.integers(0, len(KINDS), events), rng.integers(0, 50_000, events)
    price = np.round(rng.random(events) * 100, 2)
    log = [
        KINDS[kind[i]](
            event_id=f"event-{i:09d}",
            user_id=f"user-{user[i]:07d}",
            event_time=int(times[i]),
            session_id=f"session-{user[i]}",
            item_id=f"item-{item[i]}",
            category_id=f"category-{item[i] % 300}",
            price=float(price[i]),
            quantity=1 + i % 3,
            currency="GBP",
        )
        for i in range(events)
    ]
    return Records.of(
        Row(n, now, event.user_id.encode(), encode(event)) for n, event in enumerate(log)
    )


def run(scorer: Scorer, records: Records, batch: int, clock: Clock, emit: str = "every") -> float:
    """Pipe the records through a new pipeline; CPU microseconds per event."""
    settings = Settings(worker={"clock": "wall", "emit": emit, "cache_records": 1_000_000})
    driver = PipelineDriver(scorer, settings, Sink())
    begun = time.thread_time()
    with stages(clock):
        for at in range(0, len(records), batch):
            driver.pipeline.process(records[at : at + batch])
            driver.pipeline.committed(driver.pipeline.drain())
    took = time.thread_time() - begun
    consumed = driver.pipeline.counters
    if consumed.accepted + consumed.late + consumed.duplicate != len(records):
        raise SystemExit(f"the pipeline refused events: {consumed}")
    clock.seconds["rest"] = took - sum(clock.seconds.values())
    return took / len(records) * 1e6


def main(
    events: Annotated[int, typer.Option(min=1000, help="Events of each log.")] = 400_000,
    users: Annotated[int, typer.Option(min=1, help="Users.")] = 100_000,
    batch: Annotated[int, typer.Option(min=1, help="Records of a micro-batch.")] = 4096,
    runs: Annotated[int, typer.Option(min=1, help="Repetitions; the quickest counts.")] = 3,
    emit: Annotated[Emit, typer.Option(help="Predictions: of each event or each user.")] = "every",
) -> None:
    """Print microseconds of CPU per event by stage, for three kinds of log."""
    torch.set_num_threads(1)
    scorer = untrained()
    logs = {
        "log-normal": make_log(events, users),
        "hot user": make_log(events, users, hot_share=0.5),
        "disordered": make_log(events // 4, max(users // 100, 1), disorder_ms=300_000),
    }
    best: dict[str, tuple[float, Clock]] = {}
    for name, records in logs.items():
        run(scorer, records[: 4 * batch], batch, Clock())
        for _ in range(runs):
            clock = Clock()
            took = run(scorer, records, batch, clock, emit)
            best[name] = min(best.get(name, (took, clock)), (took, clock), key=lambda b: b[0])
    names = list(dict.fromkeys([*(stage for stage, _, _ in STAGES), "rest"]))
    print(f"{'CPU us per event':<18}", *(f"{name:>12}" for name in logs))
    for stage in names:
        figures = (
            clock.seconds.get(stage, 0.0) / len(logs[name]) * 1e6
            for name, (_, clock) in best.items()
        )
        print(f"{stage:<18}", *(f"{figure:12.2f}" for figure in figures))
    print(f"{'all':<18}", *(f"{took:12.2f}" for took, _ in best.values()))
    print(f"{'events per CPU-s':<18}", *(f"{1e6 / took:12,.0f}" for took, _ in best.values()))
    sys.stdout.flush()


if __name__ == "__main__":
    typer.run(main)
