"""Follows `models.published`: verifies a new champion, warms it up, swaps it in.

Everything about a model, its signature first, is checked before it is opened (`models.artifact`,
`models.signing`) and the opening happens off the event loop. A model that is refused is counted and
logged with its reason, and the one before it goes on.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from models.errors import ArtifactError
from models.scorer import Scorer
from schemas.codec import decode
from schemas.control import ModelPublished
from schemas.errors import IntentStreamError, InvalidMessage
from stream.errors import WorkerError
from stream.settings import Settings
from stream.trust import manifest_check
from stream.worker import Worker

READ_TIMEOUT_S: Final = 20.0
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
        self._champions: dict[str, ModelPublished] = {}
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
            await consumer.stop()
            self._consumer = None
            raise WorkerError(
                f"{topic} cannot be read: {error!r}; check the broker and `intentstream topics"
                " check`"
            ) from error
        return await self._newest(serving=None)

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
                serving = worker.scorer.version
                scorer = await self._newest(serving)
                if scorer is not None:
                    await worker.replace_scorer(scorer)
                    log.info("model is swapped", model=scorer.version, before=serving)

    async def finish(self, worker: Worker) -> None:
        """Disconnect."""
        del worker
        await self.close()

    async def close(self) -> None:
        """Disconnect; a second call does nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    def _note(self, records: list[ConsumerRecord]) -> None:
        """Keep the champions in the order of their last announcement; a tombstone withdraws."""
        for record in records:
            version = (record.key or b"").decode("utf-8", "replace")
            self._champions.pop(version, None)
            self._refused.pop(version, None)
            if record.value is None:
                continue
            try:
                published = decode(ModelPublished, record.value)
            except InvalidMessage as error:
                self._refuse(version, f"offset {record.offset}: {error}")
                continue
            if published.rollout == "champion":
                self._champions[published.version] = published

    async def _newest(self, serving: str | None) -> Scorer | None:
        """Load the newest champion that can be served, None if it is the one being served."""
        for version, published in reversed(list(self._champions.items())):
            if version == serving:
                return None
            if version in self._refused:
                continue
            try:
                scorer = await asyncio.to_thread(self._load, published, self._settings)
            except (IntentStreamError, OSError) as error:
                self._refuse(version, str(error))
                continue
            log.info("model is loaded", model=version, device=scorer.device)
            return scorer
        return None

    def _refuse(self, version: str, reason: str) -> None:
        self._refused[version] = reason
        self.refusals += 1
        log.error("model is refused; the one before it goes on", model=version, reason=reason)


def load_model(published: ModelPublished, settings: Settings) -> Scorer:
    """Verify, open and try an announced model.

    Raises:
        ArtifactError: it must not be served; the message says why.
    """
    folder = _inside(settings.models_dir, published.uri)
    scorer = Scorer.load(
        folder,
        settings.worker.device,
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


def _inside(models_dir: Path, uri: str) -> Path:
    folder = (models_dir / uri).resolve()
    if not folder.is_relative_to(models_dir.resolve()):
        raise ArtifactError(f"the announced model lies outside {models_dir}: {uri}")
    return folder
