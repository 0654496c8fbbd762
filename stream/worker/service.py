"""`intentstream worker` as a coroutine: checks, model, worker, heartbeats."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from functools import partial

import structlog
import torch

from models.serving.scorer import Scorer
from stream.config.settings import Settings
from stream.config.targets import targets_of
from stream.config.trust import manifest_check
from stream.kafka.rates import RateFollower
from stream.kafka.rights import check_rights, worker_rights
from stream.kafka.topics import check_topics, copies_kept_ms
from stream.partition.eraser import Eraser
from stream.pipeline.layout import indexed_dues
from stream.pipeline.pipeline import Pipeline
from stream.worker.reload import ModelFollower
from stream.worker.status import Heartbeats
from stream.worker.topic_watch import TopicWatch
from stream.worker.warming import warm_up
from stream.worker.worker import Worker

log = structlog.get_logger(__name__)


async def run_worker(settings: Settings) -> None:
    """Run a worker until it is stopped.

    Raises:
        IntentStreamError: it cannot start or cannot go on; one line says why and what to do.
    """
    # One computing thread: more would take the core that fetching and committing need.
    torch.set_num_threads(1)
    if settings.privacy.pseudonyms is not None:
        log.info("users are pseudonyms", key=settings.privacy.pseudonyms.key_id)
    if manifest_check(settings.models) is None:
        log.info("models are served unsigned; models.trusted_keys would demand signatures")
    with _quiet("aiokafka"):
        kept_ms = copies_kept_ms(settings, await check_topics(settings))
        await check_rights(settings, worker_rights(settings))
    follower, rates = ModelFollower(settings), RateFollower(settings)
    try:
        await rates.start()
        scorer = await follower.start()
        if scorer is None:
            scorer = Scorer.rhythm(targets_of(settings), device=settings.worker.device)
            log.info("no model is published yet; serving the cold-start model")
        # Before the group knows of this worker: compiling takes longer than it would wait. With a
        # model that cannot fail: one that does has its successors, once there are partitions.
        await asyncio.to_thread(warm_up, settings, Scorer.rhythm(targets_of(settings)))
        worker = Worker(
            settings,
            new_pipeline=partial(Pipeline, rates=rates.rates),
            due_of=indexed_dues,
            scorer=scorer,
            companions=(follower, rates, Heartbeats(settings), TopicWatch(settings)),
            last_resort=lambda: Scorer.rhythm(targets_of(settings)),
            new_eraser=lambda source: Eraser(settings, source, kept_ms),
            trials=follower.trials,
            trial_failed=follower.fails,
            inputs_ready=lambda: rates.ready,
        )
        await worker.run()
    finally:
        await rates.close()
        await follower.close()


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library from saying in several lines what an error says in one."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
