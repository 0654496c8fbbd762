"""Propensities learn what there is to learn, and no more than what was known."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.recsys2025 import propensity
from models.evaluation.recsys2025.cells import CART, Cells
from models.evaluation.recsys2025.metrics import multilabel_auroc
from models.evaluation.recsys2025.propensity import Question
from models.evaluation.recsys2025.windows import DAY

CLIENTS, LABELS = 4_000, 8
NOW = 100 * DAY


def shop(seed: int = 0) -> tuple[Question, tuple[np.ndarray, np.ndarray]]:
    """Half of the clients are active; carts of a label make it ten times likelier."""
    rng = np.random.default_rng(seed)
    active = rng.random(CLIENTS) < 0.5
    carted = rng.random((CLIENTS, LABELS)) < 0.1
    rate = 0.01 * np.where(active, 3, 1)[:, None] * np.where(carted, 10, 1)
    first, second = (np.nonzero(rng.random((CLIENTS, LABELS)) < rate) for _ in range(2))
    row, label = np.nonzero(carted)
    kinds = np.full(len(row), CART, np.uint8)
    age = rng.integers(1, 30, len(row)) * DAY
    bought = np.zeros(CLIENTS)
    bought[first[0]] = 1
    silence = np.where(active, 1.0, 5.0) + rng.random(CLIENTS)
    question = Question(
        profile=np.stack([silence, rng.random(CLIENTS)], axis=1).astype(np.float32),
        silence=silence.astype(np.float32),
        cells=Cells.of(row, label, NOW - age, kinds, LABELS, NOW),
        groups=None,
        learnt=first,
        buyers=bought,
    )
    return question, second


def auroc(logits: np.ndarray, true: tuple[np.ndarray, np.ndarray]) -> float:
    return multilabel_auroc(*true, logits)


def test_popularity_tells_no_clients_apart() -> None:
    question, true = shop()
    assert auroc(propensity.popularity(question), true) == pytest.approx(0.5)
    rates = 1 / (1 + np.exp(-propensity.popularity(question)[0].astype(np.float64)))
    counted = np.bincount(question.learnt[1], minlength=LABELS) / CLIENTS
    assert rates == pytest.approx(counted, abs=0.001)


@pytest.mark.slow
def test_the_log_linear_model_beats_each_of_its_parts() -> None:
    question, true = shop()
    found = {
        name: auroc(getattr(propensity, name)(question), true)
        for name in ("buyers", "frequency", "recency")
    }
    assert all(each > 0.52 for each in found.values()), found
    learnt = auroc(propensity.log_linear(question, 0), true)
    assert learnt > max(found.values()) + 0.02, (learnt, found)


def test_the_log_linear_model_is_near_the_truth_in_level() -> None:
    question, true = shop()
    said = 1 / (1 + np.exp(-propensity.log_linear(question, 0).astype(np.float64)))
    assert said.mean() == pytest.approx(len(true[0]) / said.size, rel=0.15)


@pytest.mark.slow
def test_a_sample_of_cells_keeps_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    question, true = shop()
    whole = propensity.log_linear(question, 0)
    monkeypatch.setattr(propensity, "MOST_CELLS", 1_500)
    sampled = propensity.log_linear(question, 0)
    assert (sampled == propensity.log_linear(question, 0)).all()
    assert (sampled != propensity.log_linear(question, 1)).any()
    assert sampled.mean() == pytest.approx(whole.mean(), abs=0.2)
    assert auroc(sampled, true) > auroc(whole, true) - 0.03


def test_categories_have_no_categories() -> None:
    question, _ = shop()
    with pytest.raises(ValueError, match="only products"):
        propensity.item_to_category(question)
