"""Attributions sum to the score, for every architecture, and point at what moves it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.inputs.features import INT_FEATURES, NUM_FEATURES, PROFILE_FEATURES
from models.networks import build
from models.networks.base import Network
from models.serving.explain import attribute
from models.serving.scorer import network_spec
from models.targets import shop_targets

TARGETS = shop_targets(6, 1000, 2000)
LENGTH = 7


def network_of(architecture: str) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build(architecture, network_spec(TARGETS), 16).eval()
        for weights in network.parameters():
            torch.nn.init.normal_(weights, std=0.15)
    return network


def inputs(padding: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    ids = np.zeros((1, LENGTH + padding, len(INT_FEATURES)), np.int64)
    nums = np.zeros((1, LENGTH + padding, len(NUM_FEATURES)), np.float32)
    ids[0, :LENGTH, 0] = rng.integers(1, 8, LENGTH)
    ids[0, :LENGTH, 1:] = rng.integers(1, 1000, (LENGTH, 2))
    nums[0, :LENGTH] = np.abs(rng.normal(1, 1, (LENGTH, len(NUM_FEATURES))))
    return ids, nums, np.array([LENGTH])


# Orders round to two, as those of the reference: between whole numbers a process jumps.
PROFILE = np.resize(np.linspace(0.5, 2, 21), len(PROFILE_FEATURES)).astype(np.float32)
REFERENCE = np.ones(len(PROFILE_FEATURES), np.float32)


@pytest.mark.parametrize("architecture", ["logistic", "blend", "gru", "lstm", "lru", "transformer"])
def test_the_parts_sum_to_the_logit(architecture: str) -> None:
    network = network_of(architecture)
    found = attribute(network, 1, "churn", inputs(), PROFILE, REFERENCE)
    total = found.baseline + sum(found.events) + sum(found.profile.values())
    assert total + found.residual == pytest.approx(found.logit, abs=1e-5)
    assert abs(found.residual) < 0.02 * max(abs(found.logit - found.baseline), 0.5)
    assert len(found.events) == (0 if architecture in {"logistic", "blend"} else LENGTH)
    ids, nums, length = map(torch.from_numpy, inputs())
    with torch.no_grad():
        hidden = network.encode(ids, nums, length)
        logit = network.heads(hidden, torch.from_numpy(PROFILE[None]))[0, 1]
    # What was explained is what the network says, which is left as it was.
    assert found.logit == pytest.approx(float(logit), abs=1e-5)


def test_an_event_that_counts_gets_the_part() -> None:
    network = network_of("gru")
    ids, nums, length = inputs()
    plain = attribute(network, 0, "purchase", (ids, nums, length), PROFILE, REFERENCE)
    ids[0, LENGTH - 1, 0] = (ids[0, LENGTH - 1, 0] + 1) % 8
    other = attribute(network, 0, "purchase", (ids, nums, length), PROFILE, REFERENCE)
    moved = other.logit - plain.logit
    change = np.array(other.events) - np.array(plain.events)
    assert abs(moved) > 1e-3
    assert np.abs(change).argmax() == LENGTH - 1


def test_a_transformer_shows_where_it_looks() -> None:
    found = attribute(network_of("transformer"), 0, "purchase", inputs(), PROFILE, REFERENCE)
    assert np.array(found.attention).shape == (2, LENGTH)
    assert np.allclose(np.sum(found.attention, axis=1), 1, atol=1e-5)
    assert attribute(network_of("lru"), 0, "x", inputs(), PROFILE, REFERENCE).attention == ()


def test_of_a_user_without_events_the_profile_alone_speaks() -> None:
    ids, nums, _ = inputs()
    nothing = (ids[:, :1] * 0, nums[:, :1] * 0, np.array([0]))
    found = attribute(network_of("gru"), 1, "churn", nothing, PROFILE, REFERENCE)
    assert found.events == ()
    assert sum(found.profile.values()) == pytest.approx(found.logit - found.baseline, abs=0.02)
