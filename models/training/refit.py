"""The model that is served: fitted again, once the gate has judged, on all labels there are by now.

The gated fit learns from the oldest slice of time, so that it can be judged by later ones. What
serves learns from every label that is complete at the end of the log, those of the gaps between the
slices too, and has the gated fit's epochs and, scaled to more labels, its penalties: nothing is
chosen here. The newest labels of a share of the users calibrate it; of these users it learns
nothing that reaches into the time of those labels. No figure is of this fit: whoever wants one
compares gated fits.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.dataset import Examples, weights_of
from models.data.points import mix, uniform
from models.data.split import CALIBRATION, GAP, TRAIN, VALIDATION, TimeSplit
from models.devices import pick_device
from models.fitting.config import FitConfig, RefreshConfig
from models.fitting.fit import fit_sequences
from models.fitting.linear import fit_logistic
from models.fitting.recipe import Fitted, Sample, aged, fit_network
from models.fitting.sampling import sample_negatives
from models.networks.base import Network
from models.networks.sequence import SequenceNetwork
from models.serving.manifest import FitSpan
from models.serving.scorer import network_spec
from models.targets import Target
from models.training.candidates import Candidate, Course, Lesson, at_most, calibrate

HELD_OUT: Final = 0.3
"""Share of the users whose newest labels calibrate what is served."""
_HELD_OUT_SALT: Final = 0x68


@dataclass(frozen=True)
class Served:
    """The network that is published, and what it learnt from."""

    network: Network
    calibration: dict[str, dict[str, float]]
    examples: Examples
    """As the refit saw them."""
    span: FitSpan


def held_out(users_N: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which users [N], by hash, have newest labels that what is served does not learn from."""
    return uniform(mix(users_N, _HELD_OUT_SALT)) < HELD_OUT


def served_examples(examples: Examples, targets: tuple[Target, ...], split: TimeSplit) -> Examples:
    """The examples with all settled labels; slices TRAIN, CALIBRATION, GAP (for neither).

    Args:
        examples: with `settled` labels.
        targets: what they are labelled with.
        split: the slices of the gated fit.
    """
    held = held_out(examples.user)
    calibrates = held & (examples.slice == VALIDATION)
    labels = examples.settled.copy()
    reaches = held & ~calibrates
    for column, target in enumerate(targets):
        ends = examples.now + target.horizon_ms + split.grace_ms
        labels[reaches & (ends > split.edges[2]), column] = np.nan
    slices = np.where(calibrates, CALIBRATION, TRAIN).astype(np.int8)
    slices[np.isnan(labels).all(axis=1)] = GAP
    weight = np.zeros(len(examples), np.float32)
    train = slices == TRAIN
    weight[train] = weights_of(examples.user[train])
    return replace(examples, labels=labels, slice=slices, weight=weight)


def refit(
    gated: Candidate,
    examples: Examples,
    targets: tuple[Target, ...],
    split: TimeSplit,
    config: FitConfig,
    hidden_size: int,
    course: Course,
    lesson: Lesson | None = None,
    refresh: RefreshConfig | None = None,
) -> Served:
    """Fit what is served; the gated candidate stays as it is.

    Args:
        gated: passed the gate.
        examples: what it was fitted and judged on.
        targets: what is predicted.
        split: the slices of time.
        config: of the gated fit.
        hidden_size: width of the state.
        course: how fits are run.
        lesson: the gated fit went on from a published one, and so does this one.
        refresh: how, where there is a lesson.

    Raises:
        TrainingError: the loss became NaN.
        CheckpointError: a fit cannot be kept, or not be resumed.
    """
    whole = served_examples(examples, targets, split)
    if lesson is None or refresh is None:
        network = fit_network(
            gated.architecture,
            network_spec(targets),
            Sample.of_training(whole, config),
            whole.of_slice(CALIBRATION),
            config,
            pick_device(course.device),
            hidden_size=hidden_size,
            report=course.report,
            group=course.group,
            checkpoint=course.checkpoint(gated.architecture, "refit"),
            like=Fitted(gated.network, scaled_penalties(gated, examples, whole), gated.epochs),
        ).network
    else:
        network = _further(gated, examples, whole, lesson, config, refresh, course)
    calibration = calibrate(network, whole, targets)
    return Served(network, calibration, whole, span_of(whole))


def scaled_penalties(gated: Candidate, examples: Examples, whole: Examples) -> tuple[float, ...]:
    """L2 penalties [K] of the refit: those of the gated fit times its share of the refit's labels.

    A Gaussian prior is a fixed penalty of the summed loss (Bishop, "Pattern Recognition and Machine
    Learning", 2006, section 3.3.1). Here the loss is a mean over labels, so the same prior weighs
    less the more labels there are. A refit of fewer labels keeps the penalties.
    """
    before, after = (
        (~np.isnan(of.labels[of.of_slice(TRAIN)])).sum(axis=0) for of in (examples, whole)
    )
    share = np.minimum(before / np.maximum(after, 1), 1.0).tolist()
    return tuple(
        penalty * own for penalty, own in zip(gated.penalties.values(), share, strict=False)
    )


def span_of(examples: Examples) -> FitSpan:
    """What a fit to the training slice of examples has seen."""
    learnt = examples.of_slice(TRAIN)
    now = examples.now[learnt]
    return FitSpan(
        first=int(now.min()),
        last=int(now.max()),
        points=len(learnt),
        calibrated_on=len(examples.of_slice(CALIBRATION)),
    )


def _further(
    gated: Candidate,
    examples: Examples,
    whole: Examples,
    lesson: Lesson,
    config: FitConfig,
    refresh: RefreshConfig,
    course: Course,
) -> Network:
    """The gated network after one more lesson: the points that its slices kept from it."""
    network = deepcopy(gated.network)
    one = torch.ones(network.targets)
    network.set_calibration(one, torch.zeros_like(one))
    if not isinstance(network, SequenceNetwork):
        train = whole.of_slice(TRAIN)
        penalties = scaled_penalties(gated, examples, whole)
        older = aged(whole, train, config.oldest_weight)
        fit_logistic(network, older, train, config, penalties=penalties, warm=True)
        return network
    learnt = np.concatenate([lesson.fresh, lesson.memory])
    train = whole.of_slice(TRAIN)
    fresh = train[whole.now[train] > whole.now[learnt].max(initial=0)]
    memory = at_most(learnt[np.isin(learnt, train)], int(refresh.replay * len(fresh)), config.seed)
    fit = replace(config, epochs=refresh.epochs, learning_rate=config.learning_rate * refresh.rate)
    sampled, points, shift = sample_negatives(
        whole, np.concatenate([fresh, memory]), fit.negatives, fit.seed
    )
    fit_sequences(
        network,
        sampled,
        points,
        whole.of_slice(CALIBRATION),
        fit,
        pick_device(course.device),
        gated.architecture,
        course.report,
        shift=shift,
        group=course.group,
        warm=True,
        exactly=refresh.epochs,
    )
    return network
