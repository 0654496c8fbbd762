"""Logistic regression on the profile: the baseline that anything larger must beat."""

from dataclasses import dataclass

from torch import Tensor

from models.networks.base import NetworkSpec, StatelessNetwork, SteadyLinear, silent


@dataclass(frozen=True)
class LogisticConfig:
    """Logistic regression has nothing to choose; the class keeps the builders alike."""


class Logistic(StatelessNetwork):
    """One linear layer over the standardised profile."""

    def __init__(self, spec: NetworkSpec, config: LogisticConfig | None = None) -> None:
        """Start from zero weights, which predict the shift of the calibration."""
        super().__init__(spec)
        self.config = config or LogisticConfig()
        self.linear = silent(SteadyLinear(len(spec.profile_features), self.targets))

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Uncalibrated logits [B,K]."""
        del hidden_BH
        logits: Tensor = self.linear(self.standard_profile(profile_BP))
        return logits
