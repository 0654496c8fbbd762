"""The TorchScript interface that every architecture implements.

Legend of array shapes: B batch, L length of a rebuilt sequence, M events in this step, H hidden
width, C integer event features, F numeric event features, P profile features, K targets.

A network is one self-contained module: standardisation of its inputs and calibration of its logits
are buffers inside it, so that one file is the whole model.

TorchScript reads annotations as objects, so these modules do without postponed annotations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.targets import Target

STEADY_WIDTH = 16
"""Outputs that a `SteadyLinear` computes, at least."""
STANDARD_LIMIT = 6.0
SCALE_FLOOR = 1e-3


@dataclass(frozen=True)
class NetworkSpec:
    """What surrounds a network: the names of its inputs and its targets."""

    int_features: tuple[str, ...]
    """Names of the C integer event features, in column order."""
    num_features: tuple[str, ...]
    """Names of the F numeric event features, in column order."""
    profile_features: tuple[str, ...]
    """Names of the P profile features, in column order."""
    targets: tuple[Target, ...]
    """The K targets, in column order of the logits."""


class SteadyLinear(nn.Linear):
    """A linear layer to few outputs that gives a row the same bits wherever it is in the batch.

    With 8 outputs or fewer, matrix kernels of some CPUs (MKL on AVX-512) take the last rows of a
    tile another way, so what a row gives would depend on its place. Empty outputs widen the layer.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        """As `nn.Linear`."""
        super().__init__(inputs, outputs)
        self.missing = max(STEADY_WIDTH - outputs, 0)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # named so by torch
        """[..,inputs] -> [..,outputs]."""
        weight = nn.functional.pad(self.weight, [0, 0, 0, self.missing])
        bias = nn.functional.pad(self.bias, [0, self.missing])
        wide = nn.functional.linear(input, weight, bias)
        return wide[..., : self.out_features]


def silent(layer: SteadyLinear) -> SteadyLinear:
    """The layer with zero weights: a head that says nothing yet."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Network(nn.Module):
    """Base of all architectures. Subclasses give `scan` and `raw_logits`."""

    hidden_size: int
    recurrent: bool
    targets: int
    limit: float

    profile_mean: Tensor
    profile_scale: Tensor
    num_mean: Tensor
    num_scale: Tensor
    calibration_slope: Tensor
    calibration_shift: Tensor

    def __init__(self, spec: NetworkSpec, hidden_size: int) -> None:
        """Register the buffers: identity standardisation, identity calibration."""
        super().__init__()
        self.hidden_size = hidden_size
        self.recurrent = True
        self.targets = len(spec.targets)
        self.limit = STANDARD_LIMIT
        profile, nums = len(spec.profile_features), len(spec.num_features)
        self.register_buffer("profile_mean", torch.zeros(profile))
        self.register_buffer("profile_scale", torch.ones(profile))
        self.register_buffer("num_mean", torch.zeros(nums))
        self.register_buffer("num_scale", torch.ones(nums))
        self.register_buffer("calibration_slope", torch.ones(self.targets))
        self.register_buffer("calibration_shift", torch.zeros(self.targets))

    def set_standardisation(
        self, profile_mean: Tensor, profile_scale: Tensor, num_mean: Tensor, num_scale: Tensor
    ) -> None:
        """Set means and standard deviations ([P], [P], [F], [F]) measured on training data."""
        self.profile_mean.copy_(profile_mean)
        self.profile_scale.copy_(profile_scale.clamp(min=SCALE_FLOOR))
        self.num_mean.copy_(num_mean)
        self.num_scale.copy_(num_scale.clamp(min=SCALE_FLOOR))

    def observe(self, ids_NC: Tensor) -> None:
        """Take note of the events [N,C] of a training set, so that what is new can be told."""
        del ids_NC

    def set_calibration(self, slope: Tensor, shift: Tensor) -> None:
        """Set the Platt calibration, [K] each: logit = slope * raw + shift."""
        self.calibration_slope.copy_(slope)
        self.calibration_shift.copy_(shift)

    def standard_profile(self, profile_BP: Tensor) -> Tensor:
        """Standardise the profile, bounded so that a year of silence cannot explode."""
        scaled = (profile_BP - self.profile_mean) / self.profile_scale
        return scaled.clamp(-self.limit, self.limit)

    def standard_nums(self, nums_BMF: Tensor) -> Tensor:
        """Standardise the numeric event features, bounded likewise."""
        scaled = (nums_BMF - self.num_mean) / self.num_scale
        return scaled.clamp(-self.limit, self.limit)

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Uncalibrated logits [B,K]; `profile_BP` is not standardised yet."""
        raise NotImplementedError

    @torch.jit.export
    def initial(self, batch: int) -> Tensor:
        """Hidden state [B,H] of users without any event."""
        return torch.zeros(batch, self.hidden_size, device=self.calibration_slope.device)

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """Every state [B,M,H] of M right-padded events in a row.

        Where a row is shorter than M its last state is repeated; a row of length 0 repeats the
        state that it came with, so the last column always is the row's final state. Where
        `recurrent` is False the events are a sequence from nothing, whatever `hidden_BH` holds.
        """
        raise NotImplementedError

    @torch.jit.export
    def step(self, hidden_BH: Tensor, ids_BC: Tensor, nums_BF: Tensor) -> Tensor:
        """The state [B,H] after one more event per row."""
        ones = torch.ones(hidden_BH.size(0), dtype=torch.int64, device=hidden_BH.device)
        return self.scan(hidden_BH, ids_BC.unsqueeze(1), nums_BF.unsqueeze(1), ones)[:, 0]

    @torch.jit.export
    def encode(self, ids_BLC: Tensor, nums_BLF: Tensor, length_B: Tensor) -> Tensor:
        """The state [B,H] of right-padded sequences, from nothing."""
        hidden_BH = self.initial(ids_BLC.size(0))
        if ids_BLC.size(1) == 0:
            return hidden_BH
        return self.scan(hidden_BH, ids_BLC, nums_BLF, length_B)[:, -1]

    @torch.jit.export
    def heads(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Calibrated logits [B,K]; `sigmoid` gives probabilities."""
        raw = self.raw_logits(hidden_BH, profile_BP)
        return raw * self.calibration_slope + self.calibration_shift


class StatelessNetwork(Network):
    """An architecture that reads the profile only: its hidden state has width 0."""

    def __init__(self, spec: NetworkSpec) -> None:
        """Register the buffers; no hidden state."""
        super().__init__(spec, hidden_size=0)

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """States [B,M,0]."""
        del nums_BMF, length_B
        return hidden_BH.unsqueeze(1).expand(-1, ids_BMC.size(1), -1)
