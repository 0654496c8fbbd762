"""A network of an architecture, made and fitted from the beginning.

What reads the profile only is a convex problem and needs nobody to say when to stop. What reads
sequences starts from a fitted blend, so that it has only to learn what that leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from models.data.dataset import F32, Examples, Index
from models.data.split import TRAIN
from models.fitting.checkpoint import Checkpoint
from models.fitting.distributed import SINGLE, Group
from models.fitting.fit import FitConfig, Report, fit_sequences, standardise
from models.fitting.linear import Penalties, fit_blend, fit_logistic
from models.fitting.pretraining import pretrain
from models.fitting.sampling import sample_negatives
from models.networks import HIDDEN_SIZE, build
from models.networks.base import Network, NetworkSpec
from models.networks.blend import Blend
from models.networks.sequence import SequenceNetwork


@dataclass(frozen=True)
class Sample:
    """What a network is fitted to."""

    examples: Examples
    points: Index
    shift: F32 | None = None
    """Of each target's logits in the sample [K], see `models.fitting.sampling`."""
    histories: Index | None = None
    """Points whose histories, not labels, the blend's process is fitted to; None: `points`."""

    @classmethod
    def of_training(cls, examples: Examples, config: FitConfig) -> Self:
        """The training slice, with as many of its negatives as `config` wants, aged."""
        train = examples.of_slice(TRAIN)
        older = aged(examples, train, config.oldest_weight)
        return cls(*sample_negatives(older, train, config.negatives, config.seed))


@dataclass(frozen=True)
class Fitted:
    """A network and what its fit chose."""

    network: Network
    penalties: Penalties
    """L2 penalty of the linear part, per target [K]."""
    epochs: int = 0
    """Passes over the points that the weights over sequences have learnt for."""


def aged(examples: Examples, points: Index, oldest: float) -> Examples:
    """The examples, with `points` weighing less the older they are, because a shop changes.

    The weight falls exponentially from 1 at the newest of `points` to `oldest`, above 0, at the
    oldest, so a log of days and one of years are treated alike. Other points keep their weights.
    """
    if not len(points):
        return examples
    now = examples.now[points]
    age = (now.max() - now) / max(int(now.max() - now.min()), 1)
    weight = examples.weight.copy()
    weight[points] *= (oldest**age).astype(np.float32)
    return replace(examples, weight=weight)


def fit_network(
    architecture: str,
    spec: NetworkSpec,
    sample: Sample,
    stopping: Index,
    config: FitConfig,
    device: torch.device,
    *,
    hidden_size: int = HIDDEN_SIZE,
    report: Report | None = None,
    group: Group = SINGLE,
    checkpoint: Checkpoint | None = None,
    like: Fitted | None = None,
    start: Fitted | None = None,
) -> Fitted:
    """Make and fit a network; weights are drawn from torch's generator as it stands.

    Args:
        architecture: one of `models.networks.ARCHITECTURES`.
        spec: sizes and targets.
        sample: see there.
        stopping: points that choose penalties and say when a fit over sequences stops.
        config: see there.
        device: where sequences are fitted; the network comes back to the CPU.
        hidden_size: width of the state.
        report: called after each epoch over sequences.
        group: the processes that fit it together.
        checkpoint: where a fit over sequences is kept, so that it can go on.
        like: a fit whose penalties and epochs are taken over; `stopping` then chooses nothing.
        start: the blend from which a network over sequences starts, fitted to `sample`; None: it is
            fitted here.

    Raises:
        ModelError: there is no such architecture.
        TrainingError: the loss became NaN.
        CheckpointError: a checkpoint cannot be written, is damaged or belongs to another fit.
    """
    examples, points, shift = sample.examples, sample.points, sample.shift
    given = like.penalties if like is not None else ()
    if architecture == "blend":
        return Fitted(*_blend(spec, sample, stopping, config, given))
    network = build(architecture, spec, hidden_size)
    if not isinstance(network, SequenceNetwork):
        return Fitted(
            network,
            fit_logistic(
                network, examples, points, config, shift, stopping=stopping, penalties=given
            ),
        )
    if start is not None and isinstance(start.network, Blend):
        blend, penalties = start.network, start.penalties
    else:
        blend, penalties = _blend(spec, sample, stopping, config, given)
    network.start_from(blend)
    # It is the best line already; what is moved beside the states only learns by heart.
    network.direct.requires_grad_(False)
    if config.pretrain_epochs:
        standardise(network, examples, points)
        pretrain(network, examples, points, config, device)
    if like is not None and like.epochs == 0:
        standardise(network, examples, points)
        network.direct.requires_grad_(True)
        return Fitted(network.eval(), penalties)
    epochs = fit_sequences(
        network,
        examples,
        points,
        stopping,
        config,
        device,
        architecture,
        report,
        shift=shift,
        group=group,
        checkpoint=checkpoint,
        exactly=None if like is None else like.epochs,
    )
    network.direct.requires_grad_(True)
    return Fitted(network, penalties, epochs)


def _blend(
    spec: NetworkSpec, sample: Sample, stopping: Index, config: FitConfig, given: Penalties
) -> tuple[Blend, Penalties]:
    return fit_blend(
        spec,
        sample.examples,
        sample.points,
        config,
        sample.shift,
        sample.histories,
        stopping=stopping,
        penalties=given,
    )
