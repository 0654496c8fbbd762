"""Linear recurrent units: diagonal complex recurrences, trained in parallel, served step by step.

Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences" (ICML 2023); for
recommendation: Yue et al., "Linear Recurrent Units for Sequential Recommendation" (WSDM 2024).

    x_t = lambda * x_(t-1) + gamma * B u_t,   lambda = exp(-exp(nu) + i * exp(theta))
    y_t = Re(C x_t),                          gamma = sqrt(1 - |lambda|^2)

The state keeps the real and the imaginary parts of all layers side by side, real numbers only.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.base import NetworkSpec, SteadyLinear
from models.networks.sequence import SequenceConfig, SequenceNetwork

RADIUS_MIN = 0.8
RADIUS_MAX = 0.99
PHASE_MAX = math.pi / 10
"""Eigenvalues start in this ring and sector: memories of some 5 to 100 events that turn slowly."""


@dataclass(frozen=True)
class LruConfig(SequenceConfig):
    """Widths of the network."""

    input_width: int = 48
    """Width of the layer between events and states."""
    layers: int = 2
    """Recurrences above each other; each has 1 / layers of the state."""


class Recurrence(nn.Module):
    """One recurrence of `size` complex numbers."""

    def __init__(self, width: int, size: int) -> None:
        """Eigenvalues in the ring, uniform over its area."""
        super().__init__()
        self.size = size
        share = torch.rand(size)
        radius = torch.sqrt(share * (RADIUS_MAX**2 - RADIUS_MIN**2) + RADIUS_MIN**2)
        self.nu = nn.Parameter(torch.log(-torch.log(radius)))
        self.theta = nn.Parameter(torch.log(PHASE_MAX * torch.rand(size) + 1e-3))
        self.before = nn.LayerNorm(width)
        self.enter = SteadyLinear(width, 2 * size)

    def eigenvalues(self) -> tuple[Tensor, Tensor, Tensor]:
        """Real part, imaginary part and the scale gamma of the input, [size] each."""
        decay = torch.exp(-torch.exp(self.nu))
        turn = torch.exp(self.theta)
        gamma = torch.sqrt((1 - decay * decay).clamp(min=1e-6))
        return decay * torch.cos(turn), decay * torch.sin(turn), gamma

    def recur(self, start: Tensor, drive: Tensor) -> Tensor:
        """States [B,M,2*size] driven by [B,M,2*size] from [B,2*size], one after the other.

        Serving uses this: its results are the same bits however a sequence is cut.
        """
        real, imaginary, gamma = self.eigenvalues()
        re, im = start[:, : self.size], start[:, self.size :]
        states: list[Tensor] = []
        for place in range(drive.size(1)):
            new_re = real * re - imaginary * im + gamma * drive[:, place, : self.size]
            im = real * im + imaginary * re + gamma * drive[:, place, self.size :]
            re = new_re
            states.append(torch.cat([re, im], dim=1))
        return torch.stack(states, dim=1)

    def recur_at_once(self, start: Tensor, drive: Tensor) -> Tensor:
        """The same by recursive doubling: log2(M) steps instead of M. Training uses this."""
        real, imaginary, gamma = self.eigenvalues()
        re = torch.cat([start[:, None, : self.size], gamma * drive[:, :, : self.size]], dim=1)
        im = torch.cat([start[:, None, self.size :], gamma * drive[:, :, self.size :]], dim=1)
        reach = 1
        while reach < re.size(1):
            # After this, entry t holds the sum over its last 2 * reach inputs.
            early_re, early_im = re[:, :-reach], im[:, :-reach]
            more_re = real * early_re - imaginary * early_im
            more_im = real * early_im + imaginary * early_re
            re = torch.cat([re[:, :reach], re[:, reach:] + more_re], dim=1)
            im = torch.cat([im[:, :reach], im[:, reach:] + more_im], dim=1)
            real, imaginary = real * real - imaginary * imaginary, 2 * real * imaginary
            reach *= 2
        return torch.cat([re, im], dim=2)[:, 1:]

    def forward(self, start: Tensor, entered: Tensor) -> Tensor:
        """States [B,M,2*size] from [B,2*size] and inputs [B,M,width]."""
        drive = self.enter(self.before(entered))
        return self.recur_at_once(start, drive) if self.training else self.recur(start, drive)


class Mixing(nn.Module):
    """What one recurrence hands to the next: its input, and gated what its states say."""

    def __init__(self, width: int, size: int, dropout: float) -> None:
        """`size` complex numbers in, `width` real ones out."""
        super().__init__()
        self.leave = nn.Linear(2 * size, width)
        self.gate = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, entered: Tensor, states: Tensor) -> Tensor:
        """[B,M,width]."""
        said = self.leave(states) * torch.sigmoid(self.gate(entered))
        out: Tensor = entered + self.drop(said)
        return out


class Lru(SequenceNetwork):
    """Linear recurrent units above each other; the state is that of all layers."""

    def __init__(self, spec: NetworkSpec, config: LruConfig | None = None) -> None:
        """Build the layers for the inputs and targets of `spec`."""
        config = config or LruConfig()
        size = max(config.hidden_size // (2 * config.layers), 1)
        hidden_size = 2 * size * config.layers
        super().__init__(spec, config, hidden_size, hidden_size)
        self.part = 2 * size
        width = config.input_width
        self.first = Recurrence(width, size)
        self.mixings = nn.ModuleList(
            Mixing(width, size, config.dropout) for _ in range(config.layers - 1)
        )
        self.others = nn.ModuleList(Recurrence(width, size) for _ in range(config.layers - 1))

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """Every state [B,M,H]; see `Network.scan`."""
        entered = self.inputs(ids_BMC, nums_BMF)
        made = self.first(hidden_BH[:, : self.part], entered)
        states = [made]
        for mixing, recurrence in zip(self.mixings, self.others):  # noqa: B905  # TorchScript
            entered = mixing(entered, made)
            done = len(states) * self.part
            made = recurrence(hidden_BH[:, done : done + self.part], entered)
            states.append(made)
        return self.hold(hidden_BH, torch.cat(states, dim=2), length_B)
