"""What the architectures over event sequences share: the way in and the heads.

Events become vectors (`embeddings`), a layer mixes them with the numbers, and an architecture makes
states of them. The heads read [state, profile]; the profile and what a purchase process makes of it
(`process`) also have a direct linear path to the logits, so that each of these networks contains
`blend`, and the logistic baseline with it, and can start from there.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.networks.base import Network, NetworkSpec, SteadyLinear, silent
from models.networks.blend import PROCESS_SCALE, Blend
from models.networks.embeddings import EmbeddingConfig, EventEmbedding
from models.networks.process import PurchaseProcess
from models.networks.rhythm import RhythmConfig


@dataclass(frozen=True)
class SequenceConfig:
    """Widths that the architectures share."""

    hidden_size: int = 64
    """Width of the state, at most; the user record must have room for it."""
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    """Tables of types, items and categories."""
    input_width: int = 48
    """Width of the layer between embeddings and states."""
    head_width: int = 48
    """Width of the hidden layer of the heads."""
    dropout: float = 0.3
    """Share of activations dropped while training, before the states and in the heads."""


class SequenceNetwork(Network):
    """Embeddings and numbers of each event -> states; [state, profile] -> heads."""

    def __init__(
        self, spec: NetworkSpec, config: SequenceConfig, hidden_size: int, read_size: int
    ) -> None:
        """Build the shared layers.

        Args:
            spec: inputs and targets.
            config: widths.
            hidden_size: width of the state as it is kept.
            read_size: width of what the heads read of it, see `read`.
        """
        super().__init__(spec, hidden_size)
        self.embedding = EventEmbedding(spec, config.embedding)
        self.enter = nn.Sequential(
            nn.Linear(config.embedding.width + len(spec.num_features), config.input_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        profile = len(spec.profile_features)
        self.head = nn.Sequential(
            nn.Linear(read_size + profile, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            silent(SteadyLinear(config.head_width, self.targets)),
        )
        self.process = PurchaseProcess(spec, RhythmConfig().parameters)
        self.process_scale = PROCESS_SCALE
        self.direct = silent(SteadyLinear(profile + self.targets, self.targets))

    def observe(self, ids_NC: Tensor) -> None:
        """See `Network.observe`."""
        self.embedding.observe(ids_NC)

    def start_from(self, blend: Blend) -> None:
        """Predict what a fitted `blend` does; the states are left to learn what is missing."""
        self.process.load_state_dict(blend.process.state_dict())
        self.direct.load_state_dict(blend.linear.state_dict())

    def inputs(self, ids_BMC: Tensor, nums_BMF: Tensor) -> Tensor:
        """Inputs of the states, [B,M,input_width]."""
        vectors = self.embedding(ids_BMC, nums_BMF)
        entered: Tensor = self.enter(torch.cat([vectors, self.standard_nums(nums_BMF)], dim=2))
        return entered

    def hold(self, hidden_BH: Tensor, states_BMH: Tensor, length_B: Tensor) -> Tensor:
        """States [B,M,H] with a row's last one repeated where the row has ended."""
        rank = torch.arange(states_BMH.size(1), device=length_B.device).unsqueeze(0)
        last = torch.minimum(rank, (length_B - 1).clamp(min=0).unsqueeze(1))
        held = states_BMH.gather(1, last.unsqueeze(2).expand(-1, -1, states_BMH.size(2)))
        return torch.where((length_B == 0).view(-1, 1, 1), hidden_BH.unsqueeze(1), held)

    def read(self, hidden_BH: Tensor) -> Tensor:
        """What the heads read of the state; all of it, unless an architecture says otherwise."""
        return hidden_BH

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        """Uncalibrated logits [B,K]."""
        profile = self.standard_profile(profile_BP)
        seen = torch.cat([self.read(hidden_BH), profile], dim=1)
        told = self.process(profile_BP) * self.process_scale
        logits: Tensor = self.direct(torch.cat([profile, told], dim=1)) + self.head(seen)
        return logits
