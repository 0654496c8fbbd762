"""Predictions meet what came true: labels once they have matured, and rolling figures per model.

Pure: events, predictions and alerts are handed in as they arrive, per partition in its order; how
the three interleave does not change what is judged. Time is that of the events and predictions of a
partition, whichever is behind. A prediction of a user at `state_time` is judged by the events of
the target's type (purchases, carts, favourites) that follow strictly after it, within the horizon;
of purchases only the first line of an order counts, and none of an order that was given back in
time (`models.orders`). One prediction counts per user, moment and model: the last one. The lines of
an order in one session are one moment.

A label of the rest of a session ends with the user's session.

The recency baseline is asked at the same moments, for the same predictions: its score is how short
ago the user's previous event of that type was, the one at least `order_gap_ms` before, so that the
lines of the current order do not answer. A user without one scores lowest.

Memory is bounded by sampling whole users by hash: when more than `max_pending` predictions wait for
their labels, or more than `max_users` users are known, every second user is left out from then on.
That does not bias the figures, but they have fewer points. Figures roll over the last `window`
matured predictions, of all models together and of each of the last `max_models`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from models.history import PURCHASE, REFUND
from models.populations import EVENT
from models.targets import ABSENT, ANY, judged, session_end
from stream.outcomes.order_times import Line, OrderTimes
from stream.outcomes.pending import Lane, Pending
from stream.outcomes.rules import horizon_of
from stream.outcomes.user_sample import UserSample
from stream.outcomes.verdicts import AlertFigures, Listener, Matured
from stream.outcomes.window import PerModel, Window

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from schemas.outputs import ChurnAlert, Prediction
    from stream.outcomes.erased_users import ErasedUsers
    from stream.outcomes.rules import OutcomeRules
    from stream.outcomes.window import Figures

__all__ = ["OutcomeJoiner"]

MAX_EVENTS: Final = 4096
"""Events of one type remembered per user, at most."""


@dataclass(slots=True)
class _User:
    orders: OrderTimes
    """Purchases and refunds."""
    times: dict[int, list[int]] = field(default_factory=dict)
    """By event type but purchases distinct times, ascending, under `ANY` those of all events; those
    that no pending label needs are dropped but for one."""

    def times_of(self, kind: int) -> list[int]:
        """When events of a type happened, ms, ascending; of purchases when orders began."""
        return self.orders.times if kind == PURCHASE else self.times.get(kind, [])


class OutcomeJoiner:
    """Joins predictions and alerts with the events that followed, or did not."""

    def __init__(self, rules: OutcomeRules, listener: Listener | None = None) -> None:
        """Begin with nothing known."""
        self._rules = rules
        self._listener = listener
        self._users: dict[str, _User] = {}
        self._lanes: dict[int, Lane] = {}
        self._latest: dict[tuple[str, int, str, str], Pending] = {}
        self._windows = PerModel(lambda: Window(rules.window), rules.max_models)
        self._alerts: deque[bool] = deque(maxlen=rules.window)
        self._alert_ids: dict[str, Pending] = {}
        self._raised = 0
        self._targets = {target.name: target for target in judged(rules.targets)}
        self._longest = {int(PURCHASE): rules.churn_horizon_ms}
        """By event type the longest time in which it decides; others are not followed."""
        for target in self._targets.values():
            self._lasts(target.event_type, target.horizon_ms)
            if target.in_session:
                self._lasts(ANY, target.horizon_ms)
        self._sequence = 0
        self._sample = UserSample()

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that are judged."""
        return tuple(self._targets)

    @property
    def sampled(self) -> float:
        """Share of users that are judged: 1 until a bound was met."""
        return self._sample.share

    @property
    def clock(self) -> int:
        """Event time up to which outcomes are known, of the partition that is furthest, ms."""
        return max((lane.clock for lane in self._lanes.values()), default=0)

    @property
    def pending(self) -> int:
        """Labels that have not matured yet, alerts included."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def event(
        self, user_id: str, time: int, kind: int, partition: int = 0, line: Line | None = None
    ) -> None:
        """Take in a behaviour event; labels that it brings to maturity are judged.

        Args:
            user_id: as in predictions.
            time: of the event, ms.
            kind: code of its type, see schemas.events.EventType.
            partition: where it lies; its events and predictions have one order of time.
            line: what is known of a purchase or refund; without it a purchase has neither order id
                nor amount, and another one of that time is the same.
        """
        lane = self._lane(partition)
        followed = not {kind, ANY}.isdisjoint(self._longest) or kind == REFUND
        if followed and self._sample.keeps(user_id):
            # Before the first prediction all are kept: events may be read far ahead.
            clock = 0 if lane.predicted is None else lane.clock
            if ANY in self._longest:
                self._happened(user_id, ANY, time, clock)
            if kind in (PURCHASE, REFUND):
                self._ordered(user_id, line or Line(time, kind), clock)
            elif kind in self._longest:
                self._happened(user_id, kind, time, clock)
        if time > lane.watermark:
            lane.watermark = time
            self._mature(lane)

    def prediction(self, prediction: Prediction) -> None:
        """Take in a prediction; another one of the same user, moment and model replaces it."""
        if prediction.event_time >= self._rules.since and self._sample.keeps(prediction.user_id):
            self._predicted(prediction)
        lane = self._lane(prediction.source.partition)
        if lane.predicted is None or prediction.event_time > lane.predicted:
            lane.predicted = prediction.event_time
            self._mature(lane)

    def _predicted(self, prediction: Prediction) -> None:
        user, time = prediction.user_id, prediction.state_time
        offset = prediction.source.offset
        for name, score in prediction.targets.items():
            target = self._targets.get(name)
            if target is None:
                continue
            key = (user, time, prediction.model_version, name)
            earlier = self._latest.get(key)
            if earlier is not None:
                if offset > earlier.offset:
                    earlier.probability, earlier.offset = score.probability, offset
                continue
            pending = Pending(
                user,
                time,
                score.horizon_ms,
                key[2],
                name,
                target.event_type,
                score.probability,
                offset,
                prediction.reason or EVENT,
            )
            self._latest[key] = pending
            self._wait(prediction.source.partition, pending)

    def alert(self, alert: ChurnAlert) -> None:
        """Take in an alert; raised ones are judged, each id once, and a retracted one was wrong."""
        if alert.event_time < self._rules.since or not self._sample.keeps(alert.user_id):
            return
        if alert.state == "retracted":
            self._retract(alert.episode)
        if alert.state != "raised" or alert.alert_id in self._alert_ids:
            return
        if len(self._alert_ids) >= self._rules.max_pending:
            self._alert_ids.pop(next(iter(self._alert_ids)))
        self._raised += 1
        horizon = horizon_of(alert, self._rules.churn_horizon_ms)
        version = alert.model_version
        pending = Pending(
            alert.user_id,
            alert.event_time,
            horizon,
            version,
            "",
            PURCHASE,
            alert.risk,
            alert.source.offset,
            alert=alert,
        )
        self._alert_ids[alert.alert_id] = pending
        self._wait(alert.source.partition, pending)

    def _retract(self, episode: str) -> None:
        pending = self._alert_ids.get(episode)
        if pending is None or pending.settled:
            return
        pending.settled = True
        self._alerts.append(False)
        if self._listener is not None and pending.alert is not None:
            self._listener.alert_settled(pending.alert, None, retracted=True)

    def erase(self, erased: ErasedUsers, users: AbstractSet[str]) -> None:
        """Forget what is known of users who have just been erased; figures stay as they are.

        Args:
            erased: says which of their predictions and alerts are meant.
            users: who they are; no event of theirs after the request has been taken in yet.
        """
        for user in users:
            self._users.pop(user, None)
        for partition, lane in self._lanes.items():

            def gone(pending: Pending, partition: int = partition) -> bool:
                return pending.user in users and erased.covers(
                    pending.user, partition, pending.offset
                )

            self._drop(lane, [entry[2] for entry in lane.waiting if gone(entry[2])])

    def _drop(self, lane: Lane, gone: list[Pending]) -> None:
        """Follow some labels no more."""
        if not gone:
            return
        ids = set(map(id, gone))
        lane.waiting = [entry for entry in lane.waiting if id(entry[2]) not in ids]
        heapq.heapify(lane.waiting)
        for pending in gone:
            if pending.alert is None:
                del self._latest[pending.user, pending.time, pending.version, pending.target]
            else:
                self._alert_ids.pop(pending.alert.alert_id, None)
                # Alerts that are no longer followed are not "unknown" for ever.
                self._raised -= not pending.settled

    def figures(self, target: str, version: str | None = None) -> Figures | None:
        """Rolling figures of a target, of one model or of all; None before any label matured."""
        window = self._windows.get(version, target)
        return None if window is None else window.figures()

    def versions(self, target: str) -> list[str]:
        """Models with matured predictions of a target, the one that matured last at the end."""
        return self._windows.versions(target)

    def alerts(self) -> AlertFigures:
        """What became of the raised alerts; verdicts roll over the last `window`."""
        right = sum(self._alerts)
        return AlertFigures(self._raised, right, len(self._alerts) - right)

    def _lane(self, partition: int) -> Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = Lane()
        return lane

    def _lasts(self, kind: int, horizon: int) -> None:
        self._longest[kind] = max(self._longest.get(kind, 0), horizon)

    def _ordered(self, user_id: str, line: Line, clock: int) -> None:
        orders = self._user(user_id).orders
        orders.add(line)
        orders.forget_before(self._floor(PURCHASE, clock), MAX_EVENTS)
        if len(self._users) > self._rules.max_users:
            self._thin_out()

    def _happened(self, user_id: str, kind: int, time: int, clock: int) -> None:
        times = self._user(user_id).times.setdefault(kind, [])
        place = bisect_left(times, time)
        if place < len(times) and times[place] == time:
            return
        insort(times, time)
        needless = max(bisect_left(times, self._floor(kind, clock)) - 1, len(times) - MAX_EVENTS)
        if needless > 0:
            del times[:needless]
        if len(self._users) > self._rules.max_users:
            self._thin_out()

    def _user(self, user_id: str) -> _User:
        user = self._users.get(user_id)
        if user is None:
            orders = OrderTimes(self._rules.order_gap_ms, self._rules.cancel_window_ms)
            user = self._users[user_id] = _User(orders)
        return user

    def _floor(self, kind: int, clock: int) -> int:
        """Up to this time no label needs events of a type, ms."""
        rules = self._rules
        settled = rules.grace_ms + rules.cancel_window_ms + rules.order_gap_ms
        # Twice: predictions and alerts may be read somewhat behind.
        return clock - 2 * self._longest[kind] - settled

    def _wait(self, partition: int, pending: Pending) -> None:
        self._lasts(pending.kind, pending.horizon)
        lane = self._lane(partition)
        self._sequence += 1
        known_at = pending.time + pending.horizon + self._rules.grace_ms
        if pending.kind == PURCHASE:
            known_at += self._rules.cancel_window_ms
        heapq.heappush(lane.waiting, (known_at, self._sequence, pending))
        self._mature(lane)
        if self.pending > self._rules.max_pending:
            self._thin_out()

    def _mature(self, lane: Lane) -> None:
        while lane.waiting and lane.waiting[0][0] < lane.clock:
            self._judge(heapq.heappop(lane.waiting)[2])

    def _judge(self, pending: Pending) -> None:
        user = self._users.get(pending.user)
        times = [] if user is None else user.times_of(pending.kind)
        place = bisect_right(times, pending.time)
        following = times[place] if place < len(times) else None
        came = following is not None and following <= self._window_end(pending, user)
        if pending.alert is not None:
            if not pending.settled:
                pending.settled = True
                self._alerts.append(not came)
                if self._listener is not None:
                    returned = following if came else None
                    self._listener.alert_settled(pending.alert, returned, retracted=False)
            return
        del self._latest[pending.user, pending.time, pending.version, pending.target]
        if user is not None and user.orders.goes_on(pending.time):
            return  # in the midst of an order: the prediction at its next line counts
        target = self._targets[pending.target]
        absent = target.kind == ABSENT
        standing = 0 if user is None else user.orders.standing(pending.time)
        if target.needs_orders and standing < self._rules.min_orders:
            return
        before = bisect_right(times, pending.time - self._rules.order_gap_ms) - 1
        gap = float(pending.time - times[before]) if before >= 0 else float("inf")
        for version in (None, pending.version):
            window = self._windows.of(version, pending.target)
            window.add(
                came != absent,
                pending.probability,
                gap if absent else -gap,
                pending.user,
                pending.population,
            )
        if self._listener is not None:
            self._listener.matured(
                Matured(
                    pending.user,
                    pending.version,
                    pending.target,
                    pending.time,
                    pending.probability,
                    came != absent,
                    pending.population,
                )
            )

    def _window_end(self, pending: Pending, user: _User | None) -> int:
        """Until when what follows counts, ms."""
        end = pending.time + pending.horizon
        target = self._targets.get(pending.target)
        if user is None or target is None or not target.in_session:
            return end
        return min(end, session_end(user.times_of(ANY), pending.time, self._rules.order_gap_ms))

    def _thin_out(self) -> None:
        """Leave out every second user."""
        self._sample.halve()
        self._users = {name: user for name, user in self._users.items() if self._sample.keeps(name)}
        for lane in self._lanes.values():
            self._drop(lane, [e[2] for e in lane.waiting if not self._sample.keeps(e[2].user)])
