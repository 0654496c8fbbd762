"""Heads keep their contract on every architecture, and the checks can tell one that does not.

TorchScript reads annotations as objects, so this module does without postponed ones.
"""

import pytest
import torch
from torch import Tensor

from models.checks.comparing import ContractBroken
from models.checks.ranking import HEAD_CHECKS, HeadCheck, HeadSubject, check_head
from models.networks import ARCHITECTURES, build
from models.networks.next_head import NextHead


@pytest.mark.slow
@pytest.mark.parametrize("what", ["category", "item"])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("check", HEAD_CHECKS, ids=lambda check: check.__name__)
def test_contract(architecture: str, what: str, check: HeadCheck) -> None:
    check(HeadSubject(lambda spec: build(architecture, spec), what))


class Boastful(NextHead):
    """Tells more than there can be."""

    def tell(
        self, hidden_BH: Tensor, ids_BRC: Tensor, nums_BRF: Tensor, length_B: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        places, told = super().tell(hidden_BH, ids_BRC, nums_BRF, length_B, k)
        return places, told * 0 + 0.9


class Sociable(NextHead):
    """Looks at its company."""

    @torch.jit.export
    def tell(
        self, hidden_BH: Tensor, ids_BRC: Tensor, nums_BRF: Tensor, length_B: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        copied, new, _ = self.parts(hidden_BH, ids_BRC, nums_BRF, length_B)
        places = self.places(ids_BRC[:, :, self.column])
        told = new.exp().scatter_add(1, places, copied.exp())
        told = told * 0.9 + told.mean(0, keepdim=True) * 0.1
        best, place = told[:, : self.size].topk(k, dim=1)
        return place, best


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Boastful, "no_history: probabilities of nothing: below 0, or more than 1 in all"),
        (Sociable, "no_history|what_is_told_is_what_is_ranked|batch_equals_single"),
    ],
)
def test_what_breaks_the_contract_is_told(
    kind: type, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.checks.ranking.NextHead", kind)
    with pytest.raises(ContractBroken, match=told):
        check_head(lambda spec: build("gru", spec), "item")


@pytest.mark.slow
def test_company_shows_in_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.checks.ranking.NextHead", Sociable)
    (check,) = (check for check in HEAD_CHECKS if check.__name__ == "batch_equals_single")
    with pytest.raises(ContractBroken, match=r"rows 0:1 alone and in the batch"):
        check(HeadSubject(lambda spec: build("logistic", spec), "category"))


def test_the_vocabulary_is_of_hashed_names() -> None:
    subject = HeadSubject(lambda spec: build("logistic", spec), "item")
    assert len(subject.names) == len(subject.codes) > 50
    assert bool((subject.codes.diff() > 0).all())
    assert torch.equal(subject.fresh().codes, subject.codes)
