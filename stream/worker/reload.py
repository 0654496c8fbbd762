"""Follows `models.published`: verifies a new model, warms it up, swaps it in.

Everything about a model, its signature first, is checked before it is opened
(`models.serving.artifact`, `models.serving.signing`) and the opening happens off the event loop. A
model that is refused is counted and logged with its reason, and the one before it goes on. A canary
or shadow that is refused is not served, and the champion scores alone.

A recalibration of a model is announced within the model's announcement and is swapped in as a model
is, without opening the model again. One that is refused leaves the one before it in effect.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from models.errors import ArtifactError
from models.populations import EVENT
from models.serving.recalibration import Recalibrator, read_recalibration
from models.serving.scorer import Scorer
from models.targets import Target
from schemas.codec import decode
from schemas.control import ModelPublished, RecalibrationPublished
from schemas.errors import IntentStreamError, InvalidMessage
from stream.config.settings import Settings
from stream.config.trust import manifest_check, trusted_keys
from stream.errors import WorkerError
from stream.kafka.clients import stop_consumer
from stream.pipeline.fallback import checked
from stream.pipeline.rollout import Announced, Trials
from stream.worker.loading import deaths_remembered, in_bounded_time
from stream.worker.worker import Worker

READ_TIMEOUT_S: Final = 20.0
OPENING: Final = "models-opening"
"""Folder below the data folder with a file for each model that is being opened."""
_POLL_MS: Final = 500

log = structlog.get_logger(__name__)

Load = Callable[[ModelPublished, Settings], Scorer]


class ModelFollower:
    """Keeps a worker on the newest champion that can be served."""

    def __init__(
        self, settings: Settings, load: Load | None = None, timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        """Start nothing; `start` reads what is published already, within `timeout_s`."""
        self._settings = settings
        self._timeout_s = timeout_s
        self._load = load or load_model
        self._consumer: AIOKafkaConsumer | None = None
        self._announced = Announced()
        self.trials = Trials()
        """Models on trial, as of the last reading."""
        self._refused: dict[str, str] = {}
        self.refusals = 0

    async def start(self) -> Scorer | None:
        """Read the announcements so far; return the newest champion that loads, None without one.

        Raises:
            WorkerError: the topic cannot be read.
        """
        topic = self._settings.topics.models
        consumer = AIOKafkaConsumer(
            topic,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            **self._settings.kafka.client_options(),
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await consumer.start()
                self._consumer = consumer
                ends = await consumer.end_offsets(consumer.assignment())
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                        self._note(records)
        except (KafkaError, TimeoutError) as error:
            await stop_consumer(consumer)
            self._consumer = None
            raise WorkerError(
                f"{topic} cannot be read: {error!r}; check the broker and `intentstream topics"
                " check`"
            ) from error
        self.trials = await self._on_trial(self.trials)
        newest: Scorer | None = await self._newest(None)
        return newest

    async def run(self, worker: Worker) -> None:
        """Swap in every new champion until cancelled."""
        consumer = self._consumer
        if consumer is None:
            raise WorkerError("the model follower was not started")
        while True:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            for records in fetched.values():
                self._note(records)
            if fetched:
                before = worker.scorer
                scorer = await self._newest(before)
                if scorer is not None:
                    await worker.replace_scorer(scorer)
                    log.info(
                        "model is swapped",
                        model=scorer.version,
                        before=before.version,
                        recalibration=_mapped_by(scorer),
                    )
                self.trials = await self._on_trial(worker.trials)
                if self.trials != worker.trials:
                    await worker.replace_trials(self.trials)
                    canary, shadow = self.trials.versions()
                    log.info(
                        "trials changed", canary=canary, share=self.trials.share, shadow=shadow
                    )

    async def finish(self, worker: Worker) -> None:
        """Disconnect."""
        del worker
        await self.close()

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    def _note(self, records: list[ConsumerRecord]) -> None:
        """Keep what is announced, in order; a tombstone withdraws."""
        for record in records:
            version = (record.key or b"").decode("utf-8", "replace")
            self._announced.note(version, None)
            # What is announced again is tried again, the model and its recalibrations.
            self._refused = {
                name: why for name, why in self._refused.items() if name.split(" ")[0] != version
            }
            if record.value is None:
                log.info("model is withdrawn", model=version, reason=_reason(record))
                continue
            try:
                published = decode(ModelPublished, record.value)
            except InvalidMessage as error:
                self._refuse(version, f"offset {record.offset}: {error}")
                continue
            self._announced.note(published.version, published)

    async def _newest(self, serving: Any) -> Any:
        """Load the newest champion that can be served, None if it is the one being served."""
        for published in self._announced.of("champion"):
            scorer = await self._as_announced(published, serving)
            if scorer is serving is not None:
                return None
            if scorer is not None:
                return scorer
        return None

    async def _on_trial(self, now: Trials) -> Trials:
        """Load the newest canary and shadow, where they are not what is served now."""
        wanted: dict[str, Any] = {}
        share = 0.0
        for role, serving in (("canary", now.canary), ("shadow", now.shadow)):
            published = next(iter(self._announced.of(role)), None)  # type: ignore[arg-type]
            if published is None:
                wanted[role] = None
            else:
                wanted[role] = await self._as_announced(published, serving)
            if role == "canary" and published is not None and wanted[role] is not None:
                share = published.canary_share
        return Trials(wanted["canary"], share, wanted["shadow"])

    async def _as_announced(self, published: ModelPublished, serving: Any) -> Any:
        """The model with its recalibration: `serving` itself where it is that; None if refused.

        A recalibration that is refused leaves in effect what is, of a model just opened nothing.
        """
        wanted = published.recalibration
        same = serving is not None and serving.version == published.version
        if same and _mapped_by(serving) == (None if wanted is None else wanted.version):
            return serving
        scorer = serving if same else await self._open(published)
        if scorer is None or (wanted is None and not same):
            return scorer
        found = None
        if wanted is not None:
            name = f"{published.version} recalibrated {wanted.version}"
            if name in self._refused:
                return scorer
            try:
                found = open_recalibration(published, wanted, scorer.targets, self._settings)
            except IntentStreamError as error:
                self._refuse(name, str(error))
                return scorer
        if same:
            return checked(scorer).with_recalibration(found)
        scorer.recalibration = found
        return scorer

    async def _open(self, published: ModelPublished) -> Scorer | None:
        version = published.version
        if version in self._refused:
            return None
        limit_s = self._settings.models.load_limit_ms / 1000
        try:
            scorer = await in_bounded_time(partial(self._load, published, self._settings), limit_s)
        except IntentStreamError as error:
            self._refuse(version, str(error))
            return None
        except Exception as error:  # noqa: BLE001  # whatever opening a model may raise
            self._refuse(version, f"{type(error).__name__}: {error}")
            return None
        log.info("model is loaded", model=version, device=scorer.device, role=published.rollout)
        return scorer

    def fails(self, version: str, reason: str) -> None:
        """A model on trial fails: it is not loaded again before it is announced anew."""
        self.trials = self.trials.without(version)
        self._refuse(version, reason)

    def _refuse(self, version: str, reason: str) -> None:
        self._refused[version] = reason
        self.refusals += 1
        log.error("model is refused; the one before it goes on", model=version, reason=reason)


def _reason(record: ConsumerRecord) -> str:
    return next((v.decode("utf-8", "replace") for k, v in record.headers if k == "reason"), "")


def load_model(published: ModelPublished, settings: Settings) -> Scorer:
    """Verify, open and try an announced model.

    Raises:
        ArtifactError: it must not be served; the message says why.
    """
    folder = _inside(settings.models_dir, published.uri)
    with deaths_remembered(settings.data_dir / OPENING, published.digest):
        scorer = Scorer.load(
            folder,
            settings.worker.device,
            precision=settings.worker.precision,
            expected_version=published.version,
            expected_digest=published.digest,
            check=manifest_check(settings.models, published.signature),
        )
    state = settings.state
    if scorer.hidden_size > state.hidden_size:
        raise ArtifactError(
            f"model {scorer.version} has a hidden state of {scorer.hidden_size} numbers and user"
            f" records have room for {state.hidden_size}: raise state.hidden_size or train a"
            " smaller one"
        )
    return scorer


def open_recalibration(
    published: ModelPublished,
    wanted: RecalibrationPublished,
    targets: tuple[Target, ...],
    settings: Settings,
) -> Recalibrator:
    """Verify and open an announced recalibration of a model with these targets.

    Raises:
        ArtifactError: it must not be used; the message says why.
        SigningError: a trusted key cannot be read.
    """
    found = read_recalibration(
        settings.models_dir,
        published.version,
        wanted.version,
        digest=wanted.digest,
        model_digest=published.digest,
        trusted=trusted_keys(settings.models),
        announced=wanted.signature,
        required=settings.models.signature_required,
    )
    recalibrator = Recalibrator(found, targets)
    # Compiles the kernel here, and not in the first micro-batch.
    recalibrator.apply(EVENT, np.full((1, len(targets)), 0.5, np.float32))
    return recalibrator


def _mapped_by(scorer: Any) -> str | None:
    found = getattr(scorer, "recalibration", None)
    return None if found is None else found.version


def _inside(models_dir: Path, uri: str) -> Path:
    try:
        root, folder = models_dir.resolve(), (models_dir / uri).resolve()
    except (OSError, RuntimeError) as error:
        # Python before 3.13 raises a RuntimeError at a loop of links.
        raise ArtifactError(f"{models_dir / uri} leads nowhere: {error}") from error
    if not folder.is_relative_to(root):
        raise ArtifactError(f"the announced model lies outside {models_dir}: {uri}")
    return folder
