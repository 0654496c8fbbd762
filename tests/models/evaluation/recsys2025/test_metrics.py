"""The challenge's metrics against values worked out by hand from their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.evaluation.recsys2025.metrics import (
    binary_auroc,
    diversity,
    multilabel_auroc,
    novelty,
    propensity_figures,
    propensity_score,
)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def logits(*rows: list[float]) -> np.ndarray:
    return np.array([[logit(each) for each in row] for row in rows], np.float32)


def test_auroc_counts_ties_half() -> None:
    labels = np.array([True, False, True, False])
    # Pairs (positive, negative): 2 > 1, 2 > 0, 1 = 1, 1 > 0.
    assert binary_auroc(labels, np.array([2, 1, 1, 0], np.float32)) == 3.5 / 4


def test_auroc_of_one_class_is_0() -> None:
    scores = np.array([1, 2], np.float32)
    assert binary_auroc(np.array([True, True]), scores) == 0
    assert binary_auroc(np.array([False, False]), scores) == 0


def test_single_precision_makes_large_logits_ties() -> None:
    # sigmoid(20) and sigmoid(30) are both 1 in single precision, as in the challenge.
    assert binary_auroc(np.array([True, False]), np.array([30, 20], np.float32)) == 0.5


def test_multilabel_auroc_counts_labels_without_positives_as_0() -> None:
    scores = logits([0.9, 0.1, 0.3], [0.2, 0.6, 0.5], [0.4, 0.7, 0.8])
    # Label 0: client 0 above both others, 1. Label 1: client 1 above one of two, 0.5. Label 2: 0.
    found = multilabel_auroc(np.array([1, 0]), np.array([1, 0]), scores)
    assert found == pytest.approx((1 + 0.5 + 0) / 3)


def test_diversity_is_the_mean_entropy_over_log2_of_the_labels() -> None:
    even = logits([0.3, 0.3, 0.3, 0.3])
    assert diversity(even) == pytest.approx(1, abs=1e-6)
    # Shares 1/2, 1/4, 1/8, 1/8: 1.75 bits of 2.
    uneven = logits([0.4, 0.2, 0.1, 0.1])
    assert diversity(uneven) == pytest.approx(1.75 / 2, abs=1e-6)
    assert diversity(np.concatenate([even, uneven])) == pytest.approx(1.875 / 2, abs=1e-6)


def test_novelty_is_1_less_popularity_to_the_power_of_100() -> None:
    popularity = np.arange(1.0, 13)  # 12 labels; the ten most popular have 75 in all
    likely = np.full(12, 1e-3)
    likely[[0, 1]] = 2e-3  # the two least popular are surely among the ten likeliest
    row = [float(each) for each in likely]
    row[10] = row[11] = 5e-4  # and the two most popular are not
    expected = (2e-3 * (1 + 2) + 1e-3 * sum(range(3, 11))) / 75
    assert novelty(logits(row), popularity) == pytest.approx((1 - expected) ** 100, rel=1e-4)


def test_novelty_of_certainty_about_the_most_popular_is_0() -> None:
    row = np.array([[-50.0] * 5 + [50.0] * 10], np.float32)
    assert novelty(row, np.arange(1.0, 16)) == 0


def test_novelty_of_fewer_than_ten_labels_takes_all() -> None:
    expected = (0.1 * 3 + 0.2 * 1) / 4
    assert novelty(logits([0.1, 0.2]), np.array([3.0, 1.0])) == pytest.approx((1 - expected) ** 100)


def test_the_score_weighs_auroc_by_8_parts_of_10() -> None:
    assert propensity_score(0.7, 0.5, 0.9) == pytest.approx(0.56 + 0.05 + 0.09)
    scores = logits([0.9, 0.1], [0.2, 0.6])
    found = propensity_figures(np.array([0]), np.array([0]), scores, np.array([1.0, 1.0]))
    parts = found["auroc"], found["diversity"], found["novelty"]
    assert found["score"] == pytest.approx(propensity_score(*parts))
    assert found["auroc"] == 0.5  # of two labels one has no positive
    assert found["auroc_of_present"] == 1


def test_blocks_of_clients_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    popularity = np.arange(1.0, 21)
    whole = diversity(scores), novelty(scores, popularity)
    monkeypatch.setattr("models.evaluation.recsys2025.metrics.BLOCK", 7)
    assert (diversity(scores), novelty(scores, popularity)) == pytest.approx(whole)
