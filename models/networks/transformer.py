"""Causal self-attention over the last events, aware of the time between them.

Kang and McAuley, "Self-Attentive Sequential Recommendation" (ICDM 2018); Li, Wang and McAuley,
"Time Interval Aware Self-Attention for Sequential Recommendation" (WSDM 2020). Here the interval
and the distance of two events enter as learnt biases of their attention, per head.

It has no recurrence (`recurrent` is False): the state of a user after an event is a function of the
events in the ring, made by `encode`, and kept only so that silence can be scored without them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.base import NetworkSpec
from models.networks.sequence import SequenceConfig, SequenceNetwork

INTERVAL_BANDS = 20
BANDS_PER_UNIT = 2.0
"""Bands of log(1 + hours): half a unit each, the last from two years on."""
DISTANCES = 64
"""Distances in events that are told apart; all longer ones count as this."""
MASKED = -1e4
"""Score of an event that must not be seen; finite in half precision too."""


@dataclass(frozen=True)
class TransformerConfig(SequenceConfig):
    """Widths of the network."""

    input_width: int = 48
    """Width of the layer between events and states."""
    layers: int = 2
    """Blocks of attention above each other."""
    heads: int = 2
    """Heads per block; they divide the width of the state."""


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a normalisation and around a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Biases of interval and distance start at nothing."""
        super().__init__()
        self.heads = heads
        self.masked = MASKED
        self.scale = 1 / math.sqrt(width // heads)
        self.before = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.answer = nn.Linear(width, width)
        self.interval = nn.Embedding(INTERVAL_BANDS, heads)
        self.distance = nn.Embedding(DISTANCES, heads)
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.drop = nn.Dropout(dropout)
        for table in (self.interval, self.distance):
            nn.init.zeros_(table.weight)

    def forward(self, x: Tensor, band: Tensor, distance: Tensor, future: Tensor) -> Tensor:
        """[B,M,W] -> [B,M,W].

        Args:
            x: events.
            band: [B,M,M] of the interval between two events.
            distance: [M,M] between them, in events.
            future: [M,M] True where the second event is later than the first.
        """
        share, value = self.weights(x, band, distance, future)
        seen = torch.matmul(share, value).transpose(1, 2).flatten(2)
        x = x + self.drop(self.answer(seen))
        out: Tensor = x + self.drop(self.feed(x))
        return out

    def weights(
        self, x: Tensor, band: Tensor, distance: Tensor, future: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How much each event looks at each, [B,heads,M,M], and what it sees; as `forward`."""
        batch, length, width = x.size(0), x.size(1), x.size(2)
        asked = self.ask(self.before(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.matmul(query, key.transpose(2, 3)) * self.scale
        scores = scores + self.interval(band).permute(0, 3, 1, 2)
        scores = scores + self.distance(distance).permute(2, 0, 1)
        share = torch.softmax(scores.masked_fill(future, self.masked), dim=3)
        return share, value


class Transformer(SequenceNetwork):
    """Blocks of causal attention; the state of an event is its vector after the last block."""

    def __init__(self, spec: NetworkSpec, config: TransformerConfig | None = None) -> None:
        """Build the layers for the inputs and targets of `spec`."""
        config = config or TransformerConfig()
        width = max(config.hidden_size // config.heads, 1) * config.heads
        super().__init__(spec, config, width, width)
        self.recurrent = False
        self.gap_column = spec.num_features.index("log_gap_hours")
        self.bands = INTERVAL_BANDS
        self.per_unit = BANDS_PER_UNIT
        self.distances = DISTANCES
        self.widen = nn.Linear(config.input_width, width)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.after = nn.LayerNorm(width)

    def interval_bands(self, nums_BMF: Tensor) -> Tensor:
        """[B,M,M] band of the time between two events, from the gaps along the sequence."""
        hours = torch.expm1(nums_BMF[:, :, self.gap_column].float())
        # The first gap reaches back before the window: intervals within it do not need it.
        since = torch.cumsum(hours, dim=1)
        interval = (since.unsqueeze(2) - since.unsqueeze(1)).clamp(min=0)
        return (torch.log1p(interval) * self.per_unit).long().clamp(max=self.bands - 1)

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """States [B,M,H] of sequences from nothing; `hidden_BH` stands for empty ones only."""
        x = self.widen(self.inputs(ids_BMC, nums_BMF))
        place = torch.arange(ids_BMC.size(1), device=ids_BMC.device)
        behind = place.unsqueeze(1) - place.unsqueeze(0)
        distance = behind.clamp(0, self.distances - 1)
        band = self.interval_bands(nums_BMF)
        for block in self.blocks:
            x = block(x, band, distance, behind < 0)
        return self.hold(hidden_BH, self.after(x), length_B)
