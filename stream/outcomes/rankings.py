"""Rankings of the next category and item meet what came next: rolling figures per model.

Pure: events and predictions are handed in as they arrive, per partition in its order; how the two
interleave does not change what is judged. The truth of a ranking is what its probabilities are of
(`schemas.outputs.NextCategory`): the category, or item, of the user's first event strictly after
`state_time` that has one. Lines of the same event time are not after it; of several first ones
that counts which is the first in the history (`models.history.sort_key`). A head learns from
moments whose very next event has a code; here events without one are passed over, since rankings
are told before them too.
Names are compared as they are: of names that share a code only the one that is told is right.

A truth is known when the partition's events are more than the grace ahead of it: what is out of
order has come by then, and what comes after does not change it. A ranking that no later event
follows has no truth: it is not wrong, and no figure counts it, so figures are of users who came
back, as those of training are. Late events, older than the user's newest by more than the grace,
are left out, as workers leave them out, and so are rankings made after an event that was not read.
One ranking counts per user, moment and model: that with the greatest offset.

The baseline is asked at the same moments: the category, or item, of the user's newest event up to
`state_time` that has one. It tells one name where a ranking tells k.

Memory is bounded: of a user the last `MAX_EVENTS` events are known. Where events, rankings that
wait and those judged are more than `HELD` times `max_pending`, what lies more than a day behind
events and predictions is forgotten, and moments of then are judged no more. Where that is not
enough, or there are more than `max_users` users, every second user is left out from then on, which
does not bias the figures. They roll over the last `window` judged rankings, of all models together
and of each of the last `max_models`.
"""

from __future__ import annotations

import heapq
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from models.ranking.judge import gain
from stream.config.durations import DAY_MS
from stream.outcomes.ranking_history import MAX_EVENTS, RankingHistory
from stream.outcomes.ranking_window import JudgedRanking, RankingWindow
from stream.outcomes.user_sample import UserSample
from stream.outcomes.window import PerModel
from stream.pipeline.ranking import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from schemas.events import Event
    from schemas.outputs import Prediction
    from stream.outcomes.ranking_history import Seen
    from stream.outcomes.ranking_window import RankingFigures
    from stream.outcomes.rules import OutcomeRules

__all__ = ["RankingJoiner"]

HELD: Final = 3
"""Events and rankings remembered, at most, in multiples of `max_pending`."""
_STILL_FULL: Final = 0.75
"""Share of that from which on forgetting the past was not enough: it is not done all the time."""

_Key = tuple[str, int, str]
"""What is ranked, `state_time` in ms, and the model."""


@dataclass(slots=True)
class _Told:
    offset: int
    names: tuple[str, ...]
    known_at: int = sys.maxsize
    """Watermark beyond which its truth is known; none can be as long as nothing followed."""


@dataclass(slots=True)
class _User:
    history: RankingHistory = field(default_factory=RankingHistory)
    waiting: dict[_Key, _Told] = field(default_factory=dict)
    judged: dict[_Key, JudgedRanking] = field(default_factory=dict)
    floor: int = 0
    """Rankings of moments before it are judged no more, unless they wait already."""
    open: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """Heap of (moment, model) of those that wait and that nothing followed, by what is ranked."""

    @property
    def held(self) -> int:
        return len(self.history) + len(self.waiting) + len(self.judged)


@dataclass(slots=True)
class _Lane:
    """One partition."""

    first: int | None = None
    """Offset of the first event read."""
    watermark: int = 0
    """Greatest event time seen."""
    predicted: int = 0
    """Greatest event time of a prediction seen; 0 before any."""
    due: list[tuple[int, str, _Key]] = field(default_factory=list)
    """Heap of (`known_at`, user, ranking); those that have been known earlier since lie there
    too."""
    users: dict[str, _User] = field(default_factory=dict)


class RankingJoiner:
    """Joins rankings with the event that came next."""

    def __init__(self, rules: OutcomeRules) -> None:
        """Begin with nothing known; of the rules those about targets and alerts do not matter."""
        self._rules = rules
        self._lanes: dict[int, _Lane] = {}
        self._windows = PerModel(lambda: RankingWindow(rules.window), rules.max_models)
        self._sample = UserSample()
        self._held = 0

    @property
    def whats(self) -> tuple[str, ...]:
        """What is judged, if it is ranked: "category", "item"."""
        return tuple(FIELDS)

    @property
    def sampled(self) -> float:
        """Share of users that are judged: 1 until a bound was met."""
        return self._sample.share

    @property
    def waiting(self) -> int:
        """Rankings without a truth yet."""
        return sum(len(user.waiting) for _, user in self._users())

    @property
    def held(self) -> int:
        """Events and rankings remembered."""
        return self._held

    def figures(self, what: str, version: str | None = None) -> RankingFigures | None:
        """Rolling figures of "category" or "item", of one model or of all; None before any."""
        window = self._windows.get(version, what)
        return None if window is None else window.figures()

    def versions(self, what: str) -> list[str]:
        """Models with judged rankings of it, the one judged last at the end."""
        return self._windows.versions(what)

    def event(self, user_id: str, event: Event, partition: int = 0, offset: int = 0) -> None:
        """Take in a behaviour event; rankings whose truth is known by it are judged.

        Args:
            user_id: as in predictions: a pseudonym where these name no users.
            event: another one with its id is a duplicate.
            partition: where it lies; a user's events and predictions are of one partition.
            offset: there.
        """
        lane = self._lane(partition)
        if lane.first is None:
            lane.first = offset
        before, lane.watermark = lane.watermark, max(lane.watermark, event.event_time)
        if self._sample.keeps(user_id):
            user = lane.users.setdefault(user_id, _User())
            newest = user.history.newest
            seen = user.history.add(event, before, self._rules.grace_ms)
            if seen is not None:
                self._happened(user_id, user, seen, lane, in_order=seen.time >= newest)
        self._settle_due(lane)
        self._bound()

    def prediction(self, prediction: Prediction) -> None:
        """Take in a prediction; what it does not rank is not judged."""
        lane = self._lane(prediction.source.partition)
        lane.predicted = max(lane.predicted, prediction.event_time)
        user_id, time = prediction.user_id, prediction.state_time
        if prediction.event_time < self._rules.since or not self._sample.keeps(user_id):
            return
        for what, (ranking, _) in FIELDS.items():
            told = getattr(prediction, ranking)
            if told is not UNSET:
                names = tuple(sys.intern(getattr(one, f"{what}_id")) for one in told)
                user = lane.users.setdefault(user_id, _User())
                key = (what, time, prediction.model_version)
                self._told(user, key, _Told(prediction.source.offset, names), lane, user_id)
        self._settle_due(lane)
        self._bound()

    def erase(self, users: AbstractSet[str]) -> None:
        """Forget what is known of users who have just been erased; figures stay as they are."""
        for lane in self._lanes.values():
            for user_id in users & lane.users.keys():
                self._held -= lane.users.pop(user_id).held
            lane.due = [entry for entry in lane.due if entry[1] in lane.users]
            heapq.heapify(lane.due)

    def _happened(
        self, user_id: str, user: _User, seen: Seen, lane: _Lane, *, in_order: bool
    ) -> None:
        self._held += 1
        if len(user.history) > MAX_EVENTS:
            user.floor = max(user.floor, user.history.forget())
            self._held -= 1
        known_at = seen.time + self._rules.grace_ms
        for what in seen.names:
            heap = user.open.get(what, [])
            while heap and heap[0][0] < seen.time:
                time, version = heapq.heappop(heap)
                self._expect(user_id, user, (what, time, version), known_at, lane)
        if in_order:
            return
        # It may have come between a moment and what seemed to be next.
        for key, told in user.waiting.items():
            what, time, _ = key
            if what in seen.names and time < seen.time and known_at < told.known_at:
                self._expect(user_id, user, key, known_at, lane)

    def _expect(self, user_id: str, user: _User, key: _Key, known_at: int, lane: _Lane) -> None:
        user.waiting[key].known_at = known_at
        heapq.heappush(lane.due, (known_at, user_id, key))

    def _told(self, user: _User, key: _Key, told: _Told, lane: _Lane, user_id: str) -> None:
        what, time, version = key
        judged, waiting = user.judged.get(key), user.waiting.get(key)
        if judged is not None:
            if told.offset > judged.offset:
                judged.offset, judged.gain = told.offset, _gain(told, judged.truth)
        elif waiting is not None:
            if told.offset > waiting.offset:
                waiting.offset, waiting.names = told.offset, told.names
        elif time >= user.floor:
            found = user.history.find(what, time, self._rules.grace_ms)
            if found is None:
                return
            user.waiting[key] = told
            self._held += 1
            if found.first is None:
                heapq.heappush(user.open.setdefault(what, []), (time, version))
            else:
                self._expect(user_id, user, key, found.first.time + self._rules.grace_ms, lane)

    def _settle_due(self, lane: _Lane) -> None:
        """Judge the rankings whose truth is known."""
        while lane.due and lane.due[0][0] < lane.watermark:
            due, user_id, key = heapq.heappop(lane.due)
            user = lane.users.get(user_id)
            told = None if user is None else user.waiting.get(key)
            if user is not None and told is not None and told.known_at == due:
                del user.waiting[key]
                self._held -= 1
                self._settle(user, key, told, lane)

    def _settle(self, user: _User, key: _Key, told: _Told, lane: _Lane) -> None:
        what, time, _ = key
        found = user.history.find(what, time, self._rules.grace_ms)
        unread = lane.first is None or told.offset < lane.first
        if found is not None and found.first is not None and not unread:
            user.judged[key] = self._judge(key, told, found.first, found.last)
            self._held += 1

    def _judge(self, key: _Key, told: _Told, first: Seen, last: Seen | None) -> JudgedRanking:
        what, _, version = key
        truth = first.names[what]
        same = last is not None and last.names[what] == truth
        judged = JudgedRanking(told.offset, truth, same, _gain(told, truth))
        for model in (None, version):
            self._windows.of(model, what).add(judged)
        return judged

    def _lane(self, partition: int) -> _Lane:
        return self._lanes.setdefault(partition, _Lane())

    def _users(self) -> Iterator[tuple[_Lane, _User]]:
        for lane in self._lanes.values():
            for user in lane.users.values():
                yield lane, user

    def _bound(self) -> None:
        most, full = HELD * self._rules.max_pending, False
        if self._held > most:
            for lane, user in self._users():
                clock = min(lane.watermark, lane.predicted)
                self._forget_before(user, clock - DAY_MS - self._rules.grace_ms)
            full = self._held > most * _STILL_FULL
        known = sum(len(lane.users) for lane in self._lanes.values())
        if full or known > self._rules.max_users:
            self._thin_out()

    def _forget_before(self, user: _User, floor: int) -> None:
        held = user.held
        user.floor = max(user.floor, floor)
        user.history.forget_before(floor)
        for key in [key for key in user.judged if key[1] < floor]:
            del user.judged[key]
        self._held += user.held - held

    def _thin_out(self) -> None:
        """Leave out every second user."""
        self._sample.halve()
        for lane in self._lanes.values():
            lane.users = {name: u for name, u in lane.users.items() if self._sample.keeps(name)}
            lane.due = [entry for entry in lane.due if entry[1] in lane.users]
            heapq.heapify(lane.due)
        self._held = sum(user.held for _, user in self._users())


def _gain(told: _Told, truth: str) -> float:
    return gain(told.names.index(truth)) if truth in told.names else 0.0
