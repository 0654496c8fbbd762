"""BG/NBD, a purchase process in closed form: buys at a rate of one's own until one leaves.

Fader, Hardie and Lee, "Counting Your Customers the Easy Way" (Marketing Science, 2005). A living
user buys as a Poisson process whose rate is Gamma(r, alpha) over users; after each purchase the
user leaves for good with a probability that is Beta(a, b) over users. With x repeat orders, the
last of them t_x after the first, and T since the first:

    P(alive) = 1 / (1 + a / (b + x - 1) * ((alpha + T) / (alpha + t_x)) ** (r + x)),  1 for x = 0
    P(an order within h | alive) = 1 - ((alpha + T) / (alpha + T + h)) ** (r + x)

A hazard is the probability of an order in a later window if there is none before it.

`models/baselines/bgnbd.py` fits the four numbers.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from models.networks.base import NetworkSpec
from models.targets import ABSENT

HOUR_MS = 3_600_000
PROBABILITY_FLOOR = 1e-6


@dataclass(frozen=True)
class ProcessParameters:
    """A shop's users, as the process sees them."""

    shape: float
    """r: how alike users' rates are; small is unlike."""
    scale_hours: float
    """alpha, hours; alpha / r is the gap between orders at the mean rate."""
    a: float
    """a of the Beta of leaving after an order."""
    b: float
    """b of the same."""


class PurchaseProcess(nn.Module):
    """Profiles [B,P] -> log-odds [B,K] that each target comes true, were the process all."""

    parameters_4: Tensor
    after_hours: Tensor
    horizon_hours: Tensor
    sign: Tensor
    gaps: Tensor
    floor_hours: Tensor
    prior_hours: Tensor
    own: Final[bool]

    def __init__(self, spec: NetworkSpec, parameters: ProcessParameters) -> None:
        """Take the horizons of `spec.targets`; nothing is left to train."""
        super().__init__()
        self.orders_column = spec.profile_features.index("log_orders")
        self.since_column = spec.profile_features.index("log_since_purchase_hours")
        self.span_column = spec.profile_features.index("log_purchase_span_hours")
        self.tenure_column = spec.profile_features.index("log_tenure_hours")
        self.floor = PROBABILITY_FLOOR
        begins = [target.after_ms / HOUR_MS for target in spec.targets]
        horizons = [target.horizon_ms / HOUR_MS for target in spec.targets]
        signs = [-1.0 if target.kind == ABSENT else 1.0 for target in spec.targets]
        self.conditional = any(begins)
        self.own = any(target.gaps for target in spec.targets)
        self.register_buffer("parameters_4", torch.zeros(4, dtype=torch.float64))
        self.register_buffer("after_hours", torch.tensor(begins))
        self.register_buffer("horizon_hours", torch.tensor(horizons))
        self.register_buffer("sign", torch.tensor(signs))
        # Only where there are any: without them a network has the parts that it always had.
        if self.own:
            own = [(t.gaps, t.floor_ms / HOUR_MS, t.prior_gap_ms / HOUR_MS) for t in spec.targets]
            gaps, floors, priors = torch.tensor(own, dtype=torch.float64).unbind(1)
            self.register_buffer("gaps", gaps.clone())
            self.register_buffer("floor_hours", floors.clone())
            self.register_buffer("prior_hours", priors.clone())
        self.set_parameters(parameters)

    def set_parameters(self, parameters: ProcessParameters) -> None:
        """Replace the four numbers."""
        values = (parameters.shape, parameters.scale_hours, parameters.a, parameters.b)
        self.parameters_4.copy_(torch.tensor(values, dtype=torch.float64))

    def forward(self, profile_BP: Tensor) -> Tensor:
        """In double precision, for long histories."""
        r, alpha, a, b = self.parameters_4.unbind()
        logs = [
            profile_BP[:, self.orders_column],
            profile_BP[:, self.since_column],
            profile_BP[:, self.span_column],
            profile_BP[:, self.tenure_column],
        ]
        orders, since, span, tenure = torch.expm1(torch.stack(logs).double()).unbind()
        orders = orders.round()
        repeats = (orders - 1).clamp(min=0)
        # Before a first order the clock of the rate runs from the first event.
        age = torch.where(orders > 0, span + since, tenure)
        shape = r + repeats
        left = a / (b + (repeats - 1).clamp(min=0))
        odds = left * ((alpha + age) / (alpha + span)) ** shape
        alive = torch.where(repeats > 0, 1 / (1 + odds), torch.ones_like(odds))
        now, alive, shape = (alpha + age).unsqueeze(1), alive.unsqueeze(1), shape.unsqueeze(1)
        horizon = self.horizon_hours.unsqueeze(0)
        if self.own:
            expected = (self.prior_hours + span.unsqueeze(1)) / (1 + repeats.unsqueeze(1))
            own = torch.minimum(self.gaps * expected, horizon.double())
            own = torch.maximum(own, self.floor_hours)
            horizon = torch.where(self.gaps > 0, own, horizon.double())
        occurs = alive * (1 - (now / (now + horizon)) ** shape)
        if self.conditional:
            earlier = alive * (1 - (now / (now + self.after_hours)) ** shape)
            occurs = (occurs - earlier) / (1 - earlier).clamp(min=self.floor)
        return (torch.logit(occurs, self.floor) * self.sign).to(profile_BP.dtype)
