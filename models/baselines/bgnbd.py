"""Maximum likelihood of BG/NBD (Fader, Hardie and Lee, Marketing Science, 2005, equation 6).

The likelihood of x repeat orders, the last t_x after the first, in T since the first:

    Gamma(r + x) alpha^r / Gamma(r) * B(a, b + x) / B(a, b)
        * ( (alpha + T)^-(r + x)  +  [x > 0] * a / (b + x - 1) * (alpha + t_x)^-(r + x) )

It needs no labels: a history says how often its user came and how long ago the last time was.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import TrainingError
from models.inputs import features
from models.networks.process import ProcessParameters

SOLVER_STEPS: Final = 200
GRADIENT_TOLERANCE: Final = 1e-7
SPREAD_LIMIT: Final = 12.0
"""Largest logarithm of a number: a shop without any leaving has no finite optimum."""
PRIOR_SPREAD: Final = 1.0
"""Standard deviation of the logarithm of a number around its prior."""
MOST_HISTORIES: Final = 50_000
"""More histories than these add nothing to four numbers."""
IMPOSSIBLE: Final = -1e9


def has_orders(profile: NDArray[Any]) -> bool:
    """Whether any of the histories, as profiles [N,P] describe them, has an order."""
    return bool((profile[:, features.PROFILE_FEATURES.index("log_orders")] > 0).any())


def fit_process(profile: NDArray[Any], prior: ProcessParameters | None = None) -> ProcessParameters:
    """Fit the process to histories, as profiles [N,P] tell of them.

    Users without an order say nothing about the process and are left out; of very many an evenly
    spaced part is taken. ``prior``: see `fit_bgnbd`.

    Raises:
        TrainingError: no user has ordered, or the fit fails.
    """
    names = features.PROFILE_FEATURES
    values = np.expm1(np.asarray(profile, np.float64))
    values = values[values[:, names.index("log_orders")] > 0]
    values = values[:: max(len(values) // MOST_HISTORIES, 1)]
    repeats = np.maximum(values[:, names.index("log_orders")].round() - 1, 0)
    span = values[:, names.index("log_purchase_span_hours")]
    age = span + values[:, names.index("log_since_purchase_hours")]
    return fit_bgnbd(repeats, span, age, prior)


def fit_bgnbd(
    repeats: NDArray[Any],
    span: NDArray[Any],
    age: NDArray[Any],
    prior: ProcessParameters | None = None,
) -> ProcessParameters:
    """The parameters that make the histories most likely.

    Args:
        repeats: x, orders after the first, [N].
        span: t_x, hours from the first to the last order, [N].
        age: T, hours from the first order to now, [N].
        prior: what the logarithms of the parameters are normal around, with a standard deviation
            of `PRIOR_SPREAD`, thrice that for the scale: it decides where histories are too short
            to tell leaving from a long gap. None: maximum likelihood.

    Raises:
        TrainingError: there is no history, or the fit fails.
    """
    if len(repeats) == 0:
        raise TrainingError("the purchase process has nothing to be fitted on: nobody has ordered")
    x, t_x, t = (torch.as_tensor(np.asarray(v, np.float64)) for v in (repeats, span, age))
    unit = t.mean().clamp(min=1.0)
    centre = torch.zeros(4, dtype=torch.float64)
    if prior is not None:
        scale = prior.scale_hours / float(unit)
        centre = torch.tensor([prior.shape, scale, prior.a, prior.b], dtype=torch.float64).log()
    spread = torch.tensor([1.0, 3.0, 1.0, 1.0], dtype=torch.float64) * PRIOR_SPREAD
    theta = centre.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [theta],
        max_iter=SOLVER_STEPS,
        tolerance_grad=GRADIENT_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = _negative_log_likelihood(theta, x, t_x / unit, t / unit)
        if prior is not None:
            loss = loss + ((theta - centre) / spread).square().sum() / (2 * len(x))
        loss.backward()
        return loss

    solver.step(closure)
    r, alpha, a, b = theta.detach().clamp(-SPREAD_LIMIT, SPREAD_LIMIT).exp().tolist()
    if not np.isfinite([r, alpha, a, b]).all():
        raise TrainingError("the purchase process cannot be fitted: its likelihood is not finite")
    return ProcessParameters(r, alpha * float(unit), a, b)


def _negative_log_likelihood(theta: Tensor, x: Tensor, t_x: Tensor, t: Tensor) -> Tensor:
    r, alpha, a, b = theta.clamp(-SPREAD_LIMIT, SPREAD_LIMIT).exp()
    lgamma = torch.lgamma
    rate = lgamma(r + x) - lgamma(r) + r * alpha.log()
    stay = lgamma(a + b) - lgamma(b) + lgamma(b + x) - lgamma(a + b + x)
    alive = -(r + x) * (alpha + t).log()
    gone = a.log() - (b + (x - 1).clamp(min=0)).log() - (r + x) * (alpha + t_x).log()
    gone = torch.where(x > 0, gone, torch.full_like(gone, IMPOSSIBLE))
    loss: Tensor = -(rate + stay + torch.logaddexp(alive, gone)).mean()
    return loss
