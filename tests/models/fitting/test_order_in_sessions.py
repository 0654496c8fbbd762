"""What only the order of a session's events tells is learnt by a network over sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.dataset import Examples, Index
from models.data.split import CALIBRATION, STOPPING, TRAIN
from models.evaluate import F64, roc_auc
from models.evaluation.sessions.funnel import FunnelPlan, draw_funnel
from models.evaluation.sessions.points import session_points
from models.evaluation.sessions.tasks import targets_of
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, fit_sequences, predict_logits
from models.fitting.recipe import Sample, fit_network
from models.history import PURCHASE
from models.inputs.features import INT_FEATURES
from models.networks import build
from models.networks.base import Network
from models.serving.scorer import network_spec
from models.targets import SESSION

PLAN = FunnelPlan(users=250, sessions=8, days=30, follows=0.9, categories=3)
FIT = FitConfig(epochs=6, patience=6, min_gain=0.0, windows=16, learning_rate=5e-3)


@pytest.mark.full
def test_a_gru_finds_the_order_that_no_count_tells() -> None:
    """A funnel with the same counts whether its users will buy or not."""
    shop = draw_funnel(PLAN)
    points = session_points(shop.log, targets_of(("purchase",), (SESSION,)))
    examples = points.examples
    sample = Sample.of_training(examples, FIT)
    later = examples.of_slice(CALIBRATION)
    later = later[examples.ids[examples.event[later], INT_FEATURES.index("type")] != PURCHASE]
    found, networks = {}, {}
    for architecture in ("blend", "gru"):
        torch.manual_seed(FIT.seed)
        networks[architecture] = fit_network(
            architecture,
            network_spec(points.targets),
            sample,
            examples.of_slice(STOPPING),
            FIT,
            torch.device("cpu"),
        ).network
        batches = Batches(examples, later, 256, torch.device("cpu"))
        logits = predict_logits(networks[architecture], batches, len(examples))
        found[architecture] = roc_auc(examples.labels[later, 0], logits[later, 0])
    truth = shop.truth[points.ordered.log.events.id[points.place[later]].astype(int) - 1]
    best = roc_auc(examples.labels[later, 0], truth)
    assert found["gru"] > found["blend"] + 0.04, (found, best)
    assert found["gru"] > best - 0.03, (found, best)
    # The line that the blend found stays as it is, and may be moved by later fits.
    direct, linear = networks["gru"].direct, networks["blend"].linear
    assert np.array_equal(direct.weight.detach(), linear.weight.detach())
    assert all(weights.requires_grad for weights in networks["gru"].parameters())


@pytest.mark.slow
def test_the_next_action_teaches_order_where_labels_are_few() -> None:
    """Six users of a hundred have labels: what the states know of the intent comes from events."""
    shop = draw_funnel(replace(PLAN, users=150, sessions=6))
    points = session_points(shop.log, targets_of(("purchase",), (SESSION,)))
    examples = points.examples
    users = np.unique(examples.user)
    known = np.random.default_rng(1).choice(users, 9, replace=False)
    hidden = (examples.slice == TRAIN) & ~np.isin(examples.user, known)
    labels = np.where(hidden[:, None], np.float32("nan"), examples.labels)
    examples = replace(examples, labels=labels)
    later = examples.of_slice(CALIBRATION)
    later = later[examples.ids[examples.event[later], INT_FEATURES.index("type")] != PURCHASE]
    truth = shop.truth[points.ordered.log.events.id[points.place[later]].astype(int) - 1]
    found = {}
    for weight in (0.0, 0.3):
        torch.manual_seed(FIT.seed)
        network = build("gru", network_spec(points.targets), 32)
        fit_sequences(
            network,
            examples,
            examples.of_slice(TRAIN),
            examples.of_slice(STOPPING),
            replace(FIT, next_action_weight=weight),
            torch.device("cpu"),
            "gru",
            exactly=3,
        )
        found[weight] = _read_off(network, examples, later, truth)
    assert found[0.3] > found[0.0] + 0.1, found


def _read_off(network: Network, examples: Examples, points: Index, truth: F64) -> float:
    """Correlation of the true log-odds of N points with the best line through their states.

    The line is found on one half of the users and measured on the other.
    """
    states = np.zeros((len(examples), network.hidden_size))
    with torch.inference_mode():
        for batch in Batches(examples, points, 256, torch.device("cpu")):
            start = network.initial(len(batch.length))
            found = network.scan(start, batch.ids, batch.nums, batch.length)
            states[batch.points] = found[batch.row, batch.position]
    lines = np.column_stack([states[points], np.ones(len(points))])
    odds = np.log(truth / (1 - truth))
    half = examples.user[points] % 2 == 0
    ridge = lines[half].T @ lines[half] + 1e-3 * np.eye(lines.shape[1])
    weights = np.linalg.solve(ridge, lines[half].T @ odds[half])
    return float(np.corrcoef(lines[~half] @ weights, odds[~half])[0, 1])
