"""Fits of the networks that read the profile only: convex problems."""

from __future__ import annotations

import torch
from torch import Tensor

from models.baselines.bgnbd import fit_process
from models.data.dataset import F32, Examples, Index
from models.fitting.config import FitConfig
from models.fitting.fit import point_loss, sample_shift, standardise
from models.networks.base import Network, NetworkSpec
from models.networks.blend import Blend


def fit_logistic(
    network: Network,
    examples: Examples,
    points: Index,
    config: FitConfig,
    shift: F32 | None = None,
    *,
    warm: bool = False,
) -> None:
    """Fit a network that reads the profile only: a convex problem, solved by L-BFGS.

    Args:
        network: its weights are changed.
        examples: labelled points.
        points: those to fit.
        config: see there.
        shift: of each target's logits in the sample [K], see `models.fitting.sampling`.
        warm: keep the network's standardisation; its weights are where the solver begins anyway.
    """
    if not warm:
        standardise(network, examples, points)
    profile = torch.from_numpy(examples.profile[points])
    labels = torch.from_numpy(examples.labels[points])
    weight = torch.from_numpy(examples.weight[points])
    offset = sample_shift(network, shift)
    nothing = network.initial(len(points))
    parameters = list(network.parameters())
    weights = [parameter for parameter in parameters if parameter.dim() > 1]
    solver = torch.optim.LBFGS(
        parameters, max_iter=config.logistic_steps, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        sums, known = point_loss(network.heads(nothing, profile) + offset, labels, weight)
        penalty = sum((matrix.square().sum() for matrix in weights), torch.zeros(()))
        loss = (sums / known).sum() + config.logistic_penalty * penalty
        loss.backward()
        return loss

    network.train()
    solver.step(closure)
    network.eval()


def fit_blend(
    spec: NetworkSpec,
    examples: Examples,
    points: Index,
    config: FitConfig,
    shift: F32 | None = None,
    histories: Index | None = None,
) -> Blend:
    """A blend whose weights are fitted to the labels of `points`; `shift` as in `fit_logistic`.

    Its process needs no labels: it is fitted to the histories of the points `histories`, or of
    `points` themselves.
    """
    blend = Blend(spec)
    seen = points if histories is None else histories
    blend.process.set_parameters(fit_process(examples.profile[seen]))
    fit_logistic(blend, examples, points, config, shift)
    return blend
