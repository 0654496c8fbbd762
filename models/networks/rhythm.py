"""A closed-form purchase process (BG/NBD) that needs no training: what a new shop is served with.

Fader, Hardie and Lee, "Counting Your Customers the Easy Way" (Marketing Science, 2005). A living
user buys as a Poisson process whose rate is Gamma(r, alpha) over users; after each purchase the
user leaves for good with a probability that is Beta(a, b) over users. With x repeat orders, the
last of them t_x after the first, and T since the first:

    P(alive) = 1 / (1 + a / (b + x - 1) * ((alpha + T) / (alpha + t_x)) ** (r + x)),  1 for x = 0
    P(an order within h | alive) = 1 - ((alpha + T) / (alpha + T + h)) ** (r + x)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.networks.base import NetworkSpec, StatelessNetwork
from models.targets import ABSENT

HOUR_MS = 3_600_000
PROBABILITY_FLOOR = 1e-6


@dataclass(frozen=True)
class RhythmConfig:
    """Prior over a shop's users. The shapes are those of the paper's CDNOW fit, rounded."""

    expected_gap_ms: int = 7 * 24 * HOUR_MS
    """alpha / r: the gap between orders at the mean rate of the prior, milliseconds."""
    rate_shape: float = 0.25
    """r: how alike users' rates are; small is unlike."""
    dropout_a: float = 0.8
    """a of the Beta prior of leaving after an order."""
    dropout_b: float = 2.4
    """b of the same."""


class Rhythm(StatelessNetwork):
    """BG/NBD with fixed priors over the profile's order count, span and silence."""

    def __init__(self, spec: NetworkSpec, config: RhythmConfig | None = None) -> None:
        """Fix the priors and the horizons of `spec.targets`; nothing is left to train."""
        super().__init__(spec)
        self.config = config = config or RhythmConfig()
        self.orders_column = spec.profile_features.index("log_orders")
        self.since_column = spec.profile_features.index("log_since_purchase_hours")
        self.span_column = spec.profile_features.index("log_purchase_span_hours")
        self.tenure_column = spec.profile_features.index("log_tenure_hours")
        self.shape = config.rate_shape
        self.scale = config.rate_shape * config.expected_gap_ms / HOUR_MS
        self.a = config.dropout_a
        self.b = config.dropout_b
        self.floor = PROBABILITY_FLOOR
        horizons = [target.horizon_ms / HOUR_MS for target in spec.targets]
        signs = [-1.0 if target.kind == ABSENT else 1.0 for target in spec.targets]
        self.register_buffer("horizon_hours", torch.tensor(horizons))
        self.register_buffer("sign", torch.tensor(signs))

    horizon_hours: Tensor
    sign: Tensor

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Logits [B,K] of the closed form; in double precision, for long histories."""
        del hidden_BH
        hours = torch.expm1(profile_BP.double())
        orders = hours[:, self.orders_column].round()
        repeats = (orders - 1).clamp(min=0)
        span = hours[:, self.span_column]
        # Before a first order the clock of the rate runs from the first event.
        age = torch.where(
            orders > 0, span + hours[:, self.since_column], hours[:, self.tenure_column]
        )
        shape = self.shape + repeats
        left = self.a / (self.b + (repeats - 1).clamp(min=0))
        odds = left * ((self.scale + age) / (self.scale + span)) ** shape
        alive = torch.where(repeats > 0, 1 / (1 + odds), torch.ones_like(odds))
        now = (self.scale + age).unsqueeze(1)
        none = (now / (now + self.horizon_hours)) ** shape.unsqueeze(1)
        occurs = alive.unsqueeze(1) * (1 - none)
        return (torch.logit(occurs, self.floor) * self.sign).to(profile_BP.dtype)
