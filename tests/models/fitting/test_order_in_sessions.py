"""What only the order of a session's events tells is learnt by a network over sequences."""

from __future__ import annotations

import numpy as np
import torch

from models.data.split import CALIBRATION, STOPPING
from models.evaluate import roc_auc
from models.evaluation.sessions.funnel import FunnelPlan, draw_funnel
from models.evaluation.sessions.points import session_points
from models.evaluation.sessions.tasks import targets_of
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, predict_logits
from models.fitting.recipe import Sample, fit_network
from models.history import PURCHASE
from models.inputs.features import INT_FEATURES
from models.serving.scorer import network_spec
from models.targets import SESSION

PLAN = FunnelPlan(users=250, sessions=8, days=30, follows=0.9, categories=3)
FIT = FitConfig(epochs=6, patience=6, min_gain=0.0, windows=16, learning_rate=5e-3)


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
