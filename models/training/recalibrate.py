"""Recalibration under drift: beta maps of a served model, fitted on the newest labels.

A map is fitted per target and population (`models.populations`) on what the serving model itself
predicts, point-in-time, for examples of the log; what older models predicted at the time does not
matter. Examples count whose label became complete within the last days before the moment of the
fit, and those whose label is still open, by what is known of it (`models.training.open_labels`): a
label of 30 days tells of a drift weeks before it is complete. An event after that moment changes
nothing.

The gate: users are cut into folds by hash, anew for each fit, and the labels of each fold evaluate
a map that is fitted on the others. The map is kept where its log-loss is surely not worse than that
of the model as it is, and its calibration error not larger; else the identity stays, with the
reason. A kept map is fitted on all users; the figures are of those fitted without the users that
they are of. The figures are of what is known at the moment: of an open label whether its event came
so far, beside the probability that it did.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import DatasetConfig, Examples, chunks, label_points
from models.data.points import Points, draw, join, mix
from models.data.split import TimeSplit
from models.errors import DatasetError
from models.evaluate import F64, calibration_error, log_loss
from models.fitting.beta import fit_beta, so_far
from models.history import history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.kernels.betamap import map_all
from models.log.cleaning import Cleaning, clean
from models.log.eventlog import LogParts
from models.log.orders import deciding
from models.populations import TIMER, chance_error, populations, user_weights
from models.serving.manifest import Manifest
from models.serving.recalibration import BetaMap, Finding
from models.serving.thresholds import RaiseAt
from models.targets import ABSENT, CHURN, Target, column_of, judged
from models.training.budget import AlertRules, Evaluations
from models.training.gate import GateRules, interval, losses, user_groups
from models.training.open_labels import (
    NO_CURVE,
    Observed,
    came_after,
    curve_of,
    observed,
    open_rows,
)
from models.training.refit import held_out
from models.training.thresholds import looks_of, thresholds_for

DAY_MS: Final = 86_400_000
WIDER: Final = 4
"""Factor of the window where the labels of the window itself are too few."""
MOST_PLACES: Final = 20
"""Factor by which more places in inactivity are drawn over a user's life, at most, so that enough
of them fall into the window."""
_HALF: Final = 0.5
_FOLD_SALT: Final = 0x62


@dataclass(frozen=True)
class RecalibrationRules:
    """From which labels maps are fitted, and when they are kept. Times in ms."""

    window_ms: int = 7 * DAY_MS
    """Labels that became complete within this time before the fit, or within `WIDER` times as long
    where these are too few."""
    least_observed: float = 0.1
    """Share of its window that is over, at least, where an open label counts; 1: none does."""
    folds: int = 3
    """Parts of the users; each evaluates a map that is fitted on the others."""
    min_labels: int = 300
    """Fewer labels of a target in a population: the identity stays."""
    min_users: int = 100
    """Likewise of users, and of users with either label a tenth of it."""
    tolerance: float = 0.001
    """Log-loss, nats, by which a map may be worse within its interval."""
    points: int = 10
    """Examples per user at events, and in inactivity, within the window."""
    gate: GateRules = field(default_factory=GateRules)
    """For the intervals."""


def not_learnt(examples: Examples, manifest: Manifest) -> Examples:
    """The examples without the labels that the model learnt from: on these it is too good.

    Those of later moments stay, and of users whose newest labels it was not shown.
    """
    last = (manifest.served or manifest.gated).last
    fresh = (examples.now > last) | held_out(examples.user)
    return replace(examples, labels=np.where(fresh[:, None], examples.labels, np.float32(np.nan)))


@dataclass(frozen=True)
class Fit:
    """Maps of a model: population -> target -> map, and what the gate found."""

    maps: dict[str, dict[str, BetaMap]]
    findings: tuple[Finding, ...]


def fit_maps(
    examples: Examples,
    probabilities_QK: F64,
    targets: tuple[Target, ...],
    until: int,
    settle_ms: int,
    rules: RecalibrationRules,
) -> Fit:
    """Fit and evaluate maps at a moment.

    Args:
        examples: with labels as far as they are known; any time.
        probabilities_QK: of the serving model without recalibration, for these examples.
        targets: of the model.
        until: the moment of the fit, ms: labels that are complete later do not count.
        settle_ms: how long after its horizon a label is still open.
        rules: see there.
    """
    maps: dict[str, dict[str, BetaMap]] = {}
    findings = []
    fold = (mix(examples.user ^ mix(until, _FOLD_SALT)) % np.uint64(rules.folds)).astype(np.int8)
    for column, target in enumerate(targets):
        if target not in judged(targets):
            continue
        age = until - settle_ms - target.horizon_ms - examples.now
        known = (age >= 0) & ~np.isnan(examples.labels[:, column])
        waiting = open_rows(examples, column, target, until - settle_ms, rules.least_observed)
        for population, part in populations(examples.at_event).items():
            of = np.flatnonzero(known & part)
            newest = of[age[of] < rules.window_ms]
            if _too_few(examples, column, newest, rules):
                newest = of[age[of] < WIDER * rules.window_ms]
            labels = _Labels(
                examples, column, target, newest, waiting[part[waiting]], until - settle_ms
            )
            found, fitted = _fit_one(labels, probabilities_QK[:, column], fold, rules)
            findings.append(Finding(target.name, population, fitted is not None, *found))
            if fitted is not None:
                maps.setdefault(population, {})[target.name] = fitted
    return Fit(maps, tuple(findings))


def fit_threshold(
    timers: Examples,
    said_NK: F64,
    targets: tuple[Target, ...],
    fit: Fit,
    until: int,
    settle_ms: int,
    rules: RecalibrationRules,
    precision: float | None,
    since: int = 0,
    budget: AlertRules | None = None,
    sampled: float = 1.0,
    counted: int | None = None,
) -> RaiseAt | None:
    """From which mapped risk on alerts are what is asked for; None: churn is not predicted.

    Args:
        timers: examples at timers, with labels that the model did not learn from.
        said_NK: probabilities of the serving model without recalibration, for these examples.
        targets: of the model.
        fit: the maps that are in effect.
        until: as for `fit_maps`.
        settle_ms: likewise.
        rules: likewise.
        precision: of the alerts; None: not asked for.
        since: before it no moments were drawn, ms: of older orders it is not known when an alert
            would have come.
        budget: how many alerts a day; None: not asked for.
        sampled: share of the users that the examples are of.
        counted: end of the days whose alerts are counted for the budget, ms, up to which examples
            were drawn; None: `until`.
    """
    column = column_of(targets, CHURN)
    if column is None:
        return None
    one = fit.maps.get(TIMER, {}).get(CHURN)
    said = said_NK[:, column]
    risk = said if one is None else mapped(one, said)
    complete = timers.now + targets[column].horizon_ms + settle_ms
    counts = (complete <= until) & (complete > until - WIDER * rules.window_ms)
    since_order = features.unlogged(timers.profile, "log_since_purchase_hours")
    ordered = timers.now - since_order * features.HOUR
    fresh = counts & (ordered > since) & ~np.isnan(timers.labels[:, column])
    looks, evaluated = looks_of(timers, risk, column, fresh), Evaluations.of(timers, risk)
    end = until if counted is None else counted
    return thresholds_for(looks, evaluated, precision, budget, end, sampled)


@dataclass(frozen=True)
class _Labels:
    """Complete and open labels of one target in one population, as they are known at a moment."""

    examples: Examples
    column: int
    target: Target
    complete: NDArray[np.intp]
    open: NDArray[np.intp]
    until: int
    """The moment, less the time until an event is settled, ms."""

    def seen(self, event_Q: F64) -> Observed:
        """What is known of the event, where the model gives it the probabilities `event_Q`."""
        examples, column, target, complete = self.examples, self.column, self.target, self.complete
        given = (examples, column, target, complete)
        seen = observed(*given, complete[:0], self.until, NO_CURVE)
        if not len(self.open):
            return seen
        weights = user_weights(examples.user[complete])
        fitted = fit_beta(event_Q[complete], seen.truth, weights)
        calibrated = mapped(fitted, event_Q[complete])
        curve = curve_of(came_after(examples, column, complete), calibrated, weights)
        return observed(*given, self.open, self.until, curve)


def _turned(one: BetaMap) -> BetaMap:
    """The map of the opposite event's probabilities."""
    return BetaMap(one.b, one.a, -one.c)


def _fit_one(
    labels: _Labels, said_Q: F64, fold_Q: NDArray[np.int8], rules: RecalibrationRules
) -> tuple[tuple[str, dict[str, float]], BetaMap | None]:
    """(why and figures, the map if it is kept) of one target in one population."""
    examples, absent = labels.examples, labels.target.kind == ABSENT
    complete = labels.complete
    if few := _too_few(examples, labels.column, complete, rules):
        return (few, {}), None
    # Of the event, whose absence may be the target.
    event_Q = 1 - said_Q if absent else said_Q
    seen = labels.seen(event_Q)
    users, fold = examples.user[seen.rows], fold_Q[seen.rows]
    weights = user_weights(users)
    before, after = event_Q[seen.rows], np.empty(len(seen.rows))
    for place in range(rules.folds):
        mine = fold == place
        rest = ~mine
        one = fit_beta(before[rest], seen.truth[rest], weights[rest], seen.share[rest])
        after[mine] = mapped(one, before[mine])
    before, after = so_far(before, seen.share), so_far(after, seen.share)
    groups = user_groups(users, rules.gate.seed)
    difference = losses(seen.truth, after) - losses(seen.truth, before)
    low, high = interval(difference, groups, rules.gate, weights_N=weights)
    rate_weights = user_weights(examples.user[complete])
    figures = {
        "base_rate": float(
            np.average(examples.labels[complete, labels.column], weights=rate_weights)
        ),
        "before.log_loss": log_loss(seen.truth, before, weights),
        "after.log_loss": log_loss(seen.truth, after, weights),
        "low": low,
        "high": high,
        "before.ece": calibration_error(seen.truth, before, weights=weights),
        "after.ece": calibration_error(seen.truth, after, weights=weights),
        "ece_chance": chance_error(seen.truth, after, users, weights),
        "points": float(len(seen.rows)),
        "open": float(len(labels.open)),
        "users": float(np.round(weights.sum())),
    }
    if high > rules.tolerance:
        why = f"not surely as good: log-loss {low:+.4f} to {high:+.4f} on users held out"
        return (why, figures), None
    if figures["after.ece"] > figures["before.ece"]:
        worse = f"{figures['before.ece']:.4f} would become {figures['after.ece']:.4f}"
        return (f"calibration error {worse} on users held out", figures), None
    whole = fit_beta(event_Q[seen.rows], seen.truth, weights, seen.share)
    return ("surely not worse on users held out", figures), _turned(whole) if absent else whole


def _too_few(
    examples: Examples, column: int, rows: NDArray[np.intp], rules: RecalibrationRules
) -> str:
    """Why complete labels are too few for a map; empty where they are enough."""
    labels, users = examples.labels[rows, column], examples.user[rows]
    if len(labels) < rules.min_labels:
        return f"{len(labels)} labels, at least {rules.min_labels} are needed"
    either = max(rules.min_users // 10, rules.folds)
    for name, chosen, needed in (
        ("users", labels >= 0, rules.min_users),
        ("users with label 1", labels > _HALF, either),
        ("users with label 0", labels < _HALF, either),
    ):
        count = len(np.unique(users[chosen]))
        if count < needed:
            return f"{count} {name}, at least {needed} are needed"
    return ""


def mapped(one: BetaMap, probabilities_N: F64) -> F64:
    """Probabilities [N] by a map, to the digits with which a worker has them."""
    column = np.asarray(probabilities_N, np.float32).reshape(-1, 1)
    return map_all(column, [(0, one.a, one.b, one.c)])[:, 0].astype(np.float64)


def matured_points(
    log: LogParts,
    targets: tuple[Target, ...],
    config: DatasetConfig,
    until: int,
    rules: RecalibrationRules,
    *,
    drop_late: bool,
) -> tuple[Points, TimeSplit]:
    """Points whose labels became complete within the window before `until`, drawn densely.

    The first edge of the split is when the window of the points begins. What happened after `until`
    is not looked at.

    Raises:
        DatasetError: there is none.
    """
    since = until - config.settle_ms - WIDER * rules.window_ms
    since -= max(target.horizon_ms for target in targets)
    parts: list[Points] = []
    for part in log.parts():
        part = part.where(part.events.time <= until)  # noqa: PLW2901  # the rest is not to be seen
        if not len(part):
            continue
        grace = config.grace_ms if drop_late else None
        ordered = clean(part, grace, until, Cleaning(), config.corrections)
        life = until - int(ordered.log.events.time.min(initial=until))
        places = rules.points * min(max(-(-life // (until - since)), 1), MOST_PLACES)
        drawing = replace(
            config.drawing, event_points=rules.points, silence_points=places, seed=until % 997
        )
        for lo, hi, rows, events in chunks(ordered, config):
            users = ordered.log.users[ordered.starts[lo:hi]]
            records = np.zeros(hi - lo, history_dtype(config.history_length))
            decides = deciding(records, rows, events, config.sessions, config.cancel_window_ms)
            old, new = (np.flatnonzero(late == (events.time > since)) for late in (False, True))
            if len(old):
                apply_in_order(records, rows[old], events.take(old), config.sessions)
            stretch = (rows[new], events.take(new), decides.take(new))
            parts.append(draw(records, users, *stretch, since, until, targets, drawing))
    if not parts:
        raise DatasetError("there is no event before the moment of the fit: nothing to learn from")
    return join(parts), TimeSplit((since, since, since, until), config.settle_ms)


def matured_examples(
    log: LogParts,
    targets: tuple[Target, ...],
    config: DatasetConfig,
    until: int,
    rules: RecalibrationRules,
    *,
    drop_late: bool,
) -> Examples:
    """The points of `matured_points` as examples; raises as it."""
    points, split = matured_points(log, targets, config, until, rules, drop_late=drop_late)
    return label_points(points, targets, split, open_too=True)
