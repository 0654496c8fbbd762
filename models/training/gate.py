"""Champion or challenger: whether a new model may be published, check by check, with figures.

Every comparison is of log-losses on the same points of a time slice that neither model was fitted
on. Its interval is a paired bootstrap over users, since the points of one user hang together
(Efron and Tibshirani, 1993, ch. 6). Users are drawn in at most `GROUPS` random groups, so that the
cost does not grow with the shop. The interval of each of the many segments is widened by
Bonferroni's factor, so that a challenger is not refused for one of twenty by chance.

Predictions at events and in inactivity are two populations (`models.populations`). Calibration and
the champion are checked in each by itself, where each user counts once. A baseline must surely be
beaten over both, and must not surely be better in either: half of the evidence may not suffice for
"surely". A population with too few points or users is not checked by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.data.spend import figures_of
from models.evaluate import F64, PROBABILITY_FLOOR, calibration_error
from models.inputs.features import F32
from models.inputs.segments import Evidence, Mask, segments
from models.populations import chance_error, population_figures, populations, user_weights
from models.targets import AMOUNT, Target, questions
from models.training.verdict import Check, Verdict

Passes = Callable[[float, float], bool]
"""Whether an interval of a difference of losses, ours less theirs, lets a challenger through."""

GROUPS: Final = 1000
"""Users are resampled in at most this many groups."""
ALL: Final = "all"
MUST_BEAT: Final = ("base_rate", "recency")
LOGISTIC: Final = "logistic"


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
    at_event: Mask
    """[N] predicted at an event; else in inactivity."""

    def parts(self, known: Mask, rules: GateRules) -> dict[str, Mask]:
        """Population -> its points among `known`, where they are enough; else all as one."""
        found = {name: known & part for name, part in populations(self.at_event).items()}
        enough = {name: inside for name, inside in found.items() if self.enough(inside, rules)}
        return enough or {ALL: known}

    def weights(self, inside: Mask) -> F64:
        """Weights of the points `inside`: in each population those of a user sum to 1."""
        weights = np.empty(len(self.users))
        for part in populations(self.at_event).values():
            mine = inside & part
            weights[mine] = user_weights(self.users[mine])
        return weights[inside]

    def enough(self, inside: Mask, rules: GateRules) -> bool:
        """Whether so many points of so many users are evidence."""
        many = len(np.unique(self.users[inside])) >= rules.min_users
        return many and int(inside.sum()) >= rules.min_points


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
    checks: list[Check] = []
    for column, target in enumerate(found.targets):
        known = ~np.isnan(found.labels[:, column])
        if target.kind == AMOUNT:
            checks.append(_unbiased(target.name, column, challenger_NK, known, found, rules))
            continue
        for name, inside in found.parts(known, rules).items():
            labels, said = found.labels[inside, column], challenger_NK[inside, column]
            checks.append(_calibrated(target.name, name, labels, said, found.users[inside], rules))
    compared = {
        name: _asked(losses(found.labels, theirs), asked) for name, theirs in rivals.items()
    }
    for name in MUST_BEAT:
        for k, question in enumerate(names):
            if name in compared:
                pair = (loss[:, k], compared[name][:, k])
                checks += _against_baseline(name, question, pair, found, rules)
    mean = _mean(loss)
    checks += [
        _compare(
            f"better than {name}",
            "",
            ALL,
            (mean, _mean(compared[name])),
            found,
            rules,
            _surely_below,
        )
        for name in may_equal
        if name in compared
    ]
    parts = segments(found.profile, rules.evidence)
    theirs = None if champion is None else losses(found.labels, champion[1])
    if theirs is not None:
        checks += _against_champion(names, loss, _asked(theirs, asked), found, parts, rules)
    return Verdict(
        tuple(checks),
        _by_segment(found, challenger_NK, theirs, parts, rules),
        None if champion is None else champion[0],
        _by_population(found, challenger_NK, theirs, rules),
    )


def losses(labels_NK: NDArray[Any], probabilities_NK: NDArray[Any]) -> F64:
    """Log-loss of each point, NaN where its label is unknown; any shape."""
    y = np.asarray(labels_NK, np.float64)
    p = np.clip(np.asarray(probabilities_NK, np.float64), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def interval(
    difference_N: F64,
    groups_N: NDArray[np.intp],
    rules: GateRules,
    comparisons: int = 1,
    weights_N: F64 | None = None,
) -> tuple[float, float]:
    """Bootstrap interval of the mean of differences, over groups of users.

    Args:
        difference_N: per point, without NaN.
        groups_N: group of each point.
        rules: confidence, draws and seed.
        comparisons: made at once, for Bonferroni's correction.
        weights_N: of the points; None: all count the same.
    """
    weights = np.ones(len(difference_N)) if weights_N is None else weights_N
    size = int(groups_N.max()) + 1
    sums = np.bincount(groups_N, weights=weights * difference_N, minlength=size)
    counts = np.bincount(groups_N, weights=weights, minlength=size)
    sums, counts = sums[counts > 0], counts[counts > 0]
    rng = np.random.default_rng(rules.seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), rules.resamples)
    means = (drawn @ sums) / (drawn @ counts)
    tail = (1 - rules.confidence) / 2 / comparisons
    if tail * rules.resamples < 1:
        # Too far out for so few draws: the normal tail of the same bootstrap.
        reach = NormalDist().inv_cdf(1 - tail) * float(means.std())
        middle = float(np.average(difference_N, weights=weights))
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


def user_groups(users_N: NDArray[Any], seed: int) -> NDArray[np.intp]:
    """Group of each point's user, at most `GROUPS` random ones."""
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


def _calibrated(
    target: str,
    part: str,
    labels: NDArray[Any],
    said: F64,
    users: NDArray[Any],
    rules: GateRules,
) -> Check:
    weights = user_weights(users)
    ece = calibration_error(labels, said, weights=weights)
    allowed = rules.max_ece + chance_error(labels, said, users, weights, rules.seed)
    gap = ece - allowed
    return Check("calibrated", target, part, ece <= allowed, ece, allowed, gap, gap, len(labels))


def _unbiased(
    target: str, column: int, said_NK: F64, known: Mask, found: Slice, rules: GateRules
) -> Check:
    """Amounts: bins of shares, most of them tiny, would show nothing; their sum does.

    Over both populations: the few large amounts of either alone are no evidence.
    """
    labels, said = found.labels[known, column], said_NK[known, column]
    weights, groups = found.weights(known), user_groups(found.users[known], rules.seed)
    mean = max(float(np.average(labels, weights=weights)), PROBABILITY_FLOOR)
    low, high = (
        bound / mean for bound in interval(said - labels, groups, rules, weights_N=weights)
    )
    bias, allowed = float(np.average(said, weights=weights)) / mean - 1, rules.max_ece
    passed = low <= allowed and high >= -allowed
    return Check("unbiased", target, ALL, passed, bias, allowed, low, high, len(labels))


def _surely_below(_: float, high: float) -> bool:
    return high < 0


def _compare(
    name: str,
    target: str,
    part: str,
    pair: tuple[F64, F64],
    found: Slice,
    rules: GateRules,
    passes: Passes,
    among: Mask | None = None,
    comparisons: int = 1,
) -> Check:
    """One comparison of losses [N], ours and theirs, of the known points `among`."""
    inside = ~np.isnan(pair[0])
    if among is not None:
        inside &= among
    mine, other = pair[0][inside], pair[1][inside]
    weights = found.weights(inside)
    groups = user_groups(found.users[inside], rules.seed)
    low, high = interval(mine - other, groups, rules, comparisons, weights)
    ours, theirs = (float(np.average(loss, weights=weights)) for loss in (mine, other))
    return Check(name, target, part, passes(low, high), ours, theirs, low, high, int(inside.sum()))


def _against_baseline(
    name: str, question: str, pair: tuple[F64, F64], found: Slice, rules: GateRules
) -> list[Check]:
    """Surely better over both populations, and surely worse in neither."""
    parts = found.parts(~np.isnan(pair[0]), rules)
    parts.pop(ALL, None)
    return [
        _compare(f"better than {name}", question, ALL, pair, found, rules, _surely_below),
        *(
            _compare(
                f"not worse than {name}",
                question,
                part,
                pair,
                found,
                rules,
                lambda low, _: low <= 0,
                inside,
                len(parts),
            )
            for part, inside in parts.items()
        ),
    ]


def _against_champion(
    names: tuple[str, ...],
    ours: F64,
    theirs: F64,
    found: Slice,
    groups: dict[str, Mask],
    rules: GateRules,
) -> list[Check]:
    """Surely worse in no population and in no group of users."""
    wide, narrow = [], []
    for column, question in enumerate(names):
        known = ~np.isnan(ours[:, column])
        parts = found.parts(known, rules)
        wide += [(column, question, name, part, len(parts)) for name, part in parts.items()]
        narrow += [(column, question, name, known & part, 0) for name, part in groups.items()]
    wide, narrow = ([one for one in each if found.enough(one[3], rules)] for each in (wide, narrow))
    return [
        _compare(
            "not worse than the champion",
            question,
            name,
            (ours[:, column], theirs[:, column]),
            found,
            rules,
            lambda low, _: low <= rules.tolerance,
            inside,
            beside or len(narrow),
        )
        for column, question, name, inside, beside in (*wide, *narrow)
    ]


def _by_population(
    found: Slice, probabilities_NK: F64, theirs_NK: F64 | None, rules: GateRules
) -> dict[str, dict[str, dict[str, float]]]:
    out: dict[str, dict[str, dict[str, float]]] = {}
    for column, target in enumerate(found.targets):
        known = ~np.isnan(found.labels[:, column])
        rows = out[target.name] = {}
        for name, inside in found.parts(known, rules).items():
            labels, users = found.labels[inside, column], found.users[inside]
            row = population_figures(labels, probabilities_NK[inside, column], users)
            if target.kind == AMOUNT:
                del row["roc_auc"]
            if theirs_NK is not None:
                loss = theirs_NK[inside, column]
                row["champion.log_loss"] = float(np.average(loss, weights=user_weights(users)))
            rows[name] = {key: value for key, value in row.items() if np.isfinite(value)}
    return out


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
