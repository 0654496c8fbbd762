"""The head that ranks what comes next, on small vocabularies whose answers are known."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from models.errors import ModelError
from models.networks.base import NetworkSpec
from models.networks.next_head import NextConfig, NextHead
from models.serving.artifact import open_script, script_bytes
from models.serving.scorer import network_spec
from models.targets import shop_targets

DAY = 86_400_000
SPEC: NetworkSpec = network_spec(shop_targets(6, 7 * DAY, 30 * DAY))
F = len(SPEC.num_features)
CODES = torch.tensor([3, 5, 8, 13])
COUNTS = torch.tensor([10, 40, 30, 20, 50])
UNKNOWN = 4_000_000_000
HIDDEN = 6


def head(what: str = "category", *, trained: bool = True, hidden: int = HIDDEN) -> NextHead:
    torch.manual_seed(2)
    made = NextHead(SPEC, hidden, CODES, COUNTS, NextConfig(what)).eval()
    if trained:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.normal_(0, 0.3)
    return made


def histories(*codes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Histories of these codes, as categories and items alike, a view an hour."""
    longest = max(1, *map(len, codes))
    ids = torch.zeros(len(codes), longest, 3, dtype=torch.int64)
    nums = torch.zeros(len(codes), longest, F)
    for row, history in enumerate(codes):
        for place, code in enumerate(history):
            ids[row, place] = torch.tensor([1, code, code])
            nums[row, place, SPEC.num_features.index("log_gap_hours")] = 0.7
    return ids, nums, torch.tensor([len(history) for history in codes])


MANY = histories([], [5], [UNKNOWN], [8, 8, 3, 0, 8], [13, UNKNOWN, 13, 77, 5, 5])


@pytest.mark.parametrize("what", ["category", "item"])
def test_the_probabilities_of_all_that_can_come_add_up_to_one(what: str) -> None:
    hidden = torch.randn(5, HIDDEN)
    copied, new, _ = head(what).parts(hidden, *MANY)
    total = copied.exp().sum(1) + new.exp().sum(1)
    assert total.tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_a_code_has_its_probability_in_one_place() -> None:
    made, hidden = head(), torch.zeros(1, HIDDEN)
    history = histories([8, UNKNOWN, 8, 3])
    codes, told = made.rank(hidden, *history, 5)
    assert sorted(codes[0].tolist()) == [3, 5, 8, 13, UNKNOWN]
    for code, probability in zip(codes[0], told[0], strict=True):
        found = made(hidden, *history, code.unsqueeze(0)).exp().detach()
        assert float(found) == pytest.approx(float(probability.detach()), abs=1e-6)
    assert told[0].tolist() == sorted(told[0].tolist(), reverse=True)
    assert float(told.detach().sum()) < 1  # the rest is for all codes that are neither


def test_without_events_it_starts_from_popularity() -> None:
    codes, told = head(trained=False, hidden=0).rank(torch.zeros(1, 0), *histories([]), 4)
    assert codes[0].tolist() == [5, 8, 13, 3]
    # The vectors that say what was seen last are small at first, not nothing.
    assert told[0].tolist() == pytest.approx([41 / 155, 31 / 155, 21 / 155, 11 / 155], abs=0.01)


def test_facts_stand_where_a_code_was_seen_last() -> None:
    facts, latest = head().facts(*histories([8, 3, 8, 5]))
    assert latest.tolist() == [[False, True, True, True]]
    often = 3 + 8  # behind the fading sightings and the types
    assert facts[0, :, often].expm1().tolist() == pytest.approx([0, 1, 2, 1], abs=1e-5)
    followed = often + 1
    assert not facts[0, :, followed].any()  # nothing has followed a 5 yet
    facts, _ = head().facts(*histories([8, 3, 8, 5, 8]))
    # 3 and 5 came after an 8.
    assert facts[0, :, followed].expm1().tolist() == pytest.approx([0, 1, 0, 1, 0], abs=1e-5)


def test_padding_is_not_seen() -> None:
    made, hidden = head(), torch.randn(1, HIDDEN)
    ids, nums, length = histories([8, 3, 8])
    longer = torch.cat([ids, torch.full((1, 4, 3), 5)], dim=1)
    found = made.rank(hidden, longer, torch.cat([nums, nums.new_ones(1, 4, F)], dim=1), length, 4)
    expected = made.rank(hidden, ids, nums, length, 4)
    assert found[0].tolist() == expected[0].tolist()
    assert torch.allclose(found[1], expected[1], atol=1e-6)


@pytest.mark.slow
def test_script_equals_eager_and_is_all_there_is() -> None:
    made, hidden = head("item"), torch.randn(5, HIDDEN)
    scripted = open_script(script_bytes(made), torch.device("cpu"))
    state = io.BytesIO()
    torch.save(made.state_dict(), state)
    state.seek(0)
    again = head("item", trained=False)
    again.load_state_dict(torch.load(state, weights_only=True))
    with torch.inference_mode():
        codes, told = made.rank(hidden, *MANY, 4)
        for _ in range(3):
            found = scripted.rank(hidden, *MANY, 4)
            assert torch.equal(found[0], codes)
            assert torch.allclose(found[1], told, atol=1e-6)
        assert torch.equal(again.rank(hidden, *MANY, 4)[1], told)


def test_gradients_reach_every_parameter() -> None:
    made = head("item").train()
    made(torch.randn(5, HIDDEN), *MANY, torch.tensor([5, 5, 3, 8, UNKNOWN])).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("codes", [[], [0, 4], [4, 3], [4, 4]])
def test_a_vocabulary_that_is_none_is_refused(codes: list[int]) -> None:
    with pytest.raises(ModelError, match="a vocabulary holds"):
        NextHead(SPEC, 1, torch.tensor(codes), torch.ones(len(codes) + 1))


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing ranks 'type'"):
        NextHead(SPEC, 1, CODES, COUNTS, NextConfig("type"))
