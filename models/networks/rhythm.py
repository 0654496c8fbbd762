"""The purchase process with prior numbers: what a new shop is served with, without training."""

from dataclasses import dataclass

from torch import Tensor

from models.networks.base import NetworkSpec, StatelessNetwork
from models.networks.process import HOUR_MS, ProcessParameters, PurchaseProcess


@dataclass(frozen=True)
class RhythmConfig:
    """Prior over a shop's users. The shapes are those of the BG/NBD paper's CDNOW fit, rounded."""

    expected_gap_ms: int = 7 * 24 * HOUR_MS
    """alpha / r: the gap between orders at the mean rate of the prior, milliseconds."""
    rate_shape: float = 0.25
    """r: how alike users' rates are; small is unlike."""
    dropout_a: float = 0.8
    """a of the Beta prior of leaving after an order."""
    dropout_b: float = 2.4
    """b of the same."""

    @classmethod
    def of(cls, process: ProcessParameters) -> "RhythmConfig":
        """The configuration whose numbers are those of a process."""
        gap = round(process.scale_hours / process.shape * HOUR_MS)
        return cls(gap, process.shape, process.a, process.b)

    @property
    def parameters(self) -> ProcessParameters:
        """The prior as numbers of the process."""
        scale = self.rate_shape * self.expected_gap_ms / HOUR_MS
        return ProcessParameters(self.rate_shape, scale, self.dropout_a, self.dropout_b)


class Rhythm(StatelessNetwork):
    """BG/NBD with fixed numbers over the profile's order count, span and silence."""

    def __init__(self, spec: NetworkSpec, config: RhythmConfig | None = None) -> None:
        """Nothing is left to train."""
        super().__init__(spec)
        self.config = config or RhythmConfig()
        self.process = PurchaseProcess(spec, self.config.parameters)

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Logits [B,K] of the closed form."""
        del hidden_BH
        logits: Tensor = self.process(profile_BP)
        return logits
