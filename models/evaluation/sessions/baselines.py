"""Baselines over hand-made session features: base rate, recency, logistic regression, boosting.

Each learns from the training slice, chooses its one setting by the stopping users and is calibrated
(Platt) by the calibration users, as the product's networks are.

Shape suffixes: N examples, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.scikit import scikit
from models.evaluate import F64, RecencyBaseline, log_loss, sigmoid
from models.evaluation.sessions.features import CATEGORICAL, NAMES
from models.fitting.calibrate import fit_platt

STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0)
"""Inverse penalties of the logistic regression."""
LEAVES: Final = (7, 15, 31)
"""Leaves of a boosted tree."""
ROUNDS: Final = 300
RATE: Final = 0.05
LEAST_LEAF: Final = 100
_CODES: Final = tuple(NAMES.index(name) for name in CATEGORICAL)
NEVER: Final = 1e6
"""Minutes: stands for "no event before"."""


@dataclass(frozen=True)
class Part:
    """Examples of one slice and one target."""

    features: F64
    """[N,F], `models.evaluation.sessions.features.NAMES`."""
    labels: NDArray[np.float64]
    """[N] 0 or 1."""


@dataclass(frozen=True)
class Parts:
    """What a baseline may use, and what it is asked about."""

    train: Part
    stopping: Part
    calibration: Part
    test: F64
    """[N,F]."""


def baselines(parts: Parts, seed: int) -> dict[str, F64]:
    """Baseline -> probabilities of the test examples.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    train = parts.train
    gap = np.nan_to_num(train.features[:, NAMES.index("gap_minutes")], nan=NEVER)
    recency = RecencyBaseline.fit(gap, train.labels)
    asked = np.nan_to_num(parts.test[:, NAMES.index("gap_minutes")], nan=NEVER)
    return {
        "base_rate": np.full(len(parts.test), float(train.labels.mean())),
        "recency": recency.predict(asked),
        "session_logistic": _best(parts, [_logistic(parts, c) for c in STRENGTHS]),
        "session_boosting": _best(parts, [_boosting(parts, size, seed) for size in LEAVES]),
    }


Scores = Callable[[F64], F64]


def _best(parts: Parts, fitted: list[Scores]) -> F64:
    """The fit with the lowest loss of the stopping users, calibrated, on the test examples."""
    held_out = parts.stopping
    losses = [log_loss(held_out.labels, sigmoid(one(held_out.features))) for one in fitted]
    best = fitted[int(np.argmin(losses))]
    platt = fit_platt(best(parts.calibration.features), parts.calibration.labels)
    return platt.probabilities(best(parts.test))


def _logistic(parts: Parts, strength: float) -> Scores:
    prepared = _Prepared(parts.train.features)
    model = scikit("linear_model").LogisticRegression(C=strength, max_iter=300)
    model.fit(prepared(parts.train.features), parts.train.labels)

    def scores(features_NF: F64) -> F64:
        found: F64 = model.decision_function(prepared(features_NF))
        return found

    return scores


def _boosting(parts: Parts, leaves: int, seed: int) -> Scores:
    # Trees read codes as categories and NaN as a branch of its own; a constant column has none.
    train = parts.train.features
    telling = [k for k in range(train.shape[1]) if len(np.unique(train[:, k])) > 1]
    model = scikit("ensemble").HistGradientBoostingClassifier(
        learning_rate=RATE,
        max_iter=ROUNDS,
        max_leaf_nodes=leaves,
        min_samples_leaf=LEAST_LEAF,
        l2_regularization=1.0,
        categorical_features=[telling.index(k) for k in _CODES if k in telling],
        early_stopping=False,
        random_state=seed,
    )
    model.fit(train[:, telling], parts.train.labels)
    held_out = parts.stopping
    losses = [
        log_loss(held_out.labels, predicted[:, 1])
        for predicted in model.staged_predict_proba(held_out.features[:, telling])
    ]
    rounds = int(np.argmin(losses))

    def scores(features_NF: F64) -> F64:
        staged = model.staged_decision_function(features_NF[:, telling])
        found: F64 = np.ravel(next(islice(staged, rounds, None)))
        return found

    return scores


class _Prepared:
    """Features as a linear model wants them: codes one-hot, numbers log-scaled, nothing missing."""

    def __init__(self, features_NF: F64) -> None:
        self._numbers = [k for k, name in enumerate(NAMES) if name not in CATEGORICAL]
        self._values = [np.unique(features_NF[:, k]) for k in _CODES]
        logs = np.nan_to_num(self._logs(features_NF))
        self._mean, self._scale = logs.mean(axis=0), logs.std(axis=0) + 1e-9

    def _logs(self, features_NF: F64) -> F64:
        found: F64 = np.log1p(features_NF[:, self._numbers])
        return found

    def __call__(self, features_NF: F64) -> F64:
        logs = self._logs(features_NF)
        parts = [np.nan_to_num((logs - self._mean) / self._scale), np.isnan(logs).astype(float)]
        for code, values in zip(_CODES, self._values, strict=True):
            parts.append((features_NF[:, code, None] == values[None, :]).astype(float))
        return np.concatenate(parts, axis=1)
