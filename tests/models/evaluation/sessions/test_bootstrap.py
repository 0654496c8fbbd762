"""The paired bootstrap over users."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluate import roc_auc
from models.evaluation.sessions.bootstrap import auc_difference


def drawn(users: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users), each)
    labels = (rng.random(users) < 0.4)[user].astype(float)
    return user, labels, rng.normal(size=len(user))


def test_the_mean_is_the_difference_of_plain_aurocs() -> None:
    user, labels, noise = drawn(80, 5)
    ours, theirs = np.round(labels + noise, 1), np.round(noise, 1)
    found = auc_difference(labels, np.stack([ours, theirs]), np.stack([theirs, theirs]), user)
    assert found.mean == pytest.approx((roc_auc(labels, ours) - roc_auc(labels, theirs)) / 2)
    assert found.low < found.mean < found.high


def test_a_model_is_not_better_than_itself() -> None:
    user, labels, noise = drawn(30, 4)
    found = auc_difference(labels, noise[None], noise[None], user, 50)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_events_of_one_user_are_drawn_together() -> None:
    """Ten events of a user say no more than one: the interval does not shrink with them."""
    user, labels, noise = drawn(60, 1)
    ours = labels + noise
    once = auc_difference(labels, ours[None], noise[None], user)
    tenfold = [np.repeat(each, 10) for each in (labels, ours, noise, user)]
    many = auc_difference(tenfold[0], tenfold[1][None], tenfold[2][None], tenfold[3])
    assert many.high - many.low == pytest.approx(once.high - once.low, rel=0.01)
