"""GRU over the event sequence, heads over its state and the profile."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.base import Network, NetworkSpec


@dataclass(frozen=True)
class GruConfig:
    """Widths of the GRU network."""

    hidden_size: int = 64
    """Width of the recurrent state; the user record must have room for it."""
    type_width: int = 8
    """Width of the event-type embedding."""
    item_buckets: int = 4096
    """Rows of the item embedding; unknown and new items share them by hash."""
    item_width: int = 8
    """Width of the item embedding."""
    category_buckets: int = 512
    """Rows of the category embedding."""
    category_width: int = 8
    """Width of the category embedding."""
    input_width: int = 48
    """Width of the layer between embeddings and the recurrence."""
    head_width: int = 48
    """Width of the hidden layer of the heads."""
    dropout: float = 0.3
    """Share of activations dropped while training, before the recurrence and in the heads."""


TYPE_ROWS = 16


class Gru(Network):
    """Embeddings and numbers of each event -> GRU; [state, profile] -> heads.

    The profile also has a direct linear path to the logits, so the network contains the logistic
    baseline and starts from it.
    """

    def __init__(self, spec: NetworkSpec, config: GruConfig | None = None) -> None:
        """Build the layers for the inputs and targets of `spec`."""
        config = config or GruConfig()
        super().__init__(spec, config.hidden_size)
        self.type_column = spec.int_features.index("type")
        self.item_column = spec.int_features.index("item")
        self.category_column = spec.int_features.index("category")
        self.item_buckets = config.item_buckets
        self.category_buckets = config.category_buckets
        self.types = nn.Embedding(TYPE_ROWS, config.type_width)
        self.items = nn.Embedding(config.item_buckets, config.item_width)
        self.categories = nn.Embedding(config.category_buckets, config.category_width)
        for table in (self.types, self.items, self.categories):
            nn.init.normal_(table.weight, std=0.1)
        width = config.type_width + config.item_width + config.category_width
        profile = len(spec.profile_features)
        self.enter = nn.Sequential(
            nn.Linear(width + len(spec.num_features), config.input_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.gru = nn.GRU(config.input_width, config.hidden_size, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(config.hidden_size + profile, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            last := nn.Linear(config.head_width, self.targets),
        )
        self.direct = nn.Linear(profile, self.targets)
        for layer in (last, self.direct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def bucket(self, code: Tensor, buckets: int) -> Tensor:
        """Row of a hash code: 0 stands for none, everything else shares the others."""
        return torch.where(code == 0, code, 1 + code.remainder(buckets - 1))

    def inputs(self, ids_BMC: Tensor, nums_BMF: Tensor) -> Tensor:
        """Inputs of the recurrence, [B,M,input_width]."""
        types = self.types(ids_BMC[:, :, self.type_column].clamp(0, 15))
        items = self.items(self.bucket(ids_BMC[:, :, self.item_column], self.item_buckets))
        categories = self.categories(
            self.bucket(ids_BMC[:, :, self.category_column], self.category_buckets)
        )
        entered: Tensor = self.enter(
            torch.cat([types, items, categories, self.standard_nums(nums_BMF)], dim=2)
        )
        return entered

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """Every state [B,M,H]; see `Network.scan`."""
        states, _ = self.gru(self.inputs(ids_BMC, nums_BMF), hidden_BH.unsqueeze(0).contiguous())
        rank = torch.arange(ids_BMC.size(1), device=length_B.device).unsqueeze(0)
        last = torch.minimum(rank, (length_B - 1).clamp(min=0).unsqueeze(1))
        states = states.gather(1, last.unsqueeze(2).expand(-1, -1, self.hidden_size))
        return torch.where((length_B == 0).view(-1, 1, 1), hidden_BH.unsqueeze(1), states)

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Uncalibrated logits [B,K]."""
        profile = self.standard_profile(profile_BP)
        logits: Tensor = self.direct(profile) + self.head(torch.cat([hidden_BH, profile], dim=1))
        return logits
