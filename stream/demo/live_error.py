"""Live calibration: what predictions said against what came true, beside a fixed-inactivity rule.

Predictions at events and at timers are evaluated apart, each user counting once. The rule predicts
too: the share of users as long inactive of whom it came true, learnt from all that was known of it
before the live part. Pure; times in ms.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate import RECENCY_BINS, calibration_error
from models.evaluation.leaver_rules import AtTimers, Question, expected_gaps, inactive_for
from models.populations import EVENT, TIMER, population_figures, populations, user_weights
from models.targets import ABSENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.evaluation.leaver_rules import Times
    from models.targets import Target
    from schemas.outputs import ChurnAlert
    from stream.outcomes.verdicts import Matured

__all__ = ["MaturedPredictions", "Past", "Rule", "learn", "live_errors"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TABLE_BINS: Final = 10


@dataclass
class _Columns:
    """N matured predictions of one target."""

    user: array[int] = field(default_factory=lambda: array("q"))
    time: array[int] = field(default_factory=lambda: array("q"))
    said: array[float] = field(default_factory=lambda: array("d"))
    label: array[int] = field(default_factory=lambda: array("b"))
    at_event: array[int] = field(default_factory=lambda: array("b"))


class MaturedPredictions:
    """Keeps what a joiner of outcomes tells: all matured predictions, by target."""

    def __init__(self) -> None:
        """Nothing has matured yet."""
        self.users: dict[str, int] = {}
        """User -> number."""
        self._targets: dict[str, _Columns] = {}

    def matured(self, found: Matured) -> None:
        """Take one in."""
        columns = self._targets.setdefault(found.target, _Columns())
        columns.user.append(self.users.setdefault(found.user, len(self.users)))
        columns.time.append(found.time)
        columns.said.append(found.probability)
        columns.label.append(found.label)
        columns.at_event.append(found.population == EVENT)

    def alert_settled(self, alert: ChurnAlert, returned_at: int | None, *, retracted: bool) -> None:
        """Alerts are evaluated elsewhere."""

    def of(self, target: str) -> tuple[I64, I64, F64, F64, NDArray[np.bool_]] | None:
        """(user, time, probability, label, at an event), each [N]; None: none has matured."""
        found = self._targets.get(target)
        if found is None:
            return None
        return (
            np.array(found.user, np.int64),
            np.array(found.time, np.int64),
            np.array(found.said, np.float64),
            np.array(found.label, np.float64),
            np.array(found.at_event, np.bool_),
        )


@dataclass(frozen=True)
class Past:
    """What the rule may learn from."""

    until: int
    """Outcomes count that are known by then."""
    min_orders: int
    """Orders from which on timers evaluate a user, and churn means something."""
    prior_gap: int
    timers: AtTimers


@dataclass(frozen=True)
class Rule:
    """Probability by how long the inactivity is."""

    edges: F64
    rates: F64

    @classmethod
    def fit(cls, inactivity: I64, labels: F64, weights: F64) -> Rule:
        """From N moments before."""
        quantiles = np.linspace(0, 1, RECENCY_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(inactivity, quantiles)).astype(np.float64)
        index = np.searchsorted(edges, inactivity, side="right")
        size, prior = len(edges) + 1, float(np.average(labels, weights=weights))
        each = np.bincount(index, weights, size)
        hits = np.bincount(index, weights * labels, size)
        return cls(edges, (hits + prior) / (each + 1))

    def predict(self, inactivity: I64) -> F64:
        """Probabilities [N]."""
        found: F64 = self.rates[np.searchsorted(self.edges, inactivity, side="right")]
        return found


def learn(shop: Mapping[str, Times], target: Target, past: Past) -> dict[str, Rule]:
    """The rule at events, and at timers, as far as anything was known of either."""
    moments: dict[str, list[tuple[I64, F64, I64]]] = {EVENT: [], TIMER: []}
    for number, times in enumerate(shop.values()):
        events = times.events[times.events < past.until]
        for population, at in ((EVENT, events), (TIMER, _timers(times, past))):
            known = at[at + target.horizon_ms <= past.until]
            if target.needs_orders:
                had = np.searchsorted(times.orders, known, side="right")
                known = known[had >= past.min_orders]
            if len(known):
                silent = inactive_for(times.events, known)
                labels = _came_true(times.orders, known, target)
                moments[population].append((silent, labels, np.full(len(known), number)))
    rules = {}
    for population, parts in moments.items():
        if parts:
            silent, came, user = (np.concatenate([part[i] for part in parts]) for i in range(3))
            rules[population] = Rule.fit(
                silent.astype(np.int64), came.astype(np.float64), user_weights(user)
            )
    return rules


def live_errors(
    matured: MaturedPredictions, shop: Mapping[str, Times], target: Target, past: Past
) -> dict[str, dict[str, Any]]:
    """Population -> figures of the live predictions of a target, and the rule's for the same ones.

    Returns:
        Per population: predictions, users, predicted, observed, ece, ece_chance (an error that
        calibrated predictions stay below with a probability of 0.95), rule_ece and calibration.
    """
    columns = matured.of(target.name)
    if columns is None:
        return {}
    user, time, said, labels, at_event = columns
    rules = learn(shop, target, past)
    names = list(matured.users)
    found = {}
    for population, part in populations(at_event).items():
        rows = np.flatnonzero(part)
        if not len(rows) or population not in rules:
            continue
        silent = np.zeros(len(rows), np.int64)
        by_user = np.argsort(user[rows], kind="stable")
        ends = np.flatnonzero(np.diff(user[rows][by_user], append=-1)) + 1
        begin = 0
        for end in ends.tolist():
            mine = by_user[begin:end]
            times = shop[names[int(user[rows[mine[0]]])]]
            silent[mine] = inactive_for(times.events, time[rows[mine]])
            begin = end
        rule = rules[population].predict(silent)
        found[population] = _figures(labels[rows], said[rows], rule, user[rows])
    return found


def _figures(labels: F64, said: F64, rule: F64, users: I64) -> dict[str, Any]:
    weights = user_weights(users)
    figures = population_figures(labels, said, users)
    return {
        "predictions": len(labels),
        "users": int(figures["users"]),
        "predicted": float(np.average(said, weights=weights)),
        "observed": figures["base_rate"],
        "ece": figures["ece"],
        "ece_chance": figures["ece_chance"],
        "rule_ece": calibration_error(labels, rule, weights=weights),
        "calibration": _calibration(labels, said, weights),
    }


def _calibration(labels: F64, said: F64, weights: F64) -> list[dict[str, float]]:
    place = np.minimum((said * TABLE_BINS).astype(np.int64), TABLE_BINS - 1)
    rows = []
    for low in np.unique(place).tolist():
        inside = place == low
        rows.append(
            {
                "low": low / TABLE_BINS,
                "predictions": int(inside.sum()),
                "predicted": float(np.average(said[inside], weights=weights[inside])),
                "observed": float(np.average(labels[inside], weights=weights[inside])),
            }
        )
    return rows


def _timers(times: Times, past: Past) -> I64:
    """When timers would have evaluated a user before the live part."""
    found = [np.zeros(0, np.int64)]
    orders = times.orders[times.orders < past.until]
    events = times.events[times.events < past.until]
    for number in range(past.min_orders - 1, len(orders)):
        begin = int(orders[number])
        end = int(orders[number + 1]) if number + 1 < len(orders) else past.until
        gap = (past.prior_gap + begin - int(orders[0])) / (number + 1)
        found.append(past.timers(Question(events, begin, end, gap, 0)))
    return np.concatenate(found)


def _came_true(orders: I64, at: I64, target: Target) -> F64:
    """Labels [N] of a target of orders."""
    end = at + target.own_horizons(expected_gaps(orders, at, target.prior_gap_ms))
    had = np.searchsorted(orders, at, side="right")
    some = np.searchsorted(orders, end, side="right") > had
    return (~some if target.kind == ABSENT else some).astype(np.float64)
