"""Fewer negatives, the same probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.split import TRAIN, VALIDATION, TimeSplit
from models.devices import pick_device
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, predict_logits
from models.fitting.linear import fit_logistic
from models.fitting.sampling import sample_negatives
from models.log.eventlog import in_order
from models.networks.logistic import Logistic
from models.serving.scorer import network_spec
from models.targets import shop_targets
from tests.models.shop import DAY, PURCHASE, shop_log

TARGETS = shop_targets(PURCHASE, DAY, 8 * DAY)


@pytest.fixture(scope="module")
def examples() -> Examples:
    ordered = in_order(shop_log(users=900), None)
    times = ordered.log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 8 * DAY, 0, 0.2, 0.2)
    return build_examples(ordered, TARGETS, split, DatasetConfig(history_length=8, min_points=10))


@pytest.mark.slow
def test_negatives_are_left_out_per_target_and_the_shift_says_how_many(examples: Examples) -> None:
    points = examples.of_slice(TRAIN)
    sampled, left, shift = sample_negatives(examples, points, 1.0, 3)
    before, after = examples.labels[points], sampled.labels[points]
    for column in range(2):
        assert (after[:, column] == 1).sum() == (before[:, column] == 1).sum()
        was, now = (before[:, column] == 0).sum(), (after[:, column] == 0).sum()
        assert now == pytest.approx(min((after[:, column] == 1).sum(), was), rel=0.1)
        assert shift[column] == pytest.approx(np.log(was / now))
    assert set(left) < set(points)
    assert (~np.isnan(sampled.labels[left])).any(axis=1).all()
    others = examples.of_slice(VALIDATION)
    assert np.array_equal(sampled.labels[others], examples.labels[others], equal_nan=True)


def test_zero_keeps_all(examples: Examples) -> None:
    points = examples.of_slice(TRAIN)
    sampled, left, shift = sample_negatives(examples, points, 0.0, 3)
    assert sampled is examples
    assert left is points
    assert shift.tolist() == [0, 0]


@pytest.mark.slow
def test_probabilities_stay_those_of_the_shop(examples: Examples) -> None:
    points = examples.of_slice(TRAIN)
    rates = []
    for negatives in (0.0, 0.5):
        sampled, left, shift = sample_negatives(examples, points, negatives, 3)
        network = Logistic(network_spec(TARGETS))
        fit_logistic(network, sampled, left, FitConfig(logistic_penalty=0.03), shift)
        batches = Batches(examples, points, 64, pick_device("cpu"))
        logits = predict_logits(network, batches, len(examples))[points, 0]
        rates.append(float((1 / (1 + np.exp(-logits))).mean()))
    known = examples.labels[points, 0]
    assert rates[0] == pytest.approx(np.nanmean(known), rel=0.1)
    assert rates[1] == pytest.approx(rates[0], rel=0.1)
