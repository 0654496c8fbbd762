"""What the architectures over event sequences share: the way in and the heads.

Events become vectors (`embeddings`) beside their numbers, and an architecture makes states of them.
The logits are a sum: of the profile and what a purchase process makes of it (`process`), so that
each of these networks contains `blend`, and the logistic baseline with it, and can start from
there; of the state alone, by one linear layer, through which gradients reach the states from the
first step on; and of both together, by a hidden layer.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.networks import HIDDEN_SIZE
from models.networks.base import Network, NetworkSpec, SteadyLinear, silent
from models.networks.blend import PROCESS_SCALE, Blend
from models.networks.embeddings import EmbeddingConfig, EventEmbedding
from models.networks.process import PurchaseProcess
from models.networks.rhythm import RhythmConfig

CLOCK = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
"""Numbers of an event that tell no two moments of one session apart."""
MINUTES = 60.0
FINE_SHIFT = 1.0
FINE_LIMIT = 4.0
"""Bounds of log(1 + minutes): an hour, which is longer than pauses within a session are."""
FINE_FEATURES = 3
"""Numbers that `SequenceNetwork.fine` makes of an event."""


@dataclass(frozen=True)
class SequenceConfig:
    """Widths that the architectures share."""

    hidden_size: int = HIDDEN_SIZE
    """Width of the state, at most; the user record must have room for it."""
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    """Tables of types, items and categories."""
    input_width: int = 0
    """Width of a layer between events and states; 0: there is none."""
    head_width: int = 48
    """Width of the hidden layer of the heads."""
    dropout: float = 0.3
    """Share of activations dropped while training, in the layer before the states and in the hidden
    layer of the heads."""
    clock_dropout: float = 0.5
    """Likewise of the numbers that tell hour and weekday."""


class SequenceNetwork(Network):
    """Embeddings and numbers of each event -> states; [state, profile] -> heads."""

    clock: Tensor

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
        width = config.embedding.width + len(spec.num_features) + FINE_FEATURES
        self.enter = nn.Sequential()
        if config.input_width:
            self.enter.append(nn.Linear(width, config.input_width))
            self.enter.append(nn.ReLU())
            self.enter.append(nn.Dropout(config.dropout))
        self.input_width = config.input_width or width
        """Width of what the states read of an event."""
        self.gap = spec.num_features.index("log_gap_hours")
        self.age = spec.num_features.index("log_session_age_hours")
        self.minutes, self.shift, self.most = MINUTES, FINE_SHIFT, FINE_LIMIT
        self.drop_clock = nn.Dropout(config.clock_dropout)
        clock = torch.tensor([name in CLOCK for name in spec.num_features])
        self.register_buffer("clock", clock)
        profile = len(spec.profile_features)
        self.head = nn.Sequential(
            nn.Linear(read_size + profile, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            silent(SteadyLinear(config.head_width, self.targets)),
        )
        self.said = silent(SteadyLinear(read_size, self.targets))
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

    def fine(self, nums_BMF: Tensor) -> Tensor:
        """Time as it counts within a session [B,M,FINE_FEATURES]; hours are too coarse for that.

        log(1 + minutes) since the event before it in the session, and since the session began, and
        whether it begins one.
        """
        gap, age = nums_BMF[:, :, self.gap].clamp(min=0), nums_BMF[:, :, self.age].clamp(min=0)
        begins = (age == 0).to(nums_BMF.dtype)
        gap = torch.log1p(torch.expm1(gap) * self.minutes).clamp(max=self.most) * (1 - begins)
        age = torch.log1p(torch.expm1(age) * self.minutes) / 2
        return torch.stack([gap - self.shift, age - self.shift, begins], dim=2)

    def inputs(self, ids_BMC: Tensor, nums_BMF: Tensor) -> Tensor:
        """Inputs of the states, [B,M,input_width]."""
        vectors = self.embedding(ids_BMC, nums_BMF)
        nums = self.standard_nums(nums_BMF)
        nums = torch.where(self.clock, self.drop_clock(nums), nums)
        told = torch.cat([vectors, nums, self.fine(nums_BMF)], dim=2)
        entered: Tensor = self.enter(told)
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
        state = self.read(hidden_BH)
        told = self.process(profile_BP) * self.process_scale
        logits: Tensor = self.direct(torch.cat([profile, told], dim=1)) + self.said(state)
        both: Tensor = self.head(torch.cat([state, profile], dim=1))
        return logits + both
