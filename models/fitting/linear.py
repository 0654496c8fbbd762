"""Fits of the networks that read the profile only: convex problems, with a penalty that is chosen.

Each target is one row of the linear layer and a problem of its own, so each has its own penalty:
the one with the lowest loss on later points of users who are not learnt from. The path goes from
the strongest penalty to the weakest, and each fit starts from the solution before it (Friedman,
Hastie and Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent",
Journal of Statistical Software, 2010, section 2.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.baselines.bgnbd import fit_process, has_orders
from models.data.dataset import F32, Examples, Index
from models.data.points import mix
from models.evaluate import F64
from models.fitting.config import FitConfig
from models.fitting.fit import point_loss, sample_shift, standardise
from models.fitting.stopping import calibrated_losses
from models.networks.base import Network, NetworkSpec
from models.networks.blend import Blend

PENALTIES: Final = (1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-5)
"""What is tried, the strongest first."""

LEAST_FOLD: Final = 50
"""Labels of a target below which a half of the points says nothing about its penalty."""
_FOLD_SALT: Final = 0x66

Penalties = tuple[float, ...]


def fit_logistic(
    network: Network,
    examples: Examples,
    points: Index,
    config: FitConfig,
    shift: F32 | None = None,
    *,
    stopping: Index | None = None,
    penalties: Penalties = (),
    warm: bool = False,
) -> Penalties:
    """Fit a network that reads the profile only: a convex problem, solved by L-BFGS.

    Args:
        network: its weights are changed; each parameter has a row per target.
        examples: labelled points.
        points: those to fit.
        config: with `logistic_penalty` None the penalties are chosen.
        shift: of each target's logits in the sample [K], see `models.fitting.sampling`.
        stopping: points that choose the penalties, later than `points` and of other users.
        penalties: of each target [K], in place of what `config` says.
        warm: keep the network's standardisation; its weights are where the solver begins anyway.

    Returns:
        The penalty of each target [K].

    Raises:
        ValueError: the penalties are to be chosen, and there is nothing to choose by.
    """
    if not warm:
        standardise(network, examples, points)
    solve = _Problem(network, examples, points, config, shift)
    if not penalties and config.logistic_penalty is not None:
        penalties = (config.logistic_penalty,) * network.targets
        solve(penalties)
    elif penalties:
        steps = [max(penalty, min(penalties)) for penalty in PENALTIES]
        for step in dict.fromkeys((*steps, min(penalties))):
            solve([max(step, own) for own in penalties])
    elif stopping is None or not len(stopping):
        raise ValueError("penalties are chosen by later points of other users: there are none")
    else:
        penalties = _choose(network, solve, examples, points, stopping)
    network.eval()
    return penalties


def _choose(
    network: Network, solve: _Problem, examples: Examples, points: Index, stopping: Index
) -> Penalties:
    """Walk the path; each target's row is left at the penalty of the lowest loss.

    One slice of time is one season, so the path is walked twice: the earlier half of `points` also
    predicts the later half, of other users. A penalty stands for a prior, which weighs more the
    fewer labels there are: the fit to fewer points has penalties as much larger. Of equal losses
    the strongest penalty is chosen.
    """
    parameters = list(network.parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    losses_SK: F64 = np.zeros((len(PENALTIES), network.targets))
    early, late = _halves(examples, points)
    if _has_both_classes(examples, early) and _has_both_classes(examples, late):
        fewer_K = _known(examples, points) / _known(examples, early)
        losses_SK += _walk(network, solve.on(early), examples, late, fewer_K)[0]
        with torch.no_grad():
            for value, parameter in zip(start, parameters, strict=True):
                parameter.copy_(value)
    losses, kept = _walk(network, solve, examples, stopping)
    best = (losses_SK + losses).argmin(axis=0)
    with torch.no_grad():
        for target, place in enumerate(best):
            for own, parameter in zip(kept[place], parameters, strict=True):
                parameter[target] = own[target]
    return tuple(PENALTIES[place] for place in best)


def _halves(examples: Examples, points: Index) -> tuple[Index, Index]:
    """The earlier half of the points of one half of the users, the later one of the others."""
    now = examples.now[points]
    first = mix(examples.user[points], _FOLD_SALT) >> np.uint64(63) == 0
    late = now > np.median(now)
    return points[~late & first], points[late & ~first]


def _has_both_classes(examples: Examples, points: Index) -> bool:
    labels = examples.labels[points]
    known = ~np.isnan(labels)
    if known.sum(axis=0).min() < LEAST_FOLD:
        return False
    return bool((np.nanmin(labels, axis=0) < np.nanmax(labels, axis=0)).all())


def _known(examples: Examples, points: Index) -> F64:
    """How many labels of each target [K] the points have."""
    counts: F64 = (~np.isnan(examples.labels[points])).sum(axis=0).astype(np.float64)
    return counts


def _walk(
    network: Network,
    solve: _Problem,
    examples: Examples,
    later: Index,
    times_K: F64 | None = None,
) -> tuple[F64, list[list[Tensor]]]:
    """Losses [S,K] on the points `later` and the weights, at each of the S penalties.

    ``times_K``: factor of each target's penalties; None: 1.
    """
    times_K = np.ones(network.targets) if times_K is None else times_K
    profile = torch.from_numpy(examples.profile[later])
    nothing, labels = network.initial(len(later)), examples.labels[later]
    losses, kept = [], []
    for penalty in PENALTIES:
        solve((penalty * times_K).tolist())
        with torch.inference_mode():
            losses.append(calibrated_losses(network.heads(nothing, profile).numpy(), labels))
        kept.append([parameter.detach().clone() for parameter in network.parameters()])
    return np.stack(losses), kept


class _Problem:
    """The penalised loss of a network's rows over some points."""

    def __init__(
        self,
        network: Network,
        examples: Examples,
        points: Index,
        config: FitConfig,
        shift: F32 | None,
    ) -> None:
        self._given = network, examples, config, shift
        self.network, self.steps = network, config.logistic_steps
        self.profile = torch.from_numpy(examples.profile[points])
        self.labels = torch.from_numpy(examples.labels[points])
        self.weight = torch.from_numpy(examples.weight[points])
        self.offset = sample_shift(network, shift)
        self.nothing = network.initial(len(points))

    def on(self, points: Index) -> _Problem:
        """The same problem over other points."""
        network, examples, config, shift = self._given
        return _Problem(network, examples, points, config, shift)

    def __call__(self, penalties: Sequence[float]) -> None:
        """Solve from where the weights are, with a penalty per target [K]."""
        parameters = list(self.network.parameters())
        weights = [parameter for parameter in parameters if parameter.dim() > 1]
        penalty_K = torch.tensor(penalties)
        solver = torch.optim.LBFGS(parameters, max_iter=self.steps, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            solver.zero_grad()
            logits = self.network.heads(self.nothing, self.profile) + self.offset
            sums, known = point_loss(logits, self.labels, self.weight)
            squares = sum((matrix.square().sum(1) for matrix in weights), torch.zeros(()))
            loss = (sums / known).sum() + (penalty_K * squares).sum()
            loss.backward()
            return loss

        self.network.train()
        solver.step(closure)
        self.network.eval()


def fit_blend(
    spec: NetworkSpec,
    examples: Examples,
    points: Index,
    config: FitConfig,
    shift: F32 | None = None,
    histories: Index | None = None,
    *,
    stopping: Index | None = None,
    penalties: Penalties = (),
) -> tuple[Blend, Penalties]:
    """A blend fitted to the labels of `points`, and its penalties; arguments as of `fit_logistic`.

    Its process needs no labels: it is fitted to the histories of the points `histories`, or of
    `points` themselves. Where none of them has an order its prior stays.
    """
    blend = Blend(spec)
    seen = points if histories is None else histories
    if has_orders(examples.profile[seen]):
        blend.process.set_parameters(fit_process(examples.profile[seen]))
    chosen = fit_logistic(
        blend, examples, points, config, shift, stopping=stopping, penalties=penalties
    )
    return blend, chosen
