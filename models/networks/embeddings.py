"""Events -> vectors: embeddings of type, item, category and price, with room for what is new.

Item and category codes are hashes, so a table has buckets, not names: it needs no vocabulary, and a
new item has a row at once. What that row is worth depends on how often it was seen in training:

    item = w * table[bucket] + (1 - w) * (category + price band),   w = seen / (seen + FALLBACK)

so an item of a bucket that training never met is described by its category and its price alone.

Types and categories are few and each is seen often: their rows begin as far apart as standardised
numbers are, so that what an order of them means is found in few steps. Items are many and each is
seen seldom: their rows begin near each other and are dropped at random, or a fit learns them by
heart.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.base import NetworkSpec

TYPE_ROWS = 16
PRICE_BANDS = 16
"""Bands of log(1 + amount), one per unit: each is 2.7 times as dear as the one before."""
FALLBACK = 20.0
"""Sightings after which a bucket counts as much as category and price."""


@dataclass(frozen=True)
class EmbeddingConfig:
    """Widths and sizes of the tables."""

    type_width: int = 8
    """Width of the event-type embedding."""
    item_buckets: int = 4096
    """Rows of the item embedding; unknown and new items share them by hash."""
    item_width: int = 8
    """Width of the item embedding, and of the category and price that stand in for it."""
    category_buckets: int = 512
    """Rows of the category embedding."""
    category_width: int = 8
    """Width of the category embedding."""
    item_dropout: float = 0.5
    """Share of the item embedding that is dropped while training."""

    @property
    def width(self) -> int:
        """Width of an event's vector."""
        return self.type_width + self.item_width + self.category_width


def bucket(code: Tensor, buckets: int) -> Tensor:
    """Row of a hash code: 0 stands for none, everything else shares the others."""
    return torch.where(code == 0, code, 1 + code.remainder(buckets - 1))


class EventEmbedding(nn.Module):
    """[.., C] integer and [.., F] numeric features of events -> [.., width]."""

    seen: Tensor

    def __init__(self, spec: NetworkSpec, config: EmbeddingConfig) -> None:
        """Make the tables; no item has been seen yet."""
        super().__init__()
        self.type_column = spec.int_features.index("type")
        self.item_column = spec.int_features.index("item")
        self.category_column = spec.int_features.index("category")
        self.amount_column = spec.num_features.index("log_amount")
        self.type_rows = TYPE_ROWS
        self.bands = PRICE_BANDS
        self.item_buckets = config.item_buckets
        self.category_buckets = config.category_buckets
        self.types = nn.Embedding(TYPE_ROWS, config.type_width)
        self.items = nn.Embedding(config.item_buckets, config.item_width)
        self.categories = nn.Embedding(config.category_buckets, config.category_width)
        self.content = nn.Embedding(config.category_buckets, config.item_width)
        self.prices = nn.Embedding(PRICE_BANDS, config.item_width)
        for table in (self.types, self.categories):
            nn.init.normal_(table.weight)
        for table in (self.items, self.content, self.prices):
            nn.init.normal_(table.weight, std=0.1)
        self.drop_items = nn.Dropout(config.item_dropout)
        # The share of a bucket's own row; "no item" is always itself.
        self.register_buffer("seen", torch.zeros(config.item_buckets))
        self.seen[0] = 1.0

    def observe(self, ids_NC: Tensor) -> None:
        """Note how often the events [N,C] of a training set show each bucket of items."""
        rows = bucket(ids_NC[:, self.item_column], self.item_buckets)
        counts = torch.bincount(rows.cpu(), minlength=self.item_buckets).float()
        share = counts / (counts + FALLBACK)
        share[0] = 1.0
        self.seen.copy_(share)

    def forward(self, ids_BMC: Tensor, nums_BMF: Tensor) -> Tensor:
        """The events as vectors [B,M,width]; `nums_BMF` is not standardised."""
        types = self.types(ids_BMC[:, :, self.type_column].clamp(0, self.type_rows - 1))
        rows = bucket(ids_BMC[:, :, self.item_column], self.item_buckets)
        category = bucket(ids_BMC[:, :, self.category_column], self.category_buckets)
        band = nums_BMF[:, :, self.amount_column].long().clamp(0, self.bands - 1)
        share = self.seen[rows].unsqueeze(2)
        stand_in = self.content(category) + self.prices(band)
        items = share * self.items(rows) + (1 - share) * stand_in
        return torch.cat([types, self.drop_items(items), self.categories(category)], dim=2)
