"""Pre-training by masked events: what happened is hidden at some events and to be recovered.

Of a share of the events type, item, category and amount are hidden; when they happened is not, so
that intervals stay true. BERT4Rec (Sun et al., CIKM 2019) recovers masked events from both sides,
by attention in both directions. The networks here are causal, because a worker carries their state
on event by event: no state knows of what follows it. So the head reads two states, the one before
the masked event and the last one of the window, and how far from the end the event was: what
precedes it is in the first, and the second has to remember what came after it, and the window as a
whole. Both states have seen the masked event as a mask only.

Shape suffixes: B windows, L events of a window, m masked events, C, F, H: see
`models/networks/base.py`.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from models.errors import TrainingError
from models.fitting.batches import Batch
from models.inputs.features import NUM_FEATURES
from models.networks.embeddings import PRICE_BANDS, TYPE_ROWS, bucket
from models.networks.sequence import SequenceNetwork

PLACES: Final = 64
"""Distances from the end of a window that have rows of their own; larger ones count as the last."""
PLACE_WIDTH: Final = 16
ITEM_CLASSES: Final = 256
"""Classes of items, by hash."""


class MaskedEvent(nn.Module):
    """Windows -> the cross-entropy of what is masked in them."""

    def __init__(self, network: SequenceNetwork, share: float) -> None:
        """Draw the head from torch's generator.

        Args:
            network: whose states are read.
            share: of the events, which are masked at random.

        Raises:
            TrainingError: the share is not between 0 and 1.
        """
        super().__init__()
        if not 0 < share < 1:
            raise TrainingError(
                f"the share of masked events is {share}; set train.pretrain_mask between 0 and 1"
            )
        self.share = share
        self.item_column = network.embedding.item_column
        self.type_column = network.embedding.type_column
        self.category_column = network.embedding.category_column
        self.amount_column = NUM_FEATURES.index("log_amount")
        self.buckets = network.embedding.category_buckets
        self.sizes = (TYPE_ROWS, self.buckets, ITEM_CLASSES, PRICE_BANDS)
        width = network.read(network.initial(1)).size(1)
        self.places = nn.Embedding(PLACES, PLACE_WIDTH)
        self.mix = nn.Sequential(nn.Linear(2 * width + PLACE_WIDTH, 2 * width), nn.ReLU())
        self.heads = nn.Linear(2 * width, sum(self.sizes))

    def forward(self, network: SequenceNetwork, batch: Batch) -> Tensor:
        """Mean over the masked events, summed over type, category, item class and price band.

        Events are drawn from torch's generator as it stands; padding is never among them. Where
        none is drawn the loss is 0.
        """
        ids_BLC, nums_BLF, length_B = batch.ids, batch.nums, batch.length
        place_L = torch.arange(ids_BLC.size(1), device=length_B.device)
        within_BL = place_L < length_B.unsqueeze(1)
        # Drawn on the CPU: every device masks the same events.
        drawn_BL = torch.rand(within_BL.shape).to(within_BL.device) < self.share
        row_m, place_m = (within_BL & drawn_BL).nonzero(as_tuple=True)
        ids, nums = ids_BLC.clone(), nums_BLF.clone()
        ids[row_m, place_m] = 0
        nums[row_m, place_m, self.amount_column] = 0
        begin_BH = network.initial(len(length_B))
        states_BLH = network.scan(begin_BH, ids, nums, length_B)
        earlier_BLH = torch.cat([begin_BH.unsqueeze(1), states_BLH[:, :-1]], dim=1)
        from_end = (length_B[row_m] - 1 - place_m).clamp(max=PLACES - 1)
        known = [
            network.read(earlier_BLH[row_m, place_m]),
            network.read(states_BLH[row_m, -1]),
            self.places(from_end),
        ]
        logits = self.heads(self.mix(torch.cat(known, dim=1)))
        hidden = ids_BLC[row_m, place_m]
        answers = (
            hidden[:, self.type_column].clamp(0, TYPE_ROWS - 1),
            bucket(hidden[:, self.category_column], self.buckets),
            bucket(hidden[:, self.item_column], ITEM_CLASSES),
            nums_BLF[row_m, place_m, self.amount_column].long().clamp(0, PRICE_BANDS - 1),
        )
        losses = [
            nn.functional.cross_entropy(part, answer, reduction="sum")
            for part, answer in zip(logits.split(self.sizes, dim=1), answers, strict=True)
        ]
        return torch.stack(losses).sum() / max(len(row_m), 1)
