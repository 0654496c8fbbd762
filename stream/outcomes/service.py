"""`intentstream outcomes` as a coroutine: joins the topics, publishes figures and verdicts.

It keeps nothing on disk and commits no offset: a start reads the topics again, as far back as
`outcomes.lookback_ms`, and its own verdicts, so that none is told twice. Memory is bounded by the
joiners, which sample users where there are too many. Whoever may write to `models.published` may
roll back, so it needs that right.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from models.errors import ModelError
from models.monitoring.drift import Reference
from models.serving.manifest import read_manifest
from models.serving.registry import Registry
from models.targets import judged
from schemas.codec import decode, decode_event, encode
from schemas.control import EraseUser
from schemas.errors import InvalidMessage
from schemas.monitoring import AlertOutcome, ModelMetrics
from schemas.outputs import ChurnAlert, Prediction
from stream.config.targets import cancel_window_of, churn_horizon_of, targets_of
from stream.kafka.announce import note, withdraw
from stream.kafka.diagnosis import unusable
from stream.kafka.rates import RateFollower
from stream.kafka.same_topics import SameTopics
from stream.kafka.tail import open_tail
from stream.outcomes.arrivals import Arrivals
from stream.outcomes.erased_users import ErasedUsers
from stream.outcomes.joiner import OutcomeJoiner
from stream.outcomes.model_watch import ModelWatch, WatchRules
from stream.outcomes.order_times import line_of
from stream.outcomes.rankings import RankingJoiner
from stream.outcomes.rules import OutcomeRules
from stream.pipeline.event_times import EventTimes
from stream.pipeline.rollout import Announced

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import ConsumerRecord

    from stream.config.settings import Settings
    from stream.kafka.tail import Tail

_STALLED_S: Final = 30.0
_POLL_S: Final = 0.5
_KNOWN: Final = 1_000_000
"""Verdicts remembered so that none is told twice."""

log = structlog.get_logger(__name__)


class OutcomeService:
    """One process that follows predictions and alerts until they are judged."""

    def __init__(self, settings: Settings) -> None:
        """Read nothing yet."""
        self.settings = settings
        chosen, topics = settings.outcomes, settings.topics
        targets = judged(targets_of(settings))
        self.announced = Announced()
        self._known: dict[str, str] = {}
        self.watch = ModelWatch(
            WatchRules(
                churn_horizon_ms=churn_horizon_of(settings),
                alpha=chosen.rollback_error,
                targets=len(targets),
                min_users=chosen.rollback_users,
                max_ece=settings.gate.max_ece,
                min_matured=chosen.min_matured,
            ),
            self.announced,
            self._reference,
            self._known,
        )
        rules = OutcomeRules(
            targets=targets,
            churn_horizon_ms=churn_horizon_of(settings),
            grace_ms=settings.state.grace_ms,
            order_gap_ms=settings.state.session_gap_ms,
            cancel_window_ms=cancel_window_of(settings),
            min_orders=settings.churn.min_orders,
            window=chosen.window,
            max_pending=chosen.max_users,
            max_users=chosen.max_users,
        )
        self.joiner = OutcomeJoiner(rules, self.watch)
        self.rankings = RankingJoiner(rules)
        self._erased = ErasedUsers()
        self.metrics: list[ModelMetrics] = []
        """As published last."""
        self.predictions = 0
        """Read so far."""
        self.published_at: int | None = None
        """When that was, ms since the epoch; None before the first time."""
        self._times = EventTimes.of(settings)
        self._arrivals = Arrivals.of(settings)
        self._rates = RateFollower(settings)
        self._take: dict[str, Callable[[ConsumerRecord], None]] = {
            topics.events: self._event,
            topics.propensity: self._prediction,
            topics.shadow: self._prediction,
            topics.churn: self._alert,
            topics.models: self._model,
        }

    async def run(self, *, once: bool = False, stop: asyncio.Event | None = None) -> None:
        """Join and publish until `stop` is set; with `once` only up to the topics' ends.

        Raises:
            BrokerError: the cluster stopped answering.
            TopicLayoutError: a topic is missing.
            TopicReplaced: a topic was deleted and created again.
            TrainerError: a roll-back cannot be announced.
        """
        stop = stop or asyncio.Event()
        await self._read_verdicts()
        producer = AIOKafkaProducer(enable_idempotence=True, **self.settings.kafka.client_options())
        async with contextlib.AsyncExitStack() as stack:
            tail = await stack.enter_async_context(
                open_tail(self.settings, self._take, from_beginning=True)
            )
            requests = await stack.enter_async_context(
                open_tail(self.settings, [self.settings.topics.erase], from_beginning=True)
            )
            try:
                await producer.start()
                stack.push_async_callback(producer.stop)
                await self._rates.start()
                stack.push_async_callback(self._rates.close)
                await self._seek(tail)
                # In one order each time: what changes are found depends on the order of verdicts.
                # Roles first, as they are now: a canary that was rolled back stays so.
                async for records in tail.read_in_order(_STALLED_S, self.settings.topics.models):
                    await self._erase(requests)
                    self._drain(records)
                await self._erase(requests)
                await self._publish(producer)
                if not once:
                    await self._follow(tail, requests, producer, stop)
            except (KafkaError, OSError) as error:
                raise await unusable(self.settings.kafka, error) from error

    async def _follow(
        self, tail: Tail, requests: Tail, producer: AIOKafkaProducer, stop: asyncio.Event
    ) -> None:
        due = time.monotonic() + self.settings.outcomes.publish_ms / 1000
        topics = self.settings.topics
        same = SameTopics([*self._take, topics.erase, topics.outcomes], tail.topic_ids)
        while not stop.is_set():
            await same.check()
            records = await tail.poll(_POLL_S)
            # After the records: what lies before one of them is read before it is used.
            await self._rates.read()
            await self._erase(requests)
            self._drain(records)
            if self.watch.rollbacks or time.monotonic() >= due:
                await self._publish(producer)
                due = time.monotonic() + self.settings.outcomes.publish_ms / 1000
        await self._publish(producer)

    async def _erase(self, requests: Tail) -> None:
        """Read the requests there are, and forget the users who ask."""
        events, since = self.settings.topics.events, self._since()
        users: set[str] = set()
        async for records in requests.read_to_end(_STALLED_S):
            for record in records:
                if record.timestamp < since:
                    continue
                with contextlib.suppress(InvalidMessage):
                    request = decode(EraseUser, record.value)
                    user = self.settings.privacy.stored_id(request.user_id)
                    where = TopicPartition(events, record.partition)
                    before = await requests.offset_at(where, record.timestamp)
                    self._erased.note(user, record.partition, before)
                    users.add(user)
        if users:
            self.joiner.erase(self._erased, users)
            self.rankings.erase(users)
            self.watch.erase(users)

    def _since(self) -> int:
        """Records of earlier times, ms, are not read."""
        now = time.time_ns() // 1_000_000
        return max(now - self.settings.outcomes.lookback_ms, 0)

    async def _read_verdicts(self) -> None:
        topic = self.settings.topics.outcomes
        async with open_tail(self.settings, [topic], from_beginning=True) as tail:
            async for records in tail.read_to_end(_STALLED_S):
                for record in records:
                    with contextlib.suppress(InvalidMessage):
                        found = decode(AlertOutcome, record.value)
                        self._known[found.alert_id] = found.outcome
                self._forget()

    def _forget(self) -> None:
        while len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]

    async def _seek(self, tail: Tail) -> None:
        since = self._since()
        for topic in self._take:
            if topic != self.settings.topics.models:
                await tail.seek_to_time(topic, since)

    def _drain(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.topic == self.settings.topics.models:
                self._model(record)
            elif record.value is not None:
                with contextlib.suppress(InvalidMessage):
                    self._take[record.topic](record)

    def _event(self, record: ConsumerRecord) -> None:
        event = decode_event(record.value)
        if self._times.fault(event.event_time, record.timestamp) is not None:
            # Workers refuse it, and it would move the clock of its partition beyond all others.
            return
        user = self.settings.privacy.stored_id(event.user_id)
        if self._erased.covers(user, record.partition, record.offset):
            return
        known = self._times.taken(event.event_time, record.timestamp)
        loaded = self._times.is_loaded(known, record.timestamp)
        if (time := self._arrivals.taken(user, known, event.code, loaded=loaded)) is None:
            return
        if time != event.event_time:
            event = msgspec.structs.replace(event, event_time=time)
        own = known if time != known else None
        line = line_of(event, own, self._rates.rates, record.timestamp)
        self.joiner.event(user, time, event.code, record.partition, line)
        self.rankings.event(user, event, record.partition, record.offset)

    def _prediction(self, record: ConsumerRecord) -> None:
        prediction = decode(Prediction, record.value)
        self.predictions += 1
        # Predictions of automated or erased users are not evaluated.
        if not prediction.automated and not self._is_erased(prediction):
            self.joiner.prediction(prediction)
            self.rankings.prediction(prediction)

    def _alert(self, record: ConsumerRecord) -> None:
        alert = decode(ChurnAlert, record.value)
        if self._is_erased(alert):
            return
        self.watch.alert_raised(alert)
        self.joiner.alert(alert)

    def _is_erased(self, made: Prediction | ChurnAlert) -> bool:
        source = made.source
        return self._erased.covers(made.user_id, source.partition, source.offset)

    def _model(self, record: ConsumerRecord) -> None:
        note(self.announced, record.key, record.value)

    def _reference(self, version: str) -> Reference:
        registry = Registry(self.settings.models_dir)
        try:
            return read_manifest(registry.resolve(version)).reference
        except ModelError as error:
            log.info("no drift of a model that is not here", model=version, why=str(error))
            return Reference()

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        topics, sent = self.settings.topics, []
        while self.watch.rollbacks:
            decided = self.watch.rollbacks.popleft()
            if self.settings.outcomes.rollback:
                log.warning("canary is rolled back", model=decided.version, why=decided.reason)
                await withdraw(self.settings, decided.version, decided.reason)
        while self.watch.outcomes:
            outcome = self.watch.outcomes.popleft()
            sent.append(
                await producer.send(
                    topics.outcomes, key=outcome.user_id.encode(), value=encode(outcome)
                )
            )
        self._forget()
        now = time.time_ns() // 1_000_000
        self.metrics = self.watch.metrics(self.joiner, now, self.rankings)
        for found in self.metrics:
            key = found.model_version.encode()
            sent.append(await producer.send(topics.metrics, key=key, value=encode(found)))
        await asyncio.gather(*sent)
        self.published_at = now
