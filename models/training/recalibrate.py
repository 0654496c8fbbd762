"""Recalibration under drift: beta maps of a served model, fitted on labels that matured lately.

A map is fitted per target and population (`models.populations`) on what the serving model itself
predicts, point-in-time, for examples of the log; what older models predicted at the time does not
matter. Examples count whose label became complete within the last weeks before the moment of the
fit: an event after that moment, and a label that is complete only later, change nothing.

The gate: users are cut into folds by hash, anew for each fit, and the labels of each fold evaluate
a map that is fitted on the others. The map is kept where its log-loss is surely not worse than that
of the model as it is, and its calibration error not larger; else the identity stays, with the
reason. A kept map is fitted on all users; the figures are of those fitted without the users that
they are of.
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
from models.fitting.beta import fit_beta
from models.history import history_dtype
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.kernels.betamap import map_all
from models.log.cleaning import Cleaning, clean
from models.log.eventlog import LogParts
from models.log.orders import deciding
from models.populations import TIMER, Mask, chance_error, populations, user_weights
from models.serving.manifest import Manifest
from models.serving.recalibration import BetaMap, Finding
from models.serving.thresholds import RaiseAt
from models.targets import CHURN, Target, judged
from models.training.gate import GateRules, interval, losses, user_groups
from models.training.refit import held_out
from models.training.thresholds import find_threshold, looks_of

DAY_MS: Final = 86_400_000
MOST_PLACES: Final = 20
"""Factor by which more places in inactivity are drawn over a user's life, at most, so that enough
of them fall into the window."""
_HALF: Final = 0.5
_FOLD_SALT: Final = 0x62


@dataclass(frozen=True)
class RecalibrationRules:
    """From which labels maps are fitted, and when they are kept. Times in ms."""

    window_ms: int = 28 * DAY_MS
    """Labels that became complete within this time before the fit."""
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
        complete = examples.now + target.horizon_ms + settle_ms
        recent = (complete <= until) & (complete > until - rules.window_ms)
        recent &= ~np.isnan(examples.labels[:, column])
        for population, part in populations(examples.at_event).items():
            found, fitted = _fit_one(
                examples, probabilities_QK[:, column], column, recent & part, fold, rules
            )
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
    precision: float,
    since: int = 0,
) -> RaiseAt | None:
    """From which mapped risk on alerts have a precision; None: churn is not predicted.

    Args:
        timers: examples at timers, with labels that the model did not learn from.
        said_NK: probabilities of the serving model without recalibration, for these examples.
        targets: of the model.
        fit: the maps that are in effect.
        until: as for `fit_maps`.
        settle_ms: likewise.
        rules: likewise.
        precision: what is asked for.
        since: before it no moments were drawn, ms: of older orders it is not known when an alert
            would have come.
    """
    column = next((k for k, target in enumerate(targets) if target.name == CHURN), None)
    if column is None:
        return None
    one = fit.maps.get(TIMER, {}).get(CHURN)
    said = said_NK[:, column]
    risk = said if one is None else mapped(one, said)
    complete = timers.now + targets[column].horizon_ms + settle_ms
    counts = (complete <= until) & (complete > until - rules.window_ms)
    logs = timers.profile[:, features.PROFILE_FEATURES.index("log_since_purchase_hours")]
    ordered = timers.now - np.expm1(logs.astype(np.float64)) * features.HOUR
    fresh = counts & (ordered > since) & ~np.isnan(timers.labels[:, column])
    return find_threshold(looks_of(timers, risk, column, fresh), precision)


def _fit_one(
    examples: Examples,
    said: F64,
    column: int,
    chosen: Mask,
    fold: NDArray[np.int8],
    rules: RecalibrationRules,
) -> tuple[tuple[str, dict[str, float]], BetaMap | None]:
    """(why and figures, the map if it is kept) of one target in one population."""
    rows = np.flatnonzero(chosen)
    truth, users = examples.labels[rows, column].astype(np.float64), examples.user[rows]
    before, fold = said[rows], fold[rows]
    if few := _too_few(truth, users, rules):
        return (few, {}), None
    weights = user_weights(users)
    after = np.empty_like(before)
    for place in range(rules.folds):
        mine = fold == place
        rest = ~mine
        after[mine] = mapped(fit_beta(before[rest], truth[rest], weights[rest]), before[mine])
    groups = user_groups(users, rules.gate.seed)
    difference = losses(truth, after) - losses(truth, before)
    low, high = interval(difference, groups, rules.gate, weights_N=weights)
    figures = {
        "base_rate": float(np.average(truth, weights=weights)),
        "before.log_loss": log_loss(truth, before, weights),
        "after.log_loss": log_loss(truth, after, weights),
        "low": low,
        "high": high,
        "before.ece": calibration_error(truth, before, weights=weights),
        "after.ece": calibration_error(truth, after, weights=weights),
        "ece_chance": chance_error(truth, after, users, weights),
        "points": float(len(rows)),
        "users": float(np.round(weights.sum())),
    }
    if high > rules.tolerance:
        why = f"not surely as good: log-loss {low:+.4f} to {high:+.4f} on users held out"
        return (why, figures), None
    if figures["after.ece"] > figures["before.ece"]:
        worse = f"{figures['before.ece']:.4f} would become {figures['after.ece']:.4f}"
        return (f"calibration error {worse} on users held out", figures), None
    return ("surely not worse on users held out", figures), fit_beta(before, truth, weights)


def _too_few(labels: F64, users: NDArray[np.uint64], rules: RecalibrationRules) -> str:
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
    since = until - config.settle_ms - rules.window_ms - max(t.horizon_ms for t in targets)
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
    return label_points(points, targets, split)
