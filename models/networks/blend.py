"""Logistic regression over the profile and over what a fitted purchase process makes of it.

The process knows how silence, frequency and age go together and where that leads at an age that no
training point had; the regression knows everything else, and corrects it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.networks.base import NetworkSpec, StatelessNetwork, SteadyLinear, silent
from models.networks.process import PurchaseProcess
from models.networks.rhythm import RhythmConfig

PROCESS_SCALE = 0.5
"""Brings log-odds to the size of standardised features."""


@dataclass(frozen=True)
class BlendConfig:
    """There is nothing to choose; the class keeps the builders alike."""


class Blend(StatelessNetwork):
    """One linear layer over the standardised profile and the log-odds of the process."""

    def __init__(self, spec: NetworkSpec, config: BlendConfig | None = None) -> None:
        """Start from zero weights."""
        super().__init__(spec)
        self.config = config or BlendConfig()
        self.process = PurchaseProcess(spec, RhythmConfig().parameters)
        self.process_scale = PROCESS_SCALE
        width = len(spec.profile_features) + self.targets
        self.linear = silent(SteadyLinear(width, self.targets))

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Uncalibrated logits [B,K]."""
        del hidden_BH
        told = self.process(profile_BP) * self.process_scale
        logits: Tensor = self.linear(torch.cat([self.standard_profile(profile_BP), told], dim=1))
        return logits
