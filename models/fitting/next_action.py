"""An auxiliary loss during the fit: at each event the next one is predicted.

Labels of targets are rare, or say little about the order of events; the next action is known at
each event but the last. The states learn for both at once (multi-task learning: Caruana, Machine
Learning 28, 1997). Asked are the type and whether the category stays the same: which category of
hundreds it is drowned what the targets taught, where that was measured. The head
is discarded; the network that is published has none.

Next events are read within each window, up to its last training example: no event after that time
has a say.

Shape suffixes: B windows, L events of a window, q points, C, F, H: see `models/networks/base.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fitting.config import FitConfig
from models.fitting.distributed import PointLogits
from models.networks.base import Network
from models.networks.embeddings import TYPE_ROWS
from models.networks.sequence import SequenceNetwork


def followed(ids_BLC: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The n events that another follows within the first `length_B` of their windows.

    Returns:
        (which they are [B,L-1]; their ids [n,C]; the ids of the events that follow them [n,C])
    """
    place = torch.arange(ids_BLC.size(1) - 1, device=length_B.device)
    asked_BL = place.unsqueeze(0) < (length_B - 1).unsqueeze(1)
    return asked_BL, ids_BLC[:, :-1][asked_BL], ids_BLC[:, 1:][asked_BL]


class NextAction(nn.Module):
    """States -> the cross-entropy of each next event's type, and of whether its category stays."""

    def __init__(self, network: SequenceNetwork) -> None:
        """Draw the head from torch's generator."""
        super().__init__()
        self.type_column = network.embedding.type_column
        self.category_column = network.embedding.category_column
        width = network.read(network.initial(1)).size(1)
        self.head = nn.Linear(width, TYPE_ROWS + 2)

    def forward(
        self, network: SequenceNetwork, states_BLH: Tensor, ids_BLC: Tensor, length_B: Tensor
    ) -> Tensor:
        """Sum over the events that another follows within the first `length_B` of a window."""
        asked, now, following = followed(ids_BLC, length_B)
        logits = self.head(network.read(states_BLH[:, :-1][asked])).float()
        types, stays = logits.split((TYPE_ROWS, 2), dim=1)
        type_n = following[:, self.type_column].clamp(0, TYPE_ROWS - 1)
        stays_n = (following[:, self.category_column] == now[:, self.category_column]).long()
        of_types = nn.functional.cross_entropy(types, type_n, reduction="sum")
        return of_types + nn.functional.cross_entropy(stays, stays_n, reduction="sum")


class JointLogits(PointLogits):
    """As `PointLogits`, with the loss of the next action from the same states."""

    def __init__(self, network: Network, auxiliary: NextAction | None) -> None:
        """Wrap both; their parameters are this module's."""
        super().__init__(network)
        self.auxiliary = auxiliary

    def forward(  # type: ignore[override]  # a pair
        self, ids: Tensor, nums: Tensor, length: Tensor, row: Tensor, position: Tensor, at: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits [q,K] and the sum of `NextAction`, 0 without it."""
        states = self.network.scan(self.network.initial(len(length)), ids, nums, length)
        logits = self.network.heads(states[row, position], at)
        if self.auxiliary is None or not isinstance(self.network, SequenceNetwork):
            return logits, logits.new_zeros(())
        return logits, self.auxiliary(self.network, states, ids, length)


def next_action(network: Network, config: FitConfig, device: torch.device) -> NextAction | None:
    """The head of the next action, drawn from the seed; None where it is not wanted."""
    if not config.next_action_weight or not isinstance(network, SequenceNetwork):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return NextAction(network).to(device)
