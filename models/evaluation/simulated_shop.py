"""A simulated shop: how near do the models come to the hazards that drew the purchases?

The simulation is not of this package; whoever calls hands in its events and its truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.data.split import VALIDATION
from models.evaluate import roc_auc
from models.evaluation.contest import ContestConfig, Say, binary_task, judged
from models.evaluation.cuts import Protocol, cut_points
from models.evaluation.results import F64, ModelResult, TaskResult
from models.history import PURCHASE
from models.log.eventlog import EventLog
from models.targets import OCCURS, Target

TASK: Final = "simulated_shop"
DAY: Final = 86_400_000
TRAIN_CUTS: Final = 4
TEST_CUTS: Final = 6

KNOWN: Final = 30 * DAY
"""A newcomer's hazard cannot be known; who is judged has been there this long."""
NETWORKS: Final = ("logistic", "blend", "gru")
"""Architectures that take part: the hazards are constant, and order tells nothing."""

TrueProbability = Callable[[NDArray[np.uint64], NDArray[np.int64], int], F64]
"""(hashed users [Q], times [Q], horizon ms) -> probability of a purchase [Q]."""


@dataclass(frozen=True)
class SimulatedShop:
    """What was simulated."""

    log: EventLog
    probability: TrueProbability
    start: int
    """ms."""
    days: int


def protocol(shop: SimulatedShop) -> Protocol:
    """Purchases within a day: the last days are the test, those in the middle the training."""
    target = Target("purchase", OCCURS, PURCHASE, DAY)
    first_test = shop.days - TEST_CUTS
    train, test = (
        tuple(shop.start + day * DAY for day in days)
        for days in (
            range(first_test - TRAIN_CUTS, first_test),
            range(first_test, shop.days),
        )
    )
    return Protocol(target, train, test, known_ms=KNOWN)


def evaluate(shop: SimulatedShop, config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the task; the truth takes part as a model of its own, and is never the default."""
    chosen = protocol(shop)
    config = replace(config, networks=tuple(n for n in config.networks if n in NETWORKS))
    title = "Simulated shop: a purchase within 24 hours"
    result = binary_task(TASK, title, shop.log, chosen, config, say)
    points = cut_points(shop.log, chosen, config.seeds[0])
    test = points.of_slice(VALIDATION)
    labels = points.examples.labels[test, 0]
    truth = shop.probability(points.user[test], points.cut[test], DAY)
    best = result.default
    away = float(np.abs(result.probabilities[best] - truth).mean())
    gap = roc_auc(labels, truth) - result.models[best].mean("auroc")
    note = (
        f"The true hazard's AUROC is {gap:.4f} above that of {best}, whose probabilities are "
        f"{away:.4f} away from the truth on average."
    )
    known = {"true_hazard": ModelResult((judged(labels, truth),), "truth")}
    return [replace(result, reference=known, notes=(*result.notes, note))]
