"""All models and baselines on the points of one protocol, seed by seed.

Everything is fitted on the training points, calibrated (Platt, with a prior) on those of users held
out for it, and judged once on the test. Networks over sequences leave a part of the training users
out to say when to stop. The one hyper-parameter that is chosen, the
penalty of the linear models, is chosen on the training cuts alone: each is predicted from the cuts
before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.baselines import simple
from models.baselines.bgnbd import fit_process
from models.data.split import CALIBRATION, STOPPING, TRAIN, VALIDATION
from models.evaluate import calibration_error, log_loss, pr_auc, roc_auc, sigmoid
from models.evaluation.committee import fit_committee
from models.evaluation.cuts import CutPoints, Protocol, cut_points
from models.evaluation.results import F64, Figures, Kind, ModelResult, Slice, TaskResult
from models.fitting.batches import Batches
from models.fitting.fit import FitConfig, Progress, predict_logits
from models.fitting.linear import fit_logistic
from models.fitting.recipe import Sample, fit_network
from models.inputs import features
from models.log.eventlog import EventLog
from models.networks import build, convex
from models.networks.base import Network
from models.networks.process import PurchaseProcess
from models.serving.scorer import network_spec

PENALTIES: Final = (1e-5, 1e-3, 1e-2, 3e-2, 1e-1)
NETWORKS: Final = ("logistic", "blend", "gru", "lstm", "lru", "transformer")
COMMITTEES: Final = {
    "linear_pair": ("logistic", "blend"),
    "committee": ("logistic", "blend", "bg_nbd", "frequency"),
}
"""Members whose log-odds are averaged; what one leaves out another may know."""
CHANCE_DRAWS: Final = 200
LEAST_SLICE: Final = 50
"""Points below which a slice says nothing."""

Say = Callable[[str], None]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class ContestConfig:
    """How much work is put in."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each draws the held-out users, the weights and the order of batches."""
    networks: tuple[str, ...] = NETWORKS
    """Architectures of `models.networks` that take part."""
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            epochs=6, patience=2, min_gain=1e-4, windows=256, learning_rate=2e-3, logistic_steps=120
        )
    )


@dataclass(frozen=True)
class Round:
    """One seed: probabilities [Q] of the test points by model."""

    probabilities: dict[str, F64]
    curves: dict[str, list[tuple[float, float]]]


def binary_task(
    task: str,
    title: str,
    log: EventLog,
    protocol: Protocol,
    config: ContestConfig,
    say: Say = lambda _: None,
) -> TaskResult:
    """Run the contest.

    Args:
        task: its name in the results.
        title: its name for readers.
        log: all events of the source.
        protocol: when is looked, at whom, what for.
        config: seeds and networks.
        say: takes one line per step.

    Raises:
        EvaluationError: the log does not allow the protocol.
        ModelError: there is no such architecture, or a fit failed.
    """
    penalty = chosen_penalty(cut_points(log, protocol, config.seeds[0]), protocol, config)
    say(f"{task}: penalty {penalty:g}")
    fit = replace(config.fit, logistic_penalty=penalty)
    seeds: dict[str, list[Figures]] = {}
    rounds: list[Round] = []
    for seed in config.seeds:
        points = cut_points(log, protocol, seed)
        rounds.append(_round(points, protocol, config.networks, replace(fit, seed=seed), say))
        truth = points.examples.labels[points.of_slice(VALIDATION), 0]
        for name, probabilities in rounds[-1].probabilities.items():
            seeds.setdefault(name, []).append(judged(truth, probabilities))
        say(f"{task}: seed {seed} done")
    models = {
        name: ModelResult(tuple(figures), _kind(name, config)) for name, figures in seeds.items()
    }
    result = TaskResult(
        task=task,
        title=title,
        criterion="log_loss",
        higher_is_better=False,
        models=models,
        where="at fixed times, as timers evaluate users in inactivity",
        notes=(
            f"{len(truth)} test points, base rate {truth.mean():.3f}.",
            f"Penalty of the linear models: {penalty:g}, {_why(protocol)}.",
        ),
        labels=truth.astype(np.float64),
        probabilities=rounds[0].probabilities,
        curves=rounds[0].curves,
    )
    best = result.probabilities[result.default]
    floor = (
        f"Were {result.default} perfectly calibrated, {len(truth)} points would still show an ECE "
        f"of {_chance_ece(best):.4f} on average (labels drawn from its own probabilities)."
    )
    slices = _slices(points, rounds[-1].probabilities[result.default])
    return replace(result, notes=(*result.notes, floor), slices=slices)


def _kind(name: str, config: ContestConfig) -> Kind:
    if name in config.networks:
        return "network"
    return "mixture" if name in COMMITTEES else "baseline"


def _why(protocol: Protocol) -> str:
    if len(protocol.train) == 1:
        return "there being no earlier cut to choose another by"
    return "the lowest log-loss when each training cut is predicted from those before it"


def judged(labels: NDArray[np.float32], probabilities: F64) -> Figures:
    """The figures of a table's row."""
    return {
        "auroc": roc_auc(labels, probabilities),
        "pr_auc": pr_auc(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "ece": calibration_error(labels, probabilities),
    }


def chosen_penalty(points: CutPoints, protocol: Protocol, config: ContestConfig) -> float:
    """The penalty with the lowest log-loss when each training cut is predicted from earlier ones.

    With a single cut there is nothing to choose by, and the first is taken. No test point is used.
    """
    examples = points.examples
    learnt = np.concatenate([points.learnt, points.of_slice(CALIBRATION)])
    cut = points.cut[learnt]
    spec = network_spec((protocol.target,))
    losses = dict.fromkeys(PENALTIES, 0.0)
    for later in protocol.train[1:]:
        past, now = learnt[cut < later], learnt[cut == later]
        if len(np.unique(examples.labels[past, 0])) < 2:  # noqa: PLR2004  # classes
            continue
        for penalty in PENALTIES:
            network = build("logistic", spec)
            fit_logistic(network, examples, past, replace(config.fit, logistic_penalty=penalty))
            told = sigmoid(logits_of(network, points, now))
            losses[penalty] += log_loss(examples.labels[now, 0], told)
    return min(losses, key=lambda penalty: losses[penalty])


def _round(
    points: CutPoints,
    protocol: Protocol,
    networks: tuple[str, ...],
    fit: FitConfig,
    say: Say,
) -> Round:
    examples = points.examples
    train = points.learnt
    calibration, test = (points.of_slice(which) for which in (CALIBRATION, VALIDATION))
    profile, weight = examples.profile, examples.weight
    labels = examples.labels[:, 0].astype(np.float64)
    held_out = np.concatenate([calibration, test])
    size = len(calibration)
    spec = network_spec((protocol.target,))
    process = PurchaseProcess(spec, fit_process(profile[test]))
    logits: dict[str, F64] = {
        "bg_nbd": process(torch.from_numpy(profile[held_out]))[:, 0].double().numpy(),
        "frequency": _logit(simple.frequency(profile[train], labels[train], profile[held_out])),
        "boosting": _logit(
            simple.boosting(
                profile[train], labels[train], weight[train], profile[held_out], fit.seed
            )
        ),
    }

    def calibrated(*names: str) -> F64:
        """Weighed on the calibration users; logits are [calibration, then test]."""
        members = np.stack([logits[name] for name in names], axis=1)
        return fit_committee(members[:size], labels[calibration]).probabilities(members[size:])

    told: dict[str, F64] = {
        "base_rate": simple.base_rate(labels[train], weight[train], len(test)),
        "recency": simple.recency(profile[train], labels[train], profile[test]),
        "frequency": sigmoid(logits["frequency"][size:]),
        "bg_nbd": sigmoid(logits["bg_nbd"][size:]),
        "boosting": calibrated("boosting"),
    }
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in networks:
        network, curve = fitted_network(name, points, protocol, fit)
        logits[name] = logits_of(network, points, held_out)
        told[name] = calibrated(name)
        if curve:
            curves[name] = curve
        say(f"  {name}: log-loss {log_loss(labels[test], told[name]):.4f}")
    for name, members in COMMITTEES.items():
        if all(member in logits for member in members):
            told[name] = calibrated(*members)
    return Round(told, curves)


def fitted_network(
    name: str, points: CutPoints, protocol: Protocol, fit: FitConfig
) -> tuple[Network, list[tuple[float, float]]]:
    """A fitted network, and its losses by epoch."""
    curve: list[tuple[float, float]] = []

    def report(news: Progress) -> None:
        curve.append((news.train_loss, news.stopping_loss))

    # Nobody needs to say when a convex fit stops, so it learns from those users too. What is known
    # of the histories at the test is known to the process; it uses no label.
    learnt = points.learnt if convex(name) else points.of_slice(TRAIN)
    sample = Sample(points.examples, learnt, histories=points.of_slice(VALIDATION))
    with torch.random.fork_rng():
        torch.manual_seed(fit.seed)
        network = fit_network(
            name,
            network_spec((protocol.target,)),
            sample,
            points.of_slice(STOPPING),
            fit,
            torch.device("cpu"),
            report=report,
        ).network
    return network, curve


def logits_of(network: Network, points: CutPoints, chosen: Index) -> F64:
    """Its raw logits [N] of the chosen points."""
    batches = Batches(points.examples, chosen, 256, torch.device("cpu"))
    found = predict_logits(network, batches, len(points.examples))[chosen, 0]
    logits: F64 = found.astype(np.float64)
    return logits


def _chance_ece(probabilities: F64) -> float:
    """Mean calibration error of perfectly calibrated probabilities, by chance alone."""
    rng = np.random.default_rng(0)
    draws = [
        calibration_error(rng.random(len(probabilities)) < probabilities, probabilities)
        for _ in range(CHANCE_DRAWS)
    ]
    return float(np.mean(draws))


def _slices(points: CutPoints, probabilities: F64) -> tuple[Slice, ...]:
    """Figures by how many orders there were, how long the silence, and which cut."""
    test = points.of_slice(VALIDATION)
    profile = points.examples.profile[test]
    labels = points.examples.labels[test, 0]
    orders = features.unlogged(profile, "log_orders").round()
    silence = profile[:, features.PROFILE_FEATURES.index("log_silence_hours")]
    low, high = np.quantile(silence, [1 / 3, 2 / 3])
    parts = {
        "no order": orders == 0,
        "1 order": orders == 1,
        "2-3 orders": (orders > 1) & (orders <= 3),  # noqa: PLR2004  # as named
        "4+ orders": orders > 3,  # noqa: PLR2004  # as named
        "seen lately": silence <= low,
        "seen a while ago": (silence > low) & (silence <= high),
        "long silent": silence > high,
    }
    cuts = np.unique(points.cut[test])
    if len(cuts) > 1:
        parts |= {f"test cut {i + 1}": points.cut[test] == cut for i, cut in enumerate(cuts)}
    return tuple(
        Slice(name, int(chosen.sum()), judged(labels[chosen], probabilities[chosen]))
        for name, chosen in parts.items()
        if chosen.sum() >= LEAST_SLICE
    )


def _logit(probabilities: F64) -> F64:
    bounded = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return np.log(bounded) - np.log1p(-bounded)
