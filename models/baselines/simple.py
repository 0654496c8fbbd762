"""Baselines of one look at the profile: nothing, how recently, how often; and boosted trees."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.scikit import scikit
from models.evaluate import RecencyBaseline
from models.inputs import features

F64 = NDArray[np.float64]

NEVER: Final = 20.0
"""Stands for the silence of a user without a purchase: longer than log1p of any hours."""
_TREES: Final = {
    "max_iter": 100,
    "learning_rate": 0.05,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 50,
}


def base_rate(labels: NDArray[Any], weight: NDArray[Any], size: int) -> F64:
    """The rate of the training labels, for each of `size` points."""
    return np.full(size, float(np.average(labels, weights=weight)))


def recency(profile: NDArray[Any], labels: NDArray[Any], judged: NDArray[Any]) -> F64:
    """The rate by how long ago the last purchase was; fitted on [N,P], asked about [Q,P]."""
    return RecencyBaseline.fit(_silence(profile), labels).predict(_silence(judged))


def frequency(profile: NDArray[Any], labels: NDArray[Any], judged: NDArray[Any]) -> F64:
    """The rate by how many orders there were."""
    column = features.PROFILE_FEATURES.index("log_orders")
    fitted = RecencyBaseline.fit(profile[:, column], labels)
    return fitted.predict(judged[:, column])


def boosting(
    profile: NDArray[Any],
    labels: NDArray[Any],
    weight: NDArray[Any],
    judged: NDArray[Any],
    seed: int,
) -> F64:
    """Probabilities [Q] of gradient-boosted trees (scikit-learn's histogram implementation).

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    trees = scikit("ensemble").HistGradientBoostingClassifier(**_TREES, random_state=seed)
    trees.fit(profile, labels, sample_weight=weight)
    found: F64 = trees.predict_proba(judged)[:, 1]
    return found


def mean_by_boosting(
    profile: NDArray[Any],
    amounts: NDArray[Any],
    weight: NDArray[Any],
    judged: NDArray[Any],
    seed: int,
) -> F64:
    """Expected amounts [Q] of gradient-boosted trees: an exponential mean with Poisson's loss.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    ensemble = scikit("ensemble")
    trees = ensemble.HistGradientBoostingRegressor(loss="poisson", **_TREES, random_state=seed)
    trees.fit(profile, amounts, sample_weight=weight)
    found: F64 = trees.predict(judged)
    return found


def _silence(profile: NDArray[Any]) -> NDArray[Any]:
    names = features.PROFILE_FEATURES
    since = profile[:, names.index("log_since_purchase_hours")]
    return np.where(profile[:, names.index("has_purchase")] > 0, since, NEVER)
