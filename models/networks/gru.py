"""Gated recurrent unit (Cho et al., EMNLP 2014) over the event sequence."""

import torch
from torch import Tensor, nn

from models.networks.base import NetworkSpec
from models.networks.sequence import SequenceConfig, SequenceNetwork


class Gru(SequenceNetwork):
    """One GRU layer; the state is its hidden vector."""

    def __init__(self, spec: NetworkSpec, config: SequenceConfig | None = None) -> None:
        """Build the layers for the inputs and targets of `spec`."""
        config = config or SequenceConfig()
        super().__init__(spec, config, config.hidden_size, config.hidden_size)
        self.gru = nn.GRU(self.input_width, config.hidden_size, batch_first=True)

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """Every state [B,M,H]; see `Network.scan`."""
        states, _ = self.gru(self.inputs(ids_BMC, nums_BMF), hidden_BH.unsqueeze(0).contiguous())
        return self.hold(hidden_BH, states, length_B)

    @torch.jit.export
    def drive(self, ids_NC: Tensor, nums_NF: Tensor) -> Tensor:
        """Input part of the gates [N,3H] of N events; what `scan` adds is the recurrence."""
        entered = self.inputs(ids_NC.unsqueeze(1), nums_NF.unsqueeze(1))[:, 0]
        weight, bias = self.gru.weight_ih_l0, self.gru.bias_ih_l0
        return torch.nn.functional.linear(entered, weight, bias)  # type: ignore[arg-type]

    @torch.jit.export
    def recurrence(self) -> tuple[Tensor, Tensor]:
        """Recurrent weights [3H,H] and biases [3H]: gates r, z, n of `torch.nn.GRU`."""
        return self.gru.weight_hh_l0, self.gru.bias_hh_l0  # type: ignore[return-value]
