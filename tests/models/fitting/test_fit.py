"""A fit repeats to the byte; half precision stays close; a warm start goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data.split import STOPPING, TRAIN
from models.fitting.batches import Batches
from models.fitting.config import FitConfig
from models.fitting.fit import predict_logits
from models.fitting.recipe import Sample, fit_network
from models.serving.scorer import network_spec
from tests.models.fitting.small import TARGETS, fitted, small_examples, weights

pytestmark = pytest.mark.slow

FIT = FitConfig(epochs=2, windows=16, logistic_steps=20)


def test_the_same_seed_and_data_give_the_same_bytes() -> None:
    one, news = fitted(None)
    two, again = fitted(None)
    assert weights(one) == weights(two)
    assert news == again
    other, _ = fitted(None, seed=8)
    assert weights(other) != weights(one)


def test_half_precision_learns_nearly_the_same() -> None:
    _, single = fitted(None, dropout=0.0)
    _, half = fitted(None, dropout=0.0, precision="bfloat16")
    assert single != half
    for a, b in zip(single, half, strict=True):
        assert b.stopping_loss == pytest.approx(a.stopping_loss, rel=0.02)


def test_auto_is_single_precision_on_the_cpu() -> None:
    assert fitted(None, precision="auto")[1] == fitted(None, precision="float32")[1]


def test_gradients_are_clipped() -> None:
    """Steps of a tiny norm hardly move the weights: AdamW is told apart by its decay alone."""
    _, free = fitted(None)
    _, bound = fitted(None, clip_norm=1e-9, weight_decay=0.0)
    assert max(n.gradient_norm for n in free) > 1e-3
    assert bound[-1].train_loss > free[-1].train_loss


def test_dropout_is_off_when_a_network_is_judged() -> None:
    examples = small_examples()
    network, _ = fitted(None, dropout=0.5, examples=examples)
    batches = Batches(examples, examples.of_slice(TRAIN), 32, torch.device("cpu"))
    one = predict_logits(network, batches, len(examples))
    assert np.array_equal(one, predict_logits(network, batches, len(examples)), equal_nan=True)


def test_a_network_starts_from_a_blend_that_is_fitted() -> None:
    """The candidate before it is the blend from which it would have started anyway."""
    examples = small_examples()
    sample = Sample.of_training(examples, FIT)
    stopping, cpu, spec = examples.of_slice(STOPPING), torch.device("cpu"), network_spec(TARGETS)
    blend = fit_network("blend", spec, sample, stopping, FIT, cpu)
    found = []
    for start in (None, blend):
        with torch.random.fork_rng():
            torch.manual_seed(4)
            found.append(
                fit_network("gru", spec, sample, stopping, FIT, cpu, hidden_size=8, start=start)
            )
    alone, started = found
    assert weights(alone.network) == weights(started.network)
    assert alone.penalties == started.penalties == blend.penalties
    assert alone.epochs == started.epochs
