"""Champion or challenger: whether a new model may be published, check by check, with figures.

Every comparison is of log-losses on the same points of a time slice that neither model was fitted
on. Its interval is a paired bootstrap over users, since the points of one user hang together
(Efron and Tibshirani, 1993, ch. 6). Users are drawn in at most `GROUPS` random groups, so that the
cost does not grow with the shop. The interval of each of the many segments is widened by
Bonferroni's factor, so that a challenger is not refused for one of twenty by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.data.spend import figures_of
from models.errors import TrainingError
from models.evaluate import (
    CALIBRATION_BINS,
    F64,
    PROBABILITY_FLOOR,
    calibration_error,
)
from models.inputs.features import F32
from models.inputs.segments import Evidence, Mask, segments
from models.targets import AMOUNT, Target, questions

GROUPS: Final = 1000
"""Users are resampled in at most this many groups."""
ALL: Final = "all"
MUST_BEAT: Final = ("base_rate", "recency")
LOGISTIC: Final = "logistic"
_CALIBRATION_DRAWS: Final = 50


@dataclass(frozen=True)
class GateRules:
    """How strict the gate is."""

    confidence: float = 0.95
    """Of the intervals, two-sided."""
    resamples: int = 400
    """Bootstrap draws."""
    min_points: int = 100
    """Fewer points of a segment are no evidence, and it is not judged."""
    min_users: int = 30
    """Likewise of users."""
    tolerance: float = 0.005
    """Log-loss by which a challenger may surely be worse than the champion."""
    max_ece: float = 0.1
    """Expected calibration error allowed, beyond what so few points show of a perfect model; of
    amounts the relative bias that they may not surely exceed."""
    evidence: Evidence = field(default_factory=Evidence)
    """Below it a prediction abstains; judged as a segment of its own."""
    seed: int = 7


class Check(msgspec.Struct, frozen=True):
    """One comparison and how it went."""

    name: str
    """"calibrated", "unbiased", "better than base_rate", "not worse than the champion", ..."""
    target: str
    """Name of the target, or of the question that several answer together (`models.targets`); empty
    for the mean over all of them."""
    segment: str
    passed: bool
    ours: float
    """Log-loss (or calibration error, or relative bias) of the challenger."""
    theirs: float
    """Of what it is compared with (or what is allowed)."""
    low: float
    """Interval of the difference, ours less theirs."""
    high: float
    points: int

    def __str__(self) -> str:
        where = f"{self.target or 'all targets'}, {self.segment}"
        return (
            f"{self.name} ({where}): {self.ours:.4f} against {self.theirs:.4f},"
            f" difference {self.low:+.4f} to {self.high:+.4f} over {self.points:,} points"
        )


class Verdict(msgspec.Struct, frozen=True):
    """All checks of a challenger."""

    checks: tuple[Check, ...] = ()
    segments: dict[str, dict[str, dict[str, float]]] = {}
    """Target -> segment -> figures of the challenger, and "champion.log_loss"."""
    champion: str | None = None
    """Version it was compared with."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that were not passed."""
        return tuple(check for check in self.checks if not check.passed)

    def require(self, architecture: str) -> None:
        """Raise unless every check was passed.

        Raises:
            TrainingError: names each check that failed, with its figures.
        """
        if self.failed:
            raise TrainingError(
                f"nothing published: {architecture} did not pass the gate:"
                f" {'; '.join(f'failed: {check}' for check in self.failed)}; collect more events,"
                " choose another horizon, or loosen the settings under `gate`"
            )


@dataclass(frozen=True)
class Slice:
    """The later time slice on which models are compared. N points, K targets, P features."""

    targets: tuple[Target, ...]
    labels: F32
    """[N,K] NaN where unknown."""
    profile: F32
    """[N,P]."""
    users: NDArray[Any]
    """[N] any number per user, the same for all points of the user."""


def judge(
    found: Slice,
    challenger_NK: F64,
    rivals: Mapping[str, F64],
    rules: GateRules,
    champion: tuple[str, F64] | None = None,
    *,
    may_equal: tuple[str, ...] = (LOGISTIC,),
) -> Verdict:
    """Run all checks of a challenger.

    Args:
        found: labels, profiles and users of the points.
        challenger_NK: its calibrated probabilities.
        rivals: baseline -> probabilities [N,K]. `MUST_BEAT` must be beaten on each target (the
            bins of a wait are one); those of `may_equal` on their mean; others are ignored.
        rules: see there.
        champion: version and probabilities of the model that serves now, if there is one.
        may_equal: see `rivals`.
    """
    asked = questions(found.targets)
    names = tuple(dict.fromkeys(asked))
    loss = _asked(losses(found.labels, challenger_NK), asked)
    groups = _groups(found.users, rules.seed)
    checks: list[Check] = []
    for column, target in enumerate(found.targets):
        known = ~np.isnan(found.labels[:, column])
        labels, said = found.labels[known, column], challenger_NK[known, column]
        if target.kind == AMOUNT:
            checks.append(_unbiased(target.name, labels, said, groups[known], rules))
        else:
            checks.append(_calibrated(target.name, labels, said, rules))
    compared = {
        name: _asked(losses(found.labels, theirs), asked) for name, theirs in rivals.items()
    }
    for name in MUST_BEAT:
        checks += [
            _better(name, question, loss[:, k], compared[name][:, k], groups, rules)
            for k, question in enumerate(names)
            if name in compared
        ]
    checks += [
        _better(name, "", _mean(loss), _mean(compared[name]), groups, rules)
        for name in may_equal
        if name in compared
    ]
    parts = segments(found.profile, rules.evidence)
    theirs = None if champion is None else losses(found.labels, champion[1])
    if theirs is not None:
        checks += _against_champion(names, loss, _asked(theirs, asked), groups, parts, rules)
    return Verdict(
        tuple(checks),
        _by_segment(found, challenger_NK, theirs, parts, rules),
        None if champion is None else champion[0],
    )


def losses(labels_NK: NDArray[Any], probabilities_NK: NDArray[Any]) -> F64:
    """Log-loss of each point, NaN where its label is unknown; any shape."""
    y = np.asarray(labels_NK, np.float64)
    p = np.clip(np.asarray(probabilities_NK, np.float64), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def interval(
    difference_N: F64, groups_N: NDArray[np.intp], rules: GateRules, comparisons: int = 1
) -> tuple[float, float]:
    """Bootstrap interval of the mean of differences, over groups of users.

    Args:
        difference_N: per point, without NaN.
        groups_N: group of each point.
        rules: confidence, draws and seed.
        comparisons: made at once, for Bonferroni's correction.
    """
    size = int(groups_N.max()) + 1
    sums = np.bincount(groups_N, weights=difference_N, minlength=size)
    counts = np.bincount(groups_N, minlength=size)
    sums, counts = sums[counts > 0], counts[counts > 0]
    rng = np.random.default_rng(rules.seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), rules.resamples)
    means = (drawn @ sums) / (drawn @ counts)
    tail = (1 - rules.confidence) / 2 / comparisons
    if tail * rules.resamples < 1:
        # Too far out for so few draws: the normal tail of the same bootstrap.
        reach = NormalDist().inv_cdf(1 - tail) * float(means.std())
        middle = float(difference_N.mean())
        return middle - reach, middle + reach
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _asked(loss_NK: F64, asked: tuple[str, ...]) -> F64:
    """Losses [N,Q] of the questions: sums over their targets that are known, NaN where none is."""
    columns: dict[str, list[int]] = {}
    for column, question in enumerate(asked):
        columns.setdefault(question, []).append(column)
    out = np.empty((len(loss_NK), len(columns)))
    for place, mine in enumerate(columns.values()):
        part = loss_NK[:, mine]
        out[:, place] = np.where(np.isnan(part).all(axis=1), np.nan, np.nansum(part, axis=1))
    return out


def _groups(users_N: NDArray[Any], seed: int) -> NDArray[np.intp]:
    distinct, inverse = np.unique(users_N, return_inverse=True)
    if len(distinct) <= GROUPS:
        return np.asarray(inverse, np.intp)
    group = np.random.default_rng(seed).permutation(len(distinct)) % GROUPS
    return np.asarray(group[inverse], np.intp)


def _mean(loss_NQ: F64) -> F64:
    """Mean over the questions that are known of each point, NaN where none is."""
    known = ~np.isnan(loss_NQ)
    count = known.sum(axis=1)
    total = np.where(known, loss_NQ, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _calibrated(target: str, labels: NDArray[Any], probabilities: F64, rules: GateRules) -> Check:
    ece = calibration_error(labels, probabilities)
    rng = np.random.default_rng(rules.seed)
    # What a perfectly calibrated model would show on as many points with these probabilities.
    index = np.minimum((probabilities * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    drawn = np.empty(_CALIBRATION_DRAWS)
    for draw in range(_CALIBRATION_DRAWS):
        residual = (rng.random(len(probabilities)) < probabilities) - probabilities
        drawn[draw] = np.abs(np.bincount(index, weights=residual)).sum() / len(probabilities)
    allowed = rules.max_ece + float(np.quantile(drawn, rules.confidence))
    gap = ece - allowed
    return Check("calibrated", target, ALL, ece <= allowed, ece, allowed, gap, gap, len(labels))


def _unbiased(
    target: str, labels: NDArray[Any], said: F64, groups: NDArray[np.intp], rules: GateRules
) -> Check:
    """Amounts: bins of shares, most of them tiny, would show nothing; their sum does."""
    mean = max(float(labels.mean()), PROBABILITY_FLOOR)
    low, high = (bound / mean for bound in interval(said - labels, groups, rules))
    bias, allowed = float(said.mean()) / mean - 1, rules.max_ece
    passed = low <= allowed and high >= -allowed
    return Check("unbiased", target, ALL, passed, bias, allowed, low, high, len(labels))


def _better(
    name: str,
    target: str,
    ours: F64,
    theirs: F64,
    groups: NDArray[np.intp],
    rules: GateRules,
) -> Check:
    known = ~np.isnan(ours)
    low, high = interval((ours - theirs)[known], groups[known], rules)
    return Check(
        f"better than {name}",
        target,
        ALL,
        high < 0,
        float(ours[known].mean()),
        float(theirs[known].mean()),
        low,
        high,
        int(known.sum()),
    )


def _against_champion(
    names: tuple[str, ...],
    ours: F64,
    theirs: F64,
    groups: NDArray[np.intp],
    parts: dict[str, Mask],
    rules: GateRules,
) -> list[Check]:
    judged = []
    for column, question in enumerate(names):
        known = ~np.isnan(ours[:, column])
        for name, part in {ALL: np.ones(len(known), np.bool_), **parts}.items():
            inside = known & part
            users = len(np.unique(groups[inside]))
            if inside.sum() >= rules.min_points and users >= rules.min_users:
                judged.append((column, question, name, inside))
    checks = []
    for column, question, name, inside in judged:
        mine, other = ours[inside, column], theirs[inside, column]
        comparisons = 1 if name == ALL else len(judged)
        low, high = interval(mine - other, groups[inside], rules, comparisons)
        checks.append(
            Check(
                "not worse than the champion",
                question,
                name,
                low <= rules.tolerance,
                float(mine.mean()),
                float(other.mean()),
                low,
                high,
                int(inside.sum()),
            )
        )
    return checks


def _by_segment(
    found: Slice,
    probabilities_NK: F64,
    theirs_NK: F64 | None,
    parts: dict[str, Mask],
    rules: GateRules,
) -> dict[str, dict[str, dict[str, float]]]:
    out: dict[str, dict[str, dict[str, float]]] = {}
    for column, target in enumerate(found.targets):
        known = ~np.isnan(found.labels[:, column])
        rows = out[target.name] = {}
        for name, part in parts.items():
            inside = known & part
            if inside.sum() < rules.min_points:
                continue
            labels = found.labels[inside, column]
            row = figures_of(target, labels, probabilities_NK[inside, column])
            if theirs_NK is not None:
                row["champion.log_loss"] = float(theirs_NK[inside, column].mean())
            rows[name] = {key: value for key, value in row.items() if np.isfinite(value)}
    return out
