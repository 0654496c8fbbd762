"""Every architecture keeps the contract, and the checks can tell one that does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.checks.architecture import CHECKS, Check, ContractBroken, Subject, check_network
from models.networks import ARCHITECTURES, build
from models.networks.gru import Gru
from models.networks.logistic import Logistic
from models.networks.lstm import Lstm

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(architecture: str, check: Check) -> None:
    check(Subject(lambda spec: build(architecture, spec)))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("width", [1, 6, 16])
def test_the_state_fits_the_width_that_was_asked_for(architecture: str, width: int) -> None:
    subject = Subject(lambda spec: build(architecture, spec, width))
    x = subject.inputs(batch=4, length=5)
    network = subject.network()
    assert network.hidden_size <= max(width, 4)
    assert torch.isfinite(network.encode(x.ids, x.nums, x.length)).all()


class Forgetful(Gru):
    """Steps from nothing whatever it is given."""

    def step(self, hidden_BH: Tensor, ids_BC: Tensor, nums_BF: Tensor) -> Tensor:
        ones = torch.ones(hidden_BH.size(0), dtype=torch.int64)
        start = self.initial(hidden_BH.size(0))
        return self.scan(start, ids_BC.unsqueeze(1), nums_BF.unsqueeze(1), ones)[:, 0]


class Clairvoyant(Lstm):
    """Sees the events that come later."""

    def standard_nums(self, nums_BMF: Tensor) -> Tensor:
        return nums_BMF + nums_BMF.sum(1, keepdim=True)


class Unbounded(Logistic):
    """Breaks down at extremes."""

    def raw_logits(self, hidden_BH: Tensor, profile_BP: Tensor) -> Tensor:
        return super().raw_logits(hidden_BH, profile_BP) / profile_BP[:, :1].clamp(max=0)


class Stuck(Logistic):
    """Has a weight that nothing depends on."""

    def __init__(self, spec: object) -> None:
        super().__init__(spec)  # type: ignore[arg-type]
        self.idle = torch.nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Forgetful, "step_equals_encode: step and encode of 2 events: they differ"),
        (Clairvoyant, "any_cut_gives_the_same_bits: scan in four parts and encode"),
        (Unbounded, "empty_history: heads of nothing: numbers that are not finite"),
        (Stuck, "gradients_reach_every_parameter: no gradient reaches parameter idle"),
    ],
)
def test_what_breaks_the_contract_is_told(make: type, told: str) -> None:
    with pytest.raises(ContractBroken, match=told):
        check_network(make)


def test_a_contributed_network_passes_all() -> None:
    check_network(Logistic)
