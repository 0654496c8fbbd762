"""A first model without labels: the purchase process (BG/NBD) fitted on the log so far.

A labelled model needs three horizons of events. The likelihood of the purchase process needs the
orders alone, so it can be fitted after days. What it predicts is checked on the log itself: fitted
on the part before a cut, it predicts who orders until the end. It is published where it predicts
this better than the prior process, which serves before any model; only where its probabilities are
calibrated too may it raise alerts. In a season the check fails, and the prior goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.baselines.bgnbd import fit_process
from models.data.dataset import chunks
from models.data.split import HOUR
from models.errors import DatasetError, TrainingError
from models.evaluate import calibration_error, log_loss
from models.history import PURCHASE, Records, history_dtype, snapshot
from models.inputs import features
from models.inputs.apply import apply_in_order
from models.log.automation import automated
from models.log.cleaning import Cleaning, clean
from models.log.orders import deciding
from models.networks.rhythm import Rhythm, RhythmConfig
from models.serving.artifact import script_bytes
from models.serving.manifest import TrainingWindow
from models.serving.scorer import make_golden, manifest_of, network_spec
from models.targets import CHURN, OCCURS, Target, of_purchases
from models.training.card import card_of
from models.training.gate import GateRules
from models.training.gather import STRAY_SHARE, Span, UserSample, span_of
from models.training.train import Trained, version_of
from models.training.verdict import Check, Verdict

if TYPE_CHECKING:
    from models.data.dataset import DatasetConfig, Index
    from models.history import Events
    from models.inputs.features import F32
    from models.log.eventlog import LogParts, OrderedLog
    from models.networks.process import ProcessParameters
    from models.training.train import TrainConfig

ARCHITECTURE: Final = "rhythm"
CHECK_SHARE: Final = 1 / 3
"""Of the log, at its end: what the process is checked on, at most one churn horizon."""
CALIBRATED: Final = 0.05
"""Calibration error up to which the process may raise alerts: what is allowed between the risk of
alerts and the share of their users who are gone."""
LEAST_CUSTOMERS: Final = 100
LEAST_REPEATS: Final = 50
"""Orders after the first."""


@dataclass(slots=True)
class _Histories:
    """N users who are persons and have ordered, at two times."""

    before: list[F32] = field(default_factory=list)
    """[N,P] at the cut, of those who had ordered by then."""
    ordered: list[NDArray[np.bool_]] = field(default_factory=list)
    """[N] whether these have ordered since."""
    now: list[F32] = field(default_factory=list)
    """[N,P] at the end."""


def fit_cold_start(
    log: LogParts,
    targets: tuple[Target, ...],
    config: TrainConfig,
    *,
    created_at: int,
    why: str,
    invalid: dict[str, int] | None = None,
) -> Trained:
    """Fit the purchase process and check it.

    Args:
        log: events in order of arrival.
        targets: what is predicted; the process knows of purchases alone.
        config: how histories are made; its gate tells how many users a check needs.
        created_at: time of the run, ms.
        why: no labelled model is there.
        invalid: what the source refused, by reason.

    Raises:
        DatasetError: the log is empty, shorter than the horizon of churn, or has too few orders.
        TrainingError: the process predicts no better than the prior.
    """
    span = span_of(log, created_at, invalid)
    first, last = span.quantile(STRAY_SHARE), span.quantile(1 - STRAY_SHARE)
    horizon = next((t.horizon_ms for t in targets if t.name == CHURN), last - first)
    if last - first < horizon:
        raise DatasetError(
            f"the log spans {(last - first) / HOUR:.1f} h, less than the horizon of churn,"
            f" {horizon / HOUR:.1f} h: the purchase process cannot tell of it; collect more events"
        )
    cut = last - min(round((last - first) * CHECK_SHARE), horizon)
    found = Cleaning(invalid=dict(invalid or {}))
    histories, users = _Histories(), 0
    sample = UserSample(config.dataset.max_users)
    grace = config.dataset.grace_ms if config.drop_late else None
    for part in log.parts():
        cleaned = clean(part, grace, created_at, found, config.dataset.corrections)
        users += len(cleaned.starts)
        _add(histories, cleaned.of_users(sample.keeps), cut, last, config.dataset)
    checks = _checked(histories, last - cut, config.gate)
    now = np.concatenate(histories.now)
    process = fit_process(now, RhythmConfig().parameters)
    typical = now.mean(axis=0, dtype=np.float64)
    return _trained(process, checks, targets, config, created_at, why, found, span, users, typical)


def _add(
    histories: _Histories, log: OrderedLog, cut: int, last: int, config: DatasetConfig
) -> None:
    """Take in the users of one part of a log."""
    for lo, hi, rows, events in chunks(log, config):
        records = np.zeros(hi - lo, history_dtype(config.history_length))
        decides = deciding(records, rows, events, config.sessions, config.cancel_window_ms)
        since = (events.time > cut) & (events.time <= last)
        _apply(records, rows, events, events.time <= cut, config)
        then = snapshot(records)
        buyers = rows[since & decides.counts & (events.type == PURCHASE)]
        came = np.bincount(buyers, minlength=hi - lo) > 0
        bought = (then.orders > 0) & ~automated(then, config.bot_session_events)
        every, rules = np.arange(hi - lo), config.sessions
        profile = features.profile_of(records, every, np.full(hi - lo, cut), rules)
        histories.before.append(profile[bought])
        histories.ordered.append(came[bought])
        _apply(records, rows, events, since, config)
        now = snapshot(records)
        bought = (now.orders > 0) & ~automated(now, config.bot_session_events)
        profile = features.profile_of(records, every, np.full(hi - lo, last), rules)
        histories.now.append(profile[bought])


def _apply(
    records: Records, rows: Index, events: Events, chosen: NDArray[np.bool_], config: DatasetConfig
) -> None:
    index = np.flatnonzero(chosen)
    if len(index):
        apply_in_order(records, rows[index], events.take(index), config.sessions)


def _checked(histories: _Histories, window: int, rules: GateRules) -> tuple[Check, ...]:
    """Whether a process fitted on what was before the cut predicts what came after it.

    Raises:
        DatasetError: too few have ordered.
        TrainingError: it predicts that no better than the prior.
    """
    before, ordered = np.concatenate(histories.before), np.concatenate(histories.ordered)
    orders = features.unlogged(before, "log_orders").round()
    repeats = int(np.maximum(orders - 1, 0).sum())
    if len(before) < LEAST_CUSTOMERS or repeats < LEAST_REPEATS:
        raise DatasetError(
            f"{len(before)} users have ordered by two thirds of the log, {repeats} times again:"
            f" the purchase process needs {LEAST_CUSTOMERS} and {LEAST_REPEATS}; collect more"
            " events"
        )
    prior = RhythmConfig().parameters
    fitted = fit_process(before, prior)
    target = (Target("purchase", OCCURS, PURCHASE, window),)
    ours, theirs = (_predicted(process, before, target)[:, 0] for process in (fitted, prior))
    loss, other = log_loss(ordered, ours), log_loss(ordered, theirs)
    if loss >= other:
        raise TrainingError(
            f"the purchase process fitted so far predicts the last {window / HOUR:.1f} h"
            f" no better (log-loss {loss:.4f}) than the one that serves before any model"
            f" ({other:.4f}); collect more events"
        )
    count, less = len(ours), loss - other
    checks = [Check("better than the prior", "", "all", less < 0, loss, other, less, less, count)]
    for segment, mask in (("all", orders > 0), ("repeat buyers", orders > 1)):
        count = int(mask.sum())
        error = calibration_error(ordered[mask], ours[mask]) if count else 1.0
        passed = error <= CALIBRATED and count >= rules.min_users
        checks.append(
            Check("calibrated", "", segment, passed, error, CALIBRATED, error, error, count)
        )
    return tuple(checks)


def _predicted(
    process: ProcessParameters, profile_NP: F32, targets: tuple[Target, ...]
) -> NDArray[np.float64]:
    """Probabilities [N,K] of a process."""
    network = Rhythm(network_spec(targets), RhythmConfig.of(process))
    profile = torch.from_numpy(profile_NP)
    with torch.no_grad():
        logits = network.heads(network.initial(len(profile_NP)), profile)
    found: NDArray[np.float64] = torch.sigmoid(logits).numpy().astype(np.float64)
    return found


def _trained(
    process: ProcessParameters,
    checks: tuple[Check, ...],
    targets: tuple[Target, ...],
    config: TrainConfig,
    created_at: int,
    why: str,
    cleaning: Cleaning,
    span: Span,
    users: int,
    typical: NDArray[np.float64],
) -> Trained:
    known = of_purchases(targets)
    script = script_bytes(Rhythm(network_spec(known), RhythmConfig.of(process)))
    numbers = f"r {process.shape:.3g}, alpha {process.scale_hours:.4g} h, a {process.a:.3g}, b"
    manifest = manifest_of(
        Rhythm(network_spec(known), RhythmConfig.of(process)),
        version_of(created_at, "process", script),
        ARCHITECTURE,
        history_length=1,
        targets=known,
        reference_profile=tuple(typical.tolist()),
        created_at=created_at,
        choice=f"purchase process without labels ({numbers} {process.b:.3g}), because {why}",
        window=TrainingWindow(span.first, span.last, int(span.counts.sum()), users),
        cleaning=cleaning,
        cold_start=True,
        raises=all(check.passed for check in checks),
    )
    card = card_of(manifest, Verdict(checks), config.gate)
    return Trained(manifest, script, make_golden(script, manifest, {}), card)
