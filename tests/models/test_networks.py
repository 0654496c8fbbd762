"""What is particular to an architecture; what they have in common: test_contract.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checks.architecture import Subject
from models.errors import ModelError
from models.inputs import features
from models.networks import build
from models.networks.base import SteadyLinear, silent
from models.networks.blend import Blend
from models.networks.embeddings import EmbeddingConfig, EventEmbedding
from models.networks.lru import RADIUS_MAX, RADIUS_MIN, Recurrence
from models.networks.process import ProcessParameters
from models.networks.rhythm import Rhythm, RhythmConfig
from models.networks.transformer import Transformer, TransformerConfig
from models.serving.scorer import network_spec
from models.targets import shop_targets

DAY = 86_400_000
TARGETS = shop_targets(6, 7 * DAY, 30 * DAY)
SPEC = network_spec(TARGETS)
C, F, P = len(SPEC.int_features), len(SPEC.num_features), len(SPEC.profile_features)


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(
        ModelError,
        match=r"unknown architecture 'rnn'.*logistic, blend, gru, lstm, lru, transformer, rhythm",
    ):
        build("rnn", SPEC)


def rhythm_profile(orders: float, span_hours: float, silence_hours: float) -> Tensor:
    profile = torch.zeros(1, P)
    values = {
        "log_orders": orders,
        "log_purchase_span_hours": span_hours,
        "log_since_purchase_hours": silence_hours,
        "log_tenure_hours": span_hours + silence_hours,
    }
    for name, value in values.items():
        profile[0, SPEC.profile_features.index(name)] = float(np.log1p(value))
    return profile


def test_rhythm_is_the_published_formula() -> None:
    """The alive probability of BG/NBD, computed here by hand, for x=3, t_x=30 d, T=50 d."""
    config = RhythmConfig(expected_gap_ms=10 * DAY, rate_shape=0.5, dropout_a=0.8, dropout_b=2.4)
    network = Rhythm(SPEC, config)
    alpha, x, span, age = 5.0, 3, 30.0, 50.0
    alive = 1 / (1 + 0.8 / (2.4 + x - 1) * ((alpha + age) / (alpha + span)) ** (0.5 + x))
    week = alive * (1 - ((alpha + age) / (alpha + age + 7)) ** (0.5 + x))
    month = alive * (1 - ((alpha + age) / (alpha + age + 30)) ** (0.5 + x))
    found = torch.sigmoid(network.heads(torch.zeros(1, 0), rhythm_profile(4, 24 * span, 24 * 20)))
    assert found[0].tolist() == pytest.approx([week, 1 - month], abs=1e-5)


def test_rhythm_churn_grows_with_silence_and_faster_for_frequent_buyers() -> None:
    network = Rhythm(SPEC)

    def churn(orders: int, days: int) -> float:
        profile = rhythm_profile(orders, 24.0 * 60, 24.0 * days)
        return float(torch.sigmoid(network.heads(torch.zeros(1, 0), profile))[0, 1])

    silent = [churn(10, days) for days in (1, 10, 30, 60, 120, 365)]
    assert silent == sorted(silent)
    assert silent[0] < 0.5 < silent[-1]
    assert churn(20, 60) > churn(3, 60)


def test_a_network_starts_as_the_blend_that_it_contains() -> None:
    blend = Blend(SPEC)
    blend.process.set_parameters(ProcessParameters(0.6, 50.0, 0.7, 3.0))
    torch.nn.init.normal_(blend.linear.weight)
    network = build("lru", SPEC).eval()
    network.start_from(blend)
    x = Subject(Blend).inputs()
    hidden = network.encode(x.ids, x.nums, x.length)
    expected = blend.heads(blend.initial(len(x.ids)), x.profile)
    assert torch.equal(network.heads(hidden, x.profile), expected)


def test_features_of_the_spec_are_the_featurisers() -> None:
    assert SPEC.profile_features == features.PROFILE_FEATURES


def codes(item: int, category: int) -> Tensor:
    return torch.tensor([[[1, item, category]]])


def test_an_unseen_item_is_described_by_its_category_and_price_alone() -> None:
    torch.manual_seed(3)
    embedding = EventEmbedding(SPEC, EmbeddingConfig(item_buckets=64)).eval()
    cheap, dear = torch.zeros(1, 1, F), torch.zeros(1, 1, F)
    dear[..., SPEC.num_features.index("log_amount")] = 7.5
    seen, new = 5, 6
    embedding.observe(codes(seen, 9)[0].expand(10_000, -1))
    assert not torch.equal(embedding(codes(seen, 9), cheap), embedding(codes(new, 9), cheap))
    for other in (new + 1, new + 2):
        assert torch.equal(embedding(codes(new, 9), cheap), embedding(codes(other, 9), cheap))
    assert not torch.equal(embedding(codes(new, 9), cheap), embedding(codes(new, 8), cheap))
    assert not torch.equal(embedding(codes(new, 9), cheap), embedding(codes(new, 9), dear))
    # What was seen often is nearly itself, whatever it costs.
    near = (embedding(codes(seen, 9), cheap) - embedding(codes(seen, 9), dear)).abs().max()
    far = (embedding(codes(new, 9), cheap) - embedding(codes(new, 9), dear)).abs().max()
    assert near < 0.01 * far


def test_no_item_is_an_item_of_its_own() -> None:
    embedding = EventEmbedding(SPEC, EmbeddingConfig(item_buckets=64)).eval()
    embedding.observe(codes(5, 9)[0])
    vector = embedding(codes(0, 9), torch.zeros(1, 1, F))[0, 0]
    assert torch.equal(vector[8:16], embedding.items.weight[0])


@pytest.mark.parametrize("outputs", [1, 2, 7, 20])
def test_a_steady_layer_is_a_linear_layer_that_does_not_care_where_a_row_is(outputs: int) -> None:
    torch.manual_seed(4)
    layer = SteadyLinear(21, outputs)
    rows = torch.randn(1, 21).expand(96, -1).contiguous()
    found = layer(rows)
    assert torch.equal(found, found[:1].expand(96, -1))
    assert torch.allclose(found, torch.nn.functional.linear(rows, layer.weight, layer.bias))
    assert not silent(layer)(rows).any()


def test_lru_doubling_equals_its_loop_at_any_length() -> None:
    torch.manual_seed(5)
    layer = Recurrence(6, 4)
    real, imaginary, _ = layer.eigenvalues()
    radius = torch.sqrt(real**2 + imaginary**2)
    assert (radius > RADIUS_MIN - 1e-6).all()
    assert (radius < RADIUS_MAX + 1e-6).all()
    for length in (1, 2, 3, 17, 64):
        start, drive = torch.randn(3, 8), torch.randn(3, length, 8)
        assert torch.allclose(
            layer.recur_at_once(start, drive), layer.recur(start, drive), atol=1e-5
        )


def test_the_transformer_tells_how_long_ago_an_event_was() -> None:
    torch.manual_seed(6)
    network = Transformer(SPEC, TransformerConfig(hidden_size=8)).eval()
    for block in network.blocks:
        torch.nn.init.normal_(block.interval.weight)
    ids = torch.tensor([[[1, 5, 9], [4, 6, 9], [1, 7, 9]]])
    nums = torch.zeros(1, 3, F)
    bands = network.interval_bands(nums)
    assert not bands.any()
    gap = SPEC.num_features.index("log_gap_hours")
    nums[0, 1, gap], nums[0, 2, gap] = np.log1p(1.0), np.log1p(100.0)
    bands = network.interval_bands(nums)[0]
    # log1p of 1 h, of 100 h and of 101 h, in halves
    assert bands.tolist() == [[0, 0, 0], [1, 0, 0], [9, 9, 0]]
    with torch.inference_mode():
        length = torch.tensor([3])
        early = network.encode(ids, nums, length)
        network.gap_column = SPEC.num_features.index("first_event")
        assert not torch.allclose(early, network.encode(ids, nums, length))
