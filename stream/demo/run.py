"""The demo from its first event to its summary; everything that it starts, it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiokafka.admin import AIOKafkaAdminClient

from models.targets import CHURN
from stream.broker import EmbeddedKafka
from stream.demo.collector import Collector
from stream.demo.errors import DemoError
from stream.demo.feed import Feed
from stream.demo.guard import Guards
from stream.demo.place import run_prefix, start_broker
from stream.demo.plan import Thresholds
from stream.demo.processes import Child, run_child, running_child
from stream.demo.summary import summary
from stream.kafka.topics import create_topics, required_topics
from stream.replay.pace import Pace
from stream.replay.produce import produce
from stream.replay.report import Report

if TYPE_CHECKING:
    from stream.config.settings import Settings
    from stream.demo.place import Place
    from stream.demo.plan import Plan
    from stream.demo.view import View

__all__ = ["Demo", "Options"]

_STALLED_S: Final = 90.0
_SECONDS_PER_REFRESH: Final = 60
_SECONDS_PER_RECALIBRATION: Final = 10
_REFUSAL: Final = "nothing published"
_UNKNOWN_RATE: Final = 0.5


@dataclass(frozen=True)
class Options:
    """How the demo is run."""

    seconds: float = 120
    """How long the live part takes."""
    servers: str = ""
    """An external cluster; empty: the embedded broker."""
    config: Path | None = None
    """The user's own settings, for the cluster."""

    @property
    def refreshes(self) -> int:
        """How often the model is trained again while events flow."""
        return max(int(self.seconds // _SECONDS_PER_REFRESH), 1)


class Demo:
    """One run."""

    def __init__(self, plan: Plan, place: Place, options: Options, view: View) -> None:
        """Start nothing."""
        self._plan = plan
        self._place = place
        self._options = options
        self._view = view
        self._report = Report()
        self._feed = Feed(plan, self._report)
        self._guards = Guards()
        self._trained = 0
        self._recalibrated = 0
        self._refused: list[str] = []

    async def run(self) -> dict[str, Any]:
        """Run it; returns the summary.

        Raises:
            DemoError: a part failed.
            IntentStreamError: the broker or the data cannot be used.
        """
        began = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._guards.close)
            self._guards.add(self._view.follow())
            settings = await self._prepare(stack)
            rules = self._plan.outcome_rules()
            collector = Collector(settings, rules)
            self._view.show(self._plan, collector, self._report)
            following = self._guards.add(collector.follow())
            settings = await self._learn(settings)
            self._view.phase("catching up on the history")
            command, log = self._command("worker"), self._place.log("worker")
            async with running_child("the worker", command, log, self._env(settings)) as worker:
                await self._work(worker, settings, collector)
            collector.finish()
            await following
            self._view.phase("done")
        seconds = time.monotonic() - began
        return summary(
            self._plan, collector, self._report, self._options.seconds, seconds, self._refused
        )

    async def _prepare(self, stack: contextlib.AsyncExitStack) -> Settings:
        """Broker, settings, topics."""
        servers, prefix = self._options.servers, run_prefix()
        if servers:
            self._place.clear(broker=False)
        else:
            self._view.phase("starting the broker")
            servers, prefix, ours = await asyncio.to_thread(
                start_broker, self._place, self._view.say
            )
            if ours:
                stop = EmbeddedKafka(self._place.broker).stop
                stack.push_async_callback(asyncio.to_thread, stop)
        settings = self._place.settings(
            self._options.config, servers, prefix, self._plan.overrides()
        )
        self._place.write(settings)
        await create_topics(settings)
        if prefix:
            stack.push_async_callback(_delete_topics, settings)
        self._view.say(
            f"Kafka at {servers}; to look inside: intentstream watch predictions --config"
            f" {self._place.config}"
        )
        return settings

    async def _learn(self, settings: Settings) -> Settings:
        """Produce the history, train on it, and set the alert thresholds by what was learnt."""
        self._view.phase("replaying the history")
        await self._produce(settings, self._plan.cut, float("inf"))
        if not self._report.sent:
            raise DemoError(f"{self._plan.file}: no event before the live part begins")
        self._view.phase("training on the history")
        await self._guards.run(self._train(settings, self._plan.cut))
        churn_rate = _UNKNOWN_RATE if self._refused else self._churn_rate()
        thresholds = Thresholds.of(churn_rate)
        churn = settings.churn.model_copy(update=asdict(thresholds))
        settings = settings.model_copy(update={"churn": churn})
        self._place.write(settings)
        self._view.say(
            f"churn alerts from a risk of {thresholds.raise_at:.0%} on (rate of churn:"
            f" {churn_rate:.0%})"
        )
        return settings

    async def _work(self, worker: Child, settings: Settings, collector: Collector) -> None:
        """Replay the live part into the running worker, and end it when all is consumed."""
        stays = self._guards.add(worker.stays())
        await self._consumed(collector)
        await self._replay(settings, collector)
        self._view.phase("waiting for the worker")
        await self._consumed(collector)
        self._guards.release(stays)
        status = await worker.end()
        if status != 0:
            raise worker.failed(status)

    async def _replay(self, settings: Settings, collector: Collector) -> None:
        plan = self._plan
        speed = (plan.until - plan.cut) / 1000 / self._options.seconds
        training: asyncio.Task[None] | None = None
        milestones = plan.milestones(self._options.refreshes)
        begin = plan.cut
        for milestone in milestones:
            self._view.phase("live" if training is None else "live, and training on it")
            await self._part(settings, collector, (begin, milestone), speed, training)
            if training is not None:
                self._view.phase("waiting for the new model")
                await self._guards.run(_result(training))
                await self._adopted(collector)
                await self._guards.run(self._recalibrate(settings, collector))
                training = None
            if self._trained <= self._options.refreshes and milestone != milestones[-1]:
                # One thread: the other core is the worker's.
                training = self._guards.add(self._train(settings, milestone, "--threads", "1"))
            begin = milestone

    async def _part(
        self,
        settings: Settings,
        collector: Collector,
        span: tuple[int, int],
        speed: float,
        training: asyncio.Task[None] | None,
    ) -> None:
        """Replay a part; where nothing is trained the model that serves is recalibrated in it.

        Never beside a training: both announce who serves.
        """
        begin, end = span
        steps = max(int((end - begin) / 1000 / speed // _SECONDS_PER_RECALIBRATION), 1)
        recalibrating: asyncio.Task[None] | None = None
        for step in range(steps):
            if training is None:
                recalibrating = self._guards.add(self._recalibrate(settings, collector))
            await self._produce(settings, begin + (end - begin) * (step + 1) // steps, speed)
            if recalibrating is not None:
                await self._guards.run(_result(recalibrating))

    async def _recalibrate(self, settings: Settings, collector: Collector) -> None:
        """Map the champion's probabilities to the labels that have matured in the topic so far."""
        if not collector.models:
            return
        self._recalibrated += 1
        log = self._place.log(f"recalibration-{self._recalibrated}")
        name = f"recalibration {self._recalibrated}"
        environment = self._env(settings) | {"OMP_NUM_THREADS": "1"}
        await run_child(name, self._command("recalibrate"), log, environment)

    async def _produce(self, settings: Settings, until: int, speed: float) -> None:
        rows = self._feed.before(until)
        await self._guards.run(produce(settings, rows, pace=Pace(speed), report=self._report))

    async def _train(self, settings: Settings, until: int, *more: str) -> None:
        """Train on the events before `until`: the log may hold later ones by now.

        A model that is no better than its baselines is not published, and the one before it, at
        first the cold-start model, goes on: that is no failure.
        """
        self._trained += 1
        log = self._place.log(f"trainer-{self._trained}")
        arguments = ["--until", str(until - 1), "--json", str(self._manifest()), *more]
        command = [*self._command("train"), *arguments]
        try:
            await run_child(f"trainer run {self._trained}", command, log, self._env(settings))
        except DemoError as error:
            if not error.said.startswith(_REFUSAL):
                raise
            self._refused.append(error.said)
            self._view.say(error.said)

    def _manifest(self) -> Path:
        return self._place.log(f"trainer-{self._trained}").with_suffix(".json")

    def _churn_rate(self) -> float:
        manifest = json.loads(self._manifest().read_text(encoding="utf-8"))
        # A model that was fitted without labels knows of no rate.
        return float(manifest["metrics"].get(f"{CHURN}.base_rate", _UNKNOWN_RATE))

    def _command(self, name: str) -> list[str]:
        return [name, "--config", str(self._place.config)]

    def _env(self, settings: Settings) -> dict[str, str]:
        return self._place.environment(settings)

    async def _consumed(self, collector: Collector) -> None:
        """Wait until the worker has committed everything that was sent."""
        await self._guards.until(
            lambda: collector.total("consumed") >= self._report.sent,
            lambda: (len(collector.heartbeats), collector.total("consumed")),
            _STALLED_S,
            f"the worker, see {self._place.log('worker')}",
        )

    async def _adopted(self, collector: Collector) -> None:
        """Wait until the worker serves the model that was published last."""
        await self._guards.until(
            lambda: (
                len(collector.models) >= self._trained - len(self._refused)
                and (not collector.models or collector.serving == {[*collector.models][-1]})
            ),
            lambda: collector.serving,
            _STALLED_S,
            f"the worker to take over the new model, see {self._place.log('worker')}",
        )


async def _result(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


async def _delete_topics(settings: Settings) -> None:
    """Leave a cluster that is not the demo's own as it was."""
    admin = AIOKafkaAdminClient(**settings.kafka.client_options())
    try:
        await admin.start()
        await admin.delete_topics([spec.name for spec in required_topics(settings)])
    finally:
        await admin.close()
