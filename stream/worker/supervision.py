"""What looks after a worker: checks that end it at once, signs of life for the watchdog, pages.

Faust is known to die quietly, so everything that may end or stand still is watched here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from models.serving.thresholds import in_effect
from stream.config.targets import wanted_of
from stream.errors import StreamError, TopicLayoutError, WorkerError
from stream.health.health import Health, PartitionHealth, Phase, answer
from stream.health.metrics import Metrics
from stream.health.vitals import Sign
from stream.health.watchdog import Watchdog, cluster_answers
from stream.health.web import WebServer
from stream.kafka.same_topics import SameTopics, log_new_outputs, refuse
from stream.kafka.topics import PARTITIONS_CHANGED
from stream.pipeline.outbox import output_topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faust.types.tuples import TP

    from models.serving.thresholds import InEffect
    from stream.config.settings import Settings
    from stream.health.identity import WorkerIdentity
    from stream.kafka.transport import LogState
    from stream.partition.assignment import Assignment
    from stream.partition.partition import PartitionTask
    from stream.pipeline.fallback import Lineup
    from stream.worker.app import WorkerApp

END_LIMIT_S: Final = 27.0
"""A worker that is asked to end and has not ended by then is cut off."""
_CHECK_S: Final = 0.5


class Watched(Protocol):
    """What is looked at of a worker."""

    settings: Settings
    identity: WorkerIdentity
    app: WorkerApp
    assignment: Assignment
    lineup: Lineup

    def log_state(self, tp: TP) -> LogState | None:
        """What the last fetch response said about a partition."""
        ...

    async def reinstate_scorer(self) -> None:
        """Try a model that was set aside again, if it is time."""
        ...


class Supervision:
    """Watches one worker from its start to its end."""

    def __init__(self, worker: Watched) -> None:
        """Start nothing; called on the worker's event loop."""
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.phase: Phase = "starting"
        settings = worker.settings
        topics = {settings.topics.events, settings.changelog}
        self._watchdog = Watchdog(
            self._signs,
            self._fail,
            stall_s=settings.worker.stall_ms / 1000,
            cluster_answers=lambda: cluster_answers(settings.kafka.client_options(), topics),
        )
        self._web: WebServer | None = None
        self._outputs = {*output_topics(settings.topics).values()}
        self._same_topics = SameTopics(
            [*topics, settings.topics.erase, settings.topics.models, *sorted(self._outputs)],
            self._topic_ids,
        )

    def start(self) -> None:
        """Begin to watch the event loop, and open the pages where they are wanted.

        Raises:
            WorkerError: the pages' address cannot be had.
        """
        settings = self._worker.settings.worker
        if settings.http_port is not None:
            self._web = WebServer(
                settings, lambda: answer(self.health()), lambda: self.metrics.text(self.health())
            )
            self._web.start()
        self._watchdog.watch_loop("main event loop", self._loop)
        self._watchdog.start()

    def started(self) -> None:
        """Begin to watch everything else: the worker is in its group."""
        thread = self._worker.app.intake.thread
        self._watchdog.watch_loop("event loop of the consumer", thread.thread_loop)
        self.phase = "running"

    def ending(self) -> None:
        """Cut the process off if it has not ended in time."""
        self.phase = "stopping"
        self._watchdog.ending(END_LIMIT_S)

    def close(self) -> None:
        """Stop watching: the worker has ended."""
        self._watchdog.rest()
        if self._web is not None:
            self._web.close()

    def health(self) -> Health:
        """Look at the worker; from any thread."""
        return health_of(self._worker, self.phase, self._watchdog.problems)

    async def run(self) -> None:
        """Go on until cancelled.

        Raises:
            WorkerError: a part of Faust ended.
            TopicLayoutError: the source topic is not what it was.
            TopicReplaced: a topic that is read was deleted and created again.
        """
        # Before the first commit: what is made again right after it is noticed too.
        await self._check_same_topics()
        while True:
            await asyncio.sleep(_CHECK_S)
            self._check_faust()
            self.check_topic()
            await self._check_same_topics()
            await self._worker.reinstate_scorer()

    async def _check_same_topics(self) -> None:
        again = {*await self._same_topics.replaced()}
        log_new_outputs(again & self._outputs, self._worker.identity.name)
        refuse(again - self._outputs)

    def _check_faust(self) -> None:
        app = self._worker.app
        for service in (app, app.consumer, app.intake.thread, *app.agents.values()):
            if service.crashed or service.should_stop:
                reason = getattr(service, "crash_reason", None)
                if isinstance(reason, StreamError):
                    raise reason  # it says what to do
                raise WorkerError(
                    f"Faust's {service.label} ended: {reason!r}; restart the worker"
                ) from reason

    async def _topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return await self._worker.app.intake.thread.topic_ids(topics)

    async def confirm_topic(self) -> None:
        """Do `check_topic` with what the broker says now."""
        await self._worker.app.intake.thread.refresh_metadata()
        self.check_topic()

    def check_topic(self) -> None:
        """A topic that changes under a running worker must stop it before it writes more.

        Raises:
            TopicLayoutError: the source topic is gone, or partitions were added.
        """
        topics = self._worker.settings.topics
        topic, expected = topics.events, topics.partitions
        count = self._worker.app.intake.thread.partition_count(topic)
        if not count:
            problem = "is gone while the worker runs: restore it, or use a new app_id for a new one"
        elif count != expected:
            problem = f"has {count} partitions instead of {expected}: {PARTITIONS_CHANGED}"
        else:
            return
        raise TopicLayoutError([f"topic {topic} {problem}"])

    def _signs(self) -> Iterator[Sign]:
        """Yield what is under way; in the watchdog's thread."""
        if self.phase != "running":
            return
        worker, thread = self._worker, self._worker.app.intake.thread
        if not worker.assignment.joined:
            yield Sign("joining the group", None, waits_for_cluster=True)
        tasks = worker.assignment.tasks
        for task in tasks:
            yield from task.signs()
            if task.has_room:
                yield Sign(f"{task.where}: fetching", thread.fetches[task.tp], True)
                state = thread.log_state(task.tp)
                answered = state.polled_at_ms if state else None
                yield Sign(f"{task.where}: answers to fetches", answered, True)
        if not worker.app.agents_alive:
            yield Sign("Faust's agent, which has ended", None)
        given, owned = thread.assigned(), frozenset(task.tp for task in tasks)
        if given != owned:
            yield Sign("taking over the partitions assigned", (given, owned), True)

    def _fail(self, error: BaseException) -> None:
        """End the worker because of an error; from the watchdog's thread."""
        self._loop.call_soon_threadsafe(self._worker.assignment.fail, error)


def health_of(worker: Watched, phase: Phase, problems: tuple[str, ...]) -> Health:
    """Look at a worker; from any thread. `problems`: what stands still."""
    tasks = sorted(worker.assignment.tasks, key=lambda task: task.tp.partition)
    partitions = tuple(_partition(worker, task) for task in tasks)
    all_open = worker.assignment.joined and all(p.state == "open" for p in partitions)
    return Health(
        ready=phase == "running" and all_open and not problems,
        phase=phase,
        worker=worker.identity.name,
        model=worker.lineup.serving.version,
        problems=problems,
        partitions=partitions,
        raise_at=raising(worker),
    )


def raising(worker: Watched) -> InEffect:
    """From which risk on a worker raises alerts."""
    churn = worker.settings.churn
    return in_effect(worker.lineup.serving, wanted_of(churn), churn.raise_at)


def _partition(worker: Watched, task: PartitionTask) -> PartitionHealth:
    snapshot, progress, state = task.snapshot, task.progress, task.state
    step = ""
    if state != "open":
        step = progress.step + (f" at {progress.done} of {progress.end}" if progress.end else "")
    if snapshot is None:
        return PartitionHealth(partition=task.tp.partition, state=state, step=step)
    known = worker.log_state(task.tp)
    return PartitionHealth(
        partition=task.tp.partition,
        state=state,
        step=step,
        offset=snapshot.offset,
        lag=max((known.high_water if known else 0) - snapshot.offset, 0),
        blocked_at=task.blocked_at,
        watermark=snapshot.watermark,
        counters=snapshot.counters,
        stability=task.stability,
    )
