"""The contract that every architecture passes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor

from models import features
from models.artifact import open_script, script_bytes
from models.errors import ModelError
from models.networks import ARCHITECTURES, Network, build
from models.networks.rhythm import Rhythm, RhythmConfig
from models.scorer import BLOCK, Scorer, manifest_of, network_spec
from models.targets import shop_targets

DAY = 86_400_000
TARGETS = shop_targets(6, 7 * DAY, 30 * DAY)
SPEC = network_spec(TARGETS)
C, F, P = len(SPEC.int_features), len(SPEC.num_features), len(SPEC.profile_features)

Arrays = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(architecture: str) -> Network:
    torch.manual_seed(11)
    made = build(architecture, SPEC).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.set_standardisation(torch.ones(P), torch.full((P,), 2.0), torch.ones(F), torch.ones(F))
    made.set_calibration(torch.tensor([0.9, 1.1]), torch.tensor([0.1, -0.2]))
    return made


def sequences(batch: int = 40, length: int = 9, seed: int = 5) -> Arrays:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, length + 1, batch)
    lengths[:2] = (0, length)
    valid = np.arange(length) < lengths[:, None]
    ids = np.stack(
        [
            rng.integers(1, 8, (batch, length)),
            rng.integers(0, 1 << 32, (batch, length)),
            rng.integers(0, 1 << 16, (batch, length)),
        ],
        axis=2,
    )
    nums = rng.normal(1, 1, (batch, length, F)) * valid[..., None]
    profile = np.abs(rng.normal(2, 2, (batch, P)))
    return (
        torch.from_numpy(ids * valid[..., None]),
        torch.from_numpy(nums.astype(np.float32)),
        torch.from_numpy(lengths),
        torch.from_numpy(profile.astype(np.float32)),
    )


def scorer_of(network: Network, architecture: str) -> Scorer:
    manifest = manifest_of(
        network,
        "test",
        architecture,
        history_length=64,
        targets=TARGETS,
        reference_profile=(0.0,) * P,
        created_at=1,
    )
    return Scorer.of_script(script_bytes(network), manifest)


def test_an_empty_history_is_scored_from_the_initial_state(network: Network) -> None:
    ids, nums, length, profile = sequences()
    hidden = network.encode(ids * 0, nums * 0, length * 0)
    assert hidden.shape == (len(ids), network.hidden_size)
    assert torch.equal(hidden, network.initial(len(ids)))
    assert torch.isfinite(network.heads(hidden, profile * 0)).all()
    nothing = network.encode(ids[:, :0], nums[:, :0], length * 0)
    assert torch.equal(nothing, hidden)


def test_one_event(network: Network) -> None:
    ids, nums, _, profile = sequences()
    hidden = network.encode(ids[:, :1], nums[:, :1], torch.ones(len(ids), dtype=torch.int64))
    assert torch.isfinite(network.heads(hidden, profile)).all()


def test_unknown_items_and_extreme_codes(network: Network) -> None:
    ids, nums, length, profile = sequences()
    ids[..., 0] = 15
    ids[..., 1] = 2**32 - 1
    ids[..., 2] = 2**16 - 1
    hidden = network.encode(ids, nums, length)
    assert torch.isfinite(network.heads(hidden, profile)).all()


def test_a_year_of_silence_stays_finite_and_within_bounds(network: Network) -> None:
    _, _, _, profile = sequences()
    year = float(np.log1p(365 * 24))
    profile[:, 0] = year
    profile[:, SPEC.profile_features.index("log_since_purchase_hours")] = year
    hidden = network.initial(len(profile))
    probabilities = torch.sigmoid(network.heads(hidden, profile))
    assert torch.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert (probabilities <= 1).all()


def test_batch_equals_single_bit_for_bit(network: Network, architecture: str) -> None:
    scorer = scorer_of(network, architecture)
    ids, nums, length, profile = (array.numpy() for array in sequences(batch=3 * BLOCK + 5))
    hidden = scorer.encode(ids, nums, length)
    states = scorer.scan(hidden, ids, nums, length)
    probabilities = scorer.probabilities(hidden, profile)
    for start, stop in ((0, 1), (1, 2), (7, 9), (3, BLOCK + 4), (50, len(ids))):
        part = slice(start, stop)
        assert np.array_equal(scorer.encode(ids[part], nums[part], length[part]), hidden[part])
        found = scorer.scan(hidden[part], ids[part], nums[part], length[part])
        assert np.array_equal(found, states[part])
        assert np.array_equal(
            scorer.probabilities(hidden[part], profile[part]), probabilities[part]
        )


def test_script_equals_eager(network: Network) -> None:
    scripted = open_script(script_bytes(network), torch.device("cpu"))
    ids, nums, length, profile = sequences()
    with torch.inference_mode():
        for _ in range(3):  # the scripting runtime specialises after the first calls
            hidden = scripted.encode(ids, nums, length)
            logits = scripted.heads(hidden, profile)
        assert torch.allclose(hidden, network.encode(ids, nums, length), atol=1e-6)
        assert torch.allclose(logits, network.heads(hidden, profile), atol=1e-5)


def test_step_scan_and_encode_agree(network: Network) -> None:
    ids, nums, length, _ = sequences()
    with torch.inference_mode():
        encoded = network.encode(ids, nums, length)
        scanned = network.scan(network.initial(len(ids)), ids, nums, length)
        hidden = network.initial(len(ids))
        for position in range(ids.size(1)):
            after = network.step(hidden, ids[:, position], nums[:, position])
            hidden = torch.where((position < length).unsqueeze(1), after, hidden)
            assert torch.allclose(hidden, scanned[:, position], atol=1e-5)
        assert torch.allclose(hidden, encoded, atol=1e-5)
        half = torch.minimum(length, torch.tensor(4))
        first = network.encode(ids[:, :4], nums[:, :4], half)
        second = network.scan(first, ids[:, 4:], nums[:, 4:], length - half)
        assert torch.allclose(second[:, -1], encoded, atol=1e-5)


def test_serving_in_any_cut_gives_the_same_bits(network: Network, architecture: str) -> None:
    scorer = scorer_of(network, architecture)
    ids, nums, _, _ = (array.numpy() for array in sequences(batch=6, length=24))
    full = np.full(6, 24)
    whole = scorer.encode(ids, nums, full)
    hidden = np.zeros((6, scorer.hidden_size), np.float32)
    for lo, hi in ((0, 1), (1, 2), (2, 9), (9, 24)):
        part = scorer.scan(hidden, ids[:, lo:hi], nums[:, lo:hi], np.full(6, hi - lo))
        hidden = part[:, -1]
    assert np.array_equal(hidden, whole)


def test_save_and_load_keep_every_bit(network: Network) -> None:
    ids, nums, length, profile = sequences()
    state = io.BytesIO()
    torch.save(network.state_dict(), state)
    state.seek(0)
    again = type(network)(SPEC).eval()
    again.load_state_dict(torch.load(state, weights_only=True))
    hidden = network.encode(ids, nums, length)
    assert torch.equal(hidden, again.encode(ids, nums, length))
    assert torch.equal(network.heads(hidden, profile), again.heads(hidden, profile))


def test_calibration_shifts_the_logits_and_nothing_else(network: Network) -> None:
    _, _, _, profile = sequences()
    hidden = network.initial(len(profile))
    network.set_calibration(torch.ones(2), torch.zeros(2))
    raw = network.heads(hidden, profile)
    network.set_calibration(torch.tensor([2.0, 0.5]), torch.tensor([0.25, -1.0]))
    expected = raw * torch.tensor([2.0, 0.5]) + torch.tensor([0.25, -1.0])
    assert torch.allclose(network.heads(hidden, profile), expected)


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ModelError, match=r"unknown architecture 'rnn'.*gru, logistic, rhythm"):
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


def test_features_of_the_spec_are_the_featurisers() -> None:
    assert SPEC.profile_features == features.PROFILE_FEATURES
