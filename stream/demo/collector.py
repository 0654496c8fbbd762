"""What a subscriber of the demo sees: events, predictions, alerts, heartbeats, new models."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from models.evaluation.leaver_rules import Times
from models.history import PURCHASE
from schemas.codec import decode, decode_event
from schemas.control import ModelPublished, WorkerStatus
from schemas.errors import InvalidEvent
from schemas.outputs import ChurnAlert, Prediction
from stream.demo.alert_figures import Raised, orders_of
from stream.demo.live_error import MaturedPredictions
from stream.kafka.tail import open_tail
from stream.outcomes.joiner import OutcomeJoiner
from stream.outcomes.order_times import line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import ConsumerRecord

    from stream.config.settings import Settings
    from stream.outcomes.rules import OutcomeRules

__all__ = ["COUNTERS", "Collector"]

COUNTERS: Final = ("consumed", "accepted", "duplicate", "late", "invalid")
_POLL_S: Final = 0.2
_LATEST: Final = 8
_STALLED_S: Final = 30.0


class Collector:
    """Follows the topics of one run from their beginning, and joins outcomes."""

    def __init__(self, settings: Settings, rules: OutcomeRules) -> None:
        """Read nothing yet; predictions before `rules.since` are counted but not judged."""
        self.settings = settings
        self.since = rules.since
        self.rules = rules
        self.matured = MaturedPredictions()
        self.joiner = OutcomeJoiner(rules, self.matured)
        self.heartbeats: dict[int, WorkerStatus] = {}
        self.models: dict[str, ModelPublished] = {}
        self.predictions = 0
        self.live_predictions: Counter[str] = Counter()
        """Of live events, by model version, in order of first use."""
        self.alerts: Counter[str] = Counter()
        """Of live events, by state."""
        self.history_alerts: Counter[str] = Counter()
        self.raised: dict[str, Raised] = {}
        """Live alerts that were raised, by episode."""
        self._times: dict[str, tuple[array[int], array[int]]] = {}
        self.latest_predictions: deque[Prediction] = deque(maxlen=_LATEST)
        self.latest_alerts: deque[ChurnAlert] = deque(maxlen=_LATEST)
        topics = settings.topics
        self._finishing = False
        self._take: dict[str, Callable[[ConsumerRecord], None]] = {
            topics.events: self._event,
            topics.propensity: self._prediction,
            topics.churn: self._alert,
            topics.status: self._status,
            topics.models: self._model,
        }

    def total(self, counter: str) -> int:
        """Sum over the partitions of a counter of the workers' last heartbeats."""
        return sum(getattr(beat, counter) for beat in self.heartbeats.values())

    @property
    def serving(self) -> set[str]:
        """Model versions in use, by the last heartbeats of all partitions."""
        return {beat.model_version for beat in self.heartbeats.values()}

    @property
    def complete(self) -> bool:
        """Whether there was a heartbeat of every partition."""
        return len(self.heartbeats) == self.settings.topics.partitions

    async def follow(self) -> None:
        """Read what comes until `finish` is asked for, then everything up to the end.

        Raises:
            BrokerError: a topic cannot be read to its end.
        """
        async with open_tail(self.settings, self._take, from_beginning=True) as tail:
            while not self._finishing:
                self._drain(await tail.poll(_POLL_S))
                await asyncio.sleep(0)
            async for records in tail.read_to_end(_STALLED_S):
                self._drain(records)

    def shop(self) -> dict[str, Times]:
        """When each user was there and ordered, of all events read so far."""
        gap = self.settings.state.session_gap_ms
        return {
            user: Times(np.unique(times), orders_of(np.unique(purchases), gap))
            for user, (times, purchases) in self._times.items()
        }

    def finish(self) -> None:
        """Make `follow` end once it has read what there is now."""
        self._finishing = True

    def _drain(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            if record.value is not None:
                self._take[record.topic](record)

    def _event(self, record: ConsumerRecord) -> None:
        try:
            event = decode_event(record.value)
        except InvalidEvent:
            return
        times, purchases = self._times.setdefault(event.user_id, (array("q"), array("q")))
        times.append(event.event_time)
        if event.code == PURCHASE:
            purchases.append(event.event_time)
        line = line_of(event)
        self.joiner.event(event.user_id, event.event_time, event.code, record.partition, line)

    def _prediction(self, record: ConsumerRecord) -> None:
        prediction = decode(Prediction, record.value)
        self.predictions += 1
        self.joiner.prediction(prediction)
        if prediction.event_time >= self.since:
            self.live_predictions[prediction.model_version] += 1
            self.latest_predictions.append(prediction)

    def _alert(self, record: ConsumerRecord) -> None:
        alert = decode(ChurnAlert, record.value)
        self.joiner.alert(alert)
        if alert.event_time >= self.since:
            self.alerts[alert.state] += 1
            self._follow_up(alert)
            self.latest_alerts.append(alert)
        else:
            self.history_alerts[alert.state] += 1

    def _follow_up(self, alert: ChurnAlert) -> None:
        if alert.state == "raised":
            raised = Raised(alert.user_id, alert.event_time, cause=alert.cause)
            self.raised[alert.episode] = raised
        elif alert.state in {"resolved", "retracted"} and alert.episode in self.raised:
            known = self.raised[alert.episode]
            self.raised[alert.episode] = replace(known, closed=alert.event_time)

    def _status(self, record: ConsumerRecord) -> None:
        beat = decode(WorkerStatus, record.value)
        self.heartbeats[beat.partition] = beat

    def _model(self, record: ConsumerRecord) -> None:
        model = decode(ModelPublished, record.value)
        self.models[model.version] = model
