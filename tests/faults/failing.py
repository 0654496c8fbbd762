"""Networks that pass every check before they serve, and fail at the first event.

Their golden inputs have a silence, which a user who has just done something has not.
"""

# TorchScript reads annotations as objects: none of them may be postponed here.
import torch
from torch import Tensor

from models.networks.base import NetworkSpec
from models.networks.gru import Gru

MODES = ("raises", "not-finite", "wrong-shape", "every-other-time")


class FailingGru(Gru):
    """A GRU that fails in one way where a user's silence is zero."""

    def __init__(self, spec: NetworkSpec, mode: str) -> None:
        super().__init__(spec)
        self.mode = MODES.index(mode)
        self.calls = 0

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        profile = self.standard_profile(profile_BP)
        told = self.process(profile_BP) * self.process_scale
        # As in `SequenceNetwork`: TorchScript knows no super().
        logits = self.direct(torch.cat([profile, told], dim=1)) + self.said(hidden_BH)
        logits = logits + self.head(torch.cat([hidden_BH, profile], dim=1))
        if float(profile_BP[0, 0]) == 0.0:
            self.calls += 1
            if self.mode == 0 or (self.mode == 3 and self.calls % 2 == 1):
                raise RuntimeError("the device is lost")
            if self.mode == 1:
                logits = logits / 0.0 * 0.0
            if self.mode == 2:
                logits = logits.unsqueeze(0)
        return logits
