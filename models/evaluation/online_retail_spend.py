"""UCI Online Retail: how much a customer spends within 91 days.

The moments, the customers and what is known of them are those of `online_retail_return`. Networks
learn the share of a bound (`models/data/spend.py`); the bound is what nearly all spent less than at
the training cuts. It holds for all models and for what they are judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from models.baselines import simple
from models.data.spend import spend_figures, spend_target
from models.data.split import CALIBRATION, VALIDATION
from models.evaluation import online_retail_return
from models.evaluation.contest import (
    ContestConfig,
    Say,
    chosen_penalty,
    fitted_network,
    logits_of,
)
from models.evaluation.cuts import CutPoints, Protocol, cut_points
from models.evaluation.results import F64, Figures, Kind, ModelResult, TaskResult
from models.evaluation.sources import ONLINE_RETAIL, find, read_online_retail
from models.fitting.calibrate import IDENTITY, fit_platt
from models.fitting.fit import FitConfig
from models.history import PURCHASE
from models.inputs import features
from models.log.eventlog import EventLog

TASK: Final = "online_retail_spend"
BOUND: Final = 0.99
"""Quantile of what those who bought at all spent after the training cuts."""
NO_BOUND: Final = 1e7
BASELINES: Final = ("base_rate", "recency", "order_value", "order_value_scaled", "boosting")


def protocol(most: float) -> Protocol:
    """That of the return, asking for the spend up to `most`."""
    target = spend_target(PURCHASE, online_retail_return.HORIZON, most)
    return replace(online_retail_return.protocol(), target=target)


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the task on the file in one of `folders`."""
    log = read_online_retail(find(ONLINE_RETAIL, folders))
    most = bound(log, config.seeds[0])
    asked = protocol(most)
    penalty = chosen_penalty(cut_points(log, asked, config.seeds[0]), asked, config)
    say(f"{TASK}: bound {most:g}, penalty {penalty:g}")
    fit = replace(config.fit, logistic_penalty=penalty)
    seeds: dict[str, list[Figures]] = {}
    for seed in config.seeds:
        points = cut_points(log, asked, seed)
        spent = most * points.examples.labels[points.of_slice(VALIDATION), 0]
        expected = _expected(log, points, asked, config.networks, replace(fit, seed=seed))
        for name, amounts in expected.items():
            seeds.setdefault(name, []).append(spend_figures(spent, amounts))
        say(f"{TASK}: seed {seed} done")
    return [
        TaskResult(
            task=TASK,
            title="Online Retail: the spend within 91 days",
            criterion="deviance",
            higher_is_better=False,
            models={name: ModelResult(tuple(found), _kind(name)) for name, found in seeds.items()},
            notes=_notes(spent, most, penalty),
        )
    ]


def _notes(spent: F64, most: float, penalty: float) -> tuple[str, ...]:
    points = (
        f"{len(spent)} test points, of which {np.mean(spent > 0):.1%} spend; the mean is"
        f" {spent.mean():.2f}."
    )
    beyond = (
        f"What one spends beyond {most:,.2f} does not count: the {BOUND:.0%} quantile of those who"
        " spent, at the training cuts."
    )
    figures = (
        "deviance is Poisson's over the mean spend, least for the true mean; mae is least for the"
        " median, which is no forecast of a sum."
    )
    chosen = (
        f"Penalty of the linear models: {penalty:g}, the lowest log-loss when each training cut is"
        " predicted from those before it."
    )
    return points, beyond, figures, chosen


def bound(log: EventLog, seed: int) -> float:
    """What nearly all who bought after the training cuts spent less than, in currency units."""
    points = cut_points(log, protocol(NO_BOUND), seed)
    learnt = np.concatenate([points.learnt, points.of_slice(CALIBRATION)])
    spent = points.examples.labels[learnt, 0].astype(np.float64) * NO_BOUND
    return float(np.round(np.quantile(spent[spent > 0], BOUND), 2))


def _expected(
    log: EventLog, points: CutPoints, asked: Protocol, networks: tuple[str, ...], fit: FitConfig
) -> dict[str, F64]:
    """What each model expects of the test points, [Q] currency units."""
    examples, train = points.examples, points.learnt
    calibration, test = points.of_slice(CALIBRATION), points.of_slice(VALIDATION)
    profile, weight, size = examples.profile, examples.weight, len(calibration)
    labels = examples.labels[:, 0].astype(np.float64)
    held_out = np.concatenate([calibration, test])
    likely = _chance_to_buy(log, fit)
    by_order = likely * _order_value(points)
    told: dict[str, F64] = {
        "base_rate": simple.base_rate(labels[train], weight[train], len(test)),
        "recency": simple.recency(profile[train], labels[train], profile[test]),
        "boosting": simple.mean_by_boosting(
            profile[train], labels[train], weight[train], profile[test], fit.seed
        ),
    }
    for name in networks:
        network, _ = fitted_network(name, points, asked, fit)
        logits = logits_of(network, points, held_out)
        told[name] = fit_platt(logits[:size], labels[calibration]).probabilities(logits[size:])
    most = asked.target.most
    expected = {name: most * share for name, share in told.items()}
    scale = most * labels[calibration].sum() / by_order[calibration].sum()
    expected["order_value"] = by_order[test]
    expected["order_value_scaled"] = scale * by_order[test]
    return expected


def _chance_to_buy(log: EventLog, fit: FitConfig) -> F64:
    """[N] of all points: that there is a purchase, by the blend and uncalibrated."""
    asked = online_retail_return.protocol()
    points = cut_points(log, asked, fit.seed)
    network, _ = fitted_network("blend", points, asked, fit)
    logits = logits_of(network, points, np.arange(len(points.examples)))
    return IDENTITY.probabilities(logits)


def _order_value(points: CutPoints) -> F64:
    """[N] of all points: what the user's orders were worth on average, in currency units."""
    return features.unlogged(points.examples.profile, "log_order_value")


def _kind(name: str) -> Kind:
    return "baseline" if name in BASELINES else "network"
