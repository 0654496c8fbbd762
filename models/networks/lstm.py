"""Long short-term memory (Hochreiter and Schmidhuber, 1997) over the event sequence."""

import torch
from torch import Tensor, nn

from models.networks.base import NetworkSpec
from models.networks.sequence import SequenceConfig, SequenceNetwork

FORGET_BIAS = 1.0
"""A new cell keeps what it knows (Jozefowicz et al., ICML 2015)."""


class Lstm(SequenceNetwork):
    """One LSTM layer; the state holds its output and its memory, half of the width each."""

    def __init__(self, spec: NetworkSpec, config: SequenceConfig | None = None) -> None:
        """Build the layers for the inputs and targets of `spec`."""
        config = config or SequenceConfig()
        units = max(config.hidden_size // 2, 1)
        super().__init__(spec, config, 2 * units, units)
        self.units = units
        self.enter_gates = nn.Linear(self.input_width, 4 * units)
        self.recurrent_gates = nn.Linear(units, 4 * units, bias=False)
        nn.init.orthogonal_(self.recurrent_gates.weight)
        with torch.no_grad():
            self.enter_gates.bias[units : 2 * units] = FORGET_BIAS

    @torch.jit.export
    def scan(
        self, hidden_BH: Tensor, ids_BMC: Tensor, nums_BMF: Tensor, length_B: Tensor
    ) -> Tensor:
        """Every state [B,M,H]; see `Network.scan`. The memory of each is needed: a loop."""
        gates_BMG = self.enter_gates(self.inputs(ids_BMC, nums_BMF))
        output, memory = hidden_BH[:, : self.units], hidden_BH[:, self.units :]
        states: list[Tensor] = []
        for place in range(ids_BMC.size(1)):
            gates = gates_BMG[:, place] + self.recurrent_gates(output)
            enter, keep, new, leave = gates.chunk(4, dim=1)
            memory = torch.sigmoid(keep) * memory + torch.sigmoid(enter) * torch.tanh(new)
            output = torch.sigmoid(leave) * torch.tanh(memory)
            states.append(torch.cat([output, memory], dim=1))
        return self.hold(hidden_BH, torch.stack(states, dim=1), length_B)

    def read(self, hidden_BH: Tensor) -> Tensor:
        """The heads read the output, not the memory."""
        return hidden_BH[:, : self.units]
