"""A worker process: Faust app, partitions, model and heartbeats, from start to a clean end.

Whatever fails first ends the worker with that error, within seconds.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import structlog
from aiokafka import TopicPartition

from stream.config.settings import Settings
from stream.errors import ScorerFailed, WorkerError
from stream.health.identity import WorkerIdentity
from stream.kafka.transport import LogState
from stream.partition.assignment import Assignment
from stream.partition.at_least_once import AtLeastOnce
from stream.partition.commit import Committer
from stream.partition.engine import Engine
from stream.partition.eraser import Eraser
from stream.partition.exactly_once import ExactlyOnce
from stream.partition.opening import Parts, PipelineFactory
from stream.partition.partition import PartitionTask
from stream.partition.processing import Surroundings
from stream.pipeline.due_times import DueOf
from stream.pipeline.fallback import Lineup, checked
from stream.pipeline.hidden import ScorerLike
from stream.pipeline.outbox import output_topics
from stream.pipeline.rollout import Serving, Trials
from stream.storage.store_options import StoreMemory
from stream.worker.app import WorkerApp
from stream.worker.supervision import Supervision

START_TIMEOUT_S: Final = 45.0
STOP_TIMEOUT_S: Final = 8.0

log = structlog.get_logger(__name__)


class Companion(Protocol):
    """Something that runs beside the partitions."""

    async def run(self, worker: "Worker") -> None:
        """Go on until cancelled; the worker ends when this raises or returns."""

    async def finish(self, worker: "Worker") -> None:
        """Say goodbye; called after `run` is cancelled and the partitions are closed."""


def ended_early(done: Iterable[asyncio.Future[Any]]) -> str:
    """What is said of parts that returned although the worker goes on, each named by its task."""
    names = sorted(part.get_name() for part in done if isinstance(part, asyncio.Task))
    return (
        f"{' and '.join(names)} ended, which should go on as long as the worker: a bug of"
        " intentstream, please report it with the log; restart the worker"
    )


class Worker:
    """Owns everything that one worker process runs."""

    def __init__(
        self,
        settings: Settings,
        *,
        new_pipeline: PipelineFactory,
        due_of: DueOf,
        scorer: Any,
        companions: Sequence[Companion] = (),
        last_resort: Callable[[], ScorerLike] | None = None,
        new_eraser: Callable[[TopicPartition], Eraser] | None = None,
        trials: Trials | None = None,
        trial_failed: Callable[[str, str], None] | None = None,
        inputs_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Start nothing.

        Args:
            settings: of the whole application.
            new_pipeline: builds a partition's pipeline; `stream.pipeline.pipeline.Pipeline`.
            due_of: due times that stored user records ask for.
            scorer: model to begin with.
            companions: what runs beside the partitions: model reload, heartbeats.
            last_resort: makes the model that serves when all others fail.
            new_eraser: makes what reads a partition's requests to forget users.
            trials: canary and shadow to begin with.
            trial_failed: called with version and reason of a model on trial that fails.
            inputs_ready: False while events have to wait for something that they need.
        """
        self.settings = settings
        # Checked once, not in each partition: their small micro-batches are scored together.
        self.lineup = Lineup(checked(scorer), last_resort)
        self.trials = (trials or Trials()).checked()
        self._trial_failed = trial_failed
        self.identity = WorkerIdentity.acquire(settings.data_dir / "state" / settings.app_id)
        self.engine = Engine()
        self.assignment = Assignment(self._new_task)
        self.app = WorkerApp(settings, self.assignment, self.identity.name)
        self.supervision = Supervision(self)
        self._stop = asyncio.Event()
        self._companions = companions
        parts = Parts(
            settings=settings,
            engine=self.engine,
            memory=StoreMemory(),
            new_committer=self._new_committer,
            new_pipeline=new_pipeline,
            scorer=self._serving,
            due_of=due_of,
            new_eraser=new_eraser,
        )
        self._around = Surroundings(
            parts=parts,
            log=self,
            acknowledge=self.app.acknowledge,
            room_changed=self.assignment.room.set,
            set_aside=self._set_aside,
            confirm_topic=self.supervision.confirm_topic,
            metrics=self.supervision.metrics,
            inputs_ready=inputs_ready,
        )

    def stop(self) -> None:
        """Ask for a clean end: commit what is processed, then leave the group."""
        self._stop.set()

    async def run(self) -> None:
        """Run until stopped.

        Raises:
            StreamError: what ended the worker.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        beside: list[asyncio.Future[Any]] = []
        try:
            self.supervision.start()
            await self._start()
            self.supervision.started()
            beside = [
                asyncio.create_task(companion.run(self), name=type(companion).__name__)
                for companion in self._companions
            ]
            watch = asyncio.create_task(self.supervision.run(), name="Supervision")
            stop: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
            beside += [watch, stop]
            # What exists now stays: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            watched: set[asyncio.Future[Any]] = {*beside, self.assignment.failed}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
            if stop not in done:
                raise WorkerError(ended_early(done))
        finally:
            await self._end(beside)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    @property
    def scorer(self) -> Any:
        """The newest model, whether it serves or has been set aside."""
        return self.lineup.champion

    async def replace_scorer(self, scorer: Any) -> None:
        """Serve another model in all partitions, now and when one is opened."""
        self.lineup.promote(checked(scorer))
        await self.assignment.replace_scorer(self._serving())

    async def replace_trials(self, trials: Trials) -> None:
        """Serve other models on trial in all partitions."""
        self.trials = trials.checked()
        await self.assignment.replace_scorer(self._serving())

    def _serving(self) -> Serving:
        return Serving(self.lineup.serving, self.trials)

    async def reinstate_scorer(self) -> None:
        """Try a model that was set aside again, if it is time."""
        if self.lineup.reinstate():
            await self.assignment.replace_scorer(self._serving())

    async def _set_aside(self, failure: ScorerFailed) -> bool:
        left = self.trials.without(failure.version)
        if left != self.trials:
            log.error("a model on trial fails and is dropped", model=failure.version)
            if self._trial_failed is not None:
                self._trial_failed(failure.version, str(failure))
            await self.replace_trials(left)
            return True
        before = self.lineup.serving
        found = self.lineup.set_aside(failure.version)
        if self.lineup.serving is not before:
            await self.assignment.replace_scorer(self._serving())
        return found

    # --- the partitions' side of the transport -----------------------------------------------

    async def move_to(self, tp: TopicPartition, offset: int) -> None:
        """Make `offset` the next one to be fetched."""
        await self.app.intake.thread.move_to(tp, offset)

    def log_state(self, tp: TopicPartition) -> LogState | None:
        """Return what the last fetch response said about a partition."""
        return self.app.intake.thread.log_state(tp)

    # --- parts -------------------------------------------------------------------------------

    def _new_task(self, tp: TopicPartition) -> PartitionTask:
        return PartitionTask(tp, self._around)

    def _new_committer(self, tp: TopicPartition) -> Committer:
        settings = self.settings
        options = settings.kafka.client_options()
        outputs = output_topics(settings.topics).values()
        if settings.worker.guarantee == "exactly_once":
            return ExactlyOnce(
                options,
                app_id=settings.app_id,
                source=tp,
                changelog=settings.changelog,
                outputs=outputs,
            )
        return AtLeastOnce(
            options,
            app_id=settings.app_id,
            source=tp,
            changelog=settings.changelog,
            outputs=outputs,
            commit_offset=self.app.intake.thread.commit_offset,
        )

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self.app.start()
        except TimeoutError as error:
            raise WorkerError(
                f"the worker did not join group {self.settings.app_id} within"
                f" {START_TIMEOUT_S:g} s; check the broker at"
                f" {self.settings.kafka.bootstrap_servers}, and this client's rights on the group"
            ) from error

    async def _end(self, beside: list[asyncio.Future[Any]]) -> None:
        self.supervision.ending()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await self.assignment.close()
        for companion in self._companions:
            await companion.finish(self)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.app.stop()
        except TimeoutError:
            log.warning("Faust does not stop in time", seconds=STOP_TIMEOUT_S)
        if self.assignment.failed.done():
            self.assignment.failed.exception()  # seen: what ended the worker is raised by `run`
        self.engine.close()
        self.identity.close()
        self.supervision.close()
