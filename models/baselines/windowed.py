"""What an analyst would write in an hour: counts over windows of days, from the raw event log.

The features are computed here from the log's columns and share no code with the product's
featuriser (`models/inputs/features.py`), so a fault there cannot hide in the comparison. The models
are scikit-learn's.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.scikit import scikit
from models.history import AMOUNT_UNIT, PURCHASE, REFUND
from models.log.eventlog import OrderedLog

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Index = NDArray[np.intp]

DAY: Final = 86_400_000
ORDER_GAP_MS: Final = 1_800_000
"""Purchases without an order id that are closer than this are lines of one order."""
WINDOWS_DAYS: Final = (7, 14, 30, 60, 90)
NEVER_DAYS: Final = 1000.0
"""Stands for the time since a purchase of a user without one."""
PENALTIES: Final = (0.01, 0.1, 1.0, 10.0)
"""scikit-learn's C of the logistic regression, strongest first."""

FEATURES: Final = (
    *(f"orders_{days}d" for days in WINDOWS_DAYS),
    *(f"events_{days}d" for days in WINDOWS_DAYS[:3]),
    "spend_90d",
    "orders",
    "spend",
    "refunds",
    "days_since_order",
    "days_since_event",
    "tenure_days",
    "median_gap_days",
    "longest_gap_days",
    "overdue",
    "has_order",
)


def windowed_features(ordered: OrderedLog, users: Index, cuts: I64) -> F64:
    """Features [Q,len(FEATURES)] of each user just before each cut.

    Args:
        ordered: the log, sorted by user and time.
        users: [Q] index of the user in `ordered.starts`.
        cuts: [Q] ms; only events before them are used.
    """
    events = ordered.log.events
    ends = np.append(ordered.starts, len(ordered.log))
    out = np.empty((len(users), len(FEATURES)))
    for place, (user, cut) in enumerate(zip(users.tolist(), cuts.tolist(), strict=True)):
        mine = slice(ends[user], ends[user + 1])
        time = events.time[mine]
        known = int(np.searchsorted(time, cut, side="left"))
        time = time[:known]
        kind, amount = events.type[mine][:known], events.amount[mine][:known] / AMOUNT_UNIT
        bought = kind == PURCHASE
        orders = _order_times(time[bought], events.order[mine][:known][bought])
        spent = np.where(bought, amount, 0) - np.where(kind == REFUND, amount, 0)
        age, order_age = (cut - time) / DAY, (cut - orders) / DAY
        gaps = np.diff(orders) / DAY
        median = float(np.median(gaps)) if len(gaps) else NEVER_DAYS
        since = float(order_age[-1]) if len(orders) else NEVER_DAYS
        out[place] = (
            *((order_age <= days).sum() for days in WINDOWS_DAYS),
            *((age <= days).sum() for days in WINDOWS_DAYS[:3]),
            max(float(spent[age <= WINDOWS_DAYS[-1]].sum()), 0.0),
            len(orders),
            max(float(spent.sum()), 0.0),
            (kind == REFUND).sum(),
            since,
            age[-1] if known else NEVER_DAYS,
            age[0] if known else 0.0,
            median,
            gaps.max() if len(gaps) else NEVER_DAYS,
            since / max(median, 1.0),
            len(orders) > 0,
        )
    return np.log1p(out)


def _order_times(time: I64, order: NDArray[np.uint32]) -> I64:
    """When each order began: lines of one id are one order, else those close together are."""
    if not len(time):
        return time
    _, first = np.unique(order, return_index=True)
    fresh = np.zeros(len(time), np.bool_)
    fresh[first] = True
    apart = np.diff(time, prepend=time[0] - ORDER_GAP_MS - 1) > ORDER_GAP_MS
    begins: I64 = time[np.where(order > 0, fresh, apart)]
    return begins


def logistic(
    features: F64, labels: NDArray[Any], cuts: I64, judged: F64, seed: int
) -> tuple[F64, float]:
    """Probabilities [Q] of a logistic regression, and its C: chosen by time-ordered validation.

    Args:
        features: [N,F] of the training points.
        labels: [N].
        cuts: [N] when each one is of, ms; each cut but the first is predicted from those before.
        judged: [Q,F].
        seed: of scikit-learn's solver.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    linear, pipeline, preprocessing = (
        scikit(name) for name in ("linear_model", "pipeline", "preprocessing")
    )

    def fitted(rows: NDArray[np.bool_], penalty: float) -> Any:
        model = pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear.LogisticRegression(C=penalty, max_iter=1000, random_state=seed),
        )
        return model.fit(features[rows], labels[rows])

    losses = dict.fromkeys(PENALTIES, 0.0)
    for later in np.unique(cuts)[1:]:
        past, now = cuts < later, cuts == later
        if len(np.unique(labels[past])) < 2:  # noqa: PLR2004  # classes
            continue
        for penalty in PENALTIES:
            said = fitted(past, penalty).predict_proba(features[now])
            kept = said[np.arange(len(said)), labels[now].astype(np.intp)]
            losses[penalty] -= float(np.log(np.maximum(kept, 1e-12)).mean())
    best = min(losses, key=lambda penalty: losses[penalty])
    found: F64 = fitted(np.ones(len(labels), np.bool_), best).predict_proba(judged)[:, 1]
    return found, best
