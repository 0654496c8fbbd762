"""Hazards: what is known of a wait that is not over, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.data.dataset import Examples, label_points
from models.data.points import Points
from models.data.split import TimeSplit
from models.errors import ModelError
from models.inputs import features
from models.networks.process import ProcessParameters, PurchaseProcess
from models.serving.scorer import network_spec
from models.survival import Bins, expected_wait, hazard_targets, survival, survival_at_edges
from models.targets import OCCURS, Target, shop_targets
from tests.models.shop import DAY, PURCHASE

EDGES = (DAY, 3 * DAY, 7 * DAY)
BINS = hazard_targets(PURCHASE, EDGES)
HAZARDS = np.array([[0.2, 0.0, 0.5], [0.9, 0.3, 0.01]])


def labelled(waits: np.ndarray, now: np.ndarray, end: int) -> Examples:
    """Points with their waits in ms (0: nothing came while the log lasted), known up to `end`."""
    size = len(waits)
    following = np.where(waits > 0, now + waits, 0)
    points = Points(
        ids=np.zeros((1, 3), np.int64),
        nums=np.zeros((1, 8), np.float32),
        time=np.zeros(1, np.int64),
        event=np.zeros(size, np.intp),
        start=np.zeros(size, np.intp),
        now=now,
        profile=np.zeros((size, len(features.PROFILE_FEATURES)), np.float32),
        user=np.arange(size, dtype=np.uint64),
        seen=np.zeros(size, np.int64),
        slot=np.zeros(size, np.int64),
        horizon=np.tile([target.horizon_ms for target in BINS], (size, 1)),
        following=np.repeat(following[:, None], len(BINS), axis=1),
        spent=np.zeros((size, 0), np.int64),
        session_end=now,
        eligible=np.ones((size, len(BINS)), np.bool_),
    )
    return label_points(points, BINS, TimeSplit((0, end, end, end), 0))


def test_a_wait_tells_of_each_bin_what_is_known() -> None:
    unknown = np.nan
    waits = np.array([DAY // 2, DAY, 2 * DAY, 5 * DAY, 0, 0, 5 * DAY])
    followed = np.array([9, 9, 9, 9, 9, 4, 6]) * DAY
    end = 100 * DAY
    examples = labelled(waits, end - followed, end)
    expected = [
        [1, unknown, unknown],
        [1, unknown, unknown],
        [0, 1, unknown],
        [0, 0, 1],
        [0, 0, 0],
        # Nothing came in four days, and then the data ends: of the last bin nothing is known.
        [0, 0, unknown],
        # It came on the fifth day, but had it not, six days would not have told.
        [0, 0, unknown],
    ]
    assert np.array_equal(examples.labels, np.array(expected, np.float32), equal_nan=True)


def test_censored_points_do_not_bend_the_hazards() -> None:
    """Waits with a constant rate, most of which are cut off: the known labels still tell it."""
    rng = np.random.default_rng(0)
    size, rate, end = 40_000, 0.15, 1000 * DAY
    followed = (rng.uniform(0, 9, size) * DAY).astype(np.int64)
    waits = np.maximum((rng.exponential(1 / rate, size) * DAY).astype(np.int64), 1)
    examples = labelled(np.where(waits <= followed, waits, 0), end - followed, end)
    found = np.nanmean(examples.labels, axis=0)
    days = np.diff([0, *EDGES]) / DAY
    assert found == pytest.approx(1 - np.exp(-rate * days), abs=0.012)
    curve = [float(survival(found[None], EDGES, day * DAY)[0]) for day in (1, 2, 5, 7, 20)]
    assert curve == pytest.approx(np.exp(-rate * np.array([1, 2, 5, 7, 20])), abs=0.02)
    # Taking who was cut off for one who did not buy would say less than it is.
    naive = np.mean((waits <= followed) & (waits <= 7 * DAY))
    assert naive < 1 - np.exp(-rate * 7) - 0.2


def test_survival_is_the_product_over_bins_and_exponential_within() -> None:
    for end in range(len(EDGES)):
        product = (1 - HAZARDS[:, : end + 1]).prod(axis=1)
        assert survival(HAZARDS, EDGES, EDGES[end]) == pytest.approx(product)
    assert survival(HAZARDS, EDGES, 0) == pytest.approx([1, 1])
    half = survival(HAZARDS, EDGES, 5 * DAY)
    assert half == pytest.approx((1 - HAZARDS[:, :2]).prod(axis=1) * np.sqrt(1 - HAZARDS[:, 2]))
    beyond = survival(HAZARDS, EDGES, 11 * DAY)
    assert beyond == pytest.approx((1 - HAZARDS[:, :2]).prod(axis=1) * (1 - HAZARDS[:, 2]) ** 2)
    assert np.isfinite(survival(np.ones((1, 3)), EDGES, 7 * DAY)).all()


@pytest.mark.slow
def test_the_expected_wait_is_the_area_under_the_survival() -> None:
    moments = np.linspace(0, EDGES[-1], 20_001)
    curve = np.stack([survival(HAZARDS, EDGES, int(moment)) for moment in moments])
    assert expected_wait(HAZARDS, EDGES) == pytest.approx(np.trapezoid(curve, moments, axis=0))
    assert expected_wait(np.zeros((1, 3)), EDGES) == pytest.approx([EDGES[-1]])
    assert expected_wait(np.ones((1, 3)), EDGES)[0] < DAY / 10


def test_the_hazards_of_the_purchase_process_make_its_own_survival() -> None:
    """Closed form, bin by bin, against the closed form of each horizon."""
    parameters = ProcessParameters(0.5, 200.0, 0.8, 2.4)
    whole = tuple(Target("x", OCCURS, PURCHASE, edge) for edge in EDGES)
    profile = torch.rand(50, len(features.PROFILE_FEATURES), generator=torch.manual_seed(0)) * 6
    hazards, occurs = (
        torch.sigmoid(PurchaseProcess(network_spec(targets), parameters)(profile)).double().numpy()
        for targets in (BINS, whole)
    )
    for column, edge in enumerate(EDGES):
        assert 1 - survival(hazards, EDGES, edge) == pytest.approx(occurs[:, column], abs=1e-5)


def test_each_point_has_the_same_bits_in_any_company() -> None:
    hazards = np.random.default_rng(1).random((257, len(EDGES)))
    for tell in (
        survival_at_edges,
        lambda found: survival(found, EDGES, 4 * DAY),
        lambda found: expected_wait(found, EDGES),
    ):
        alone = np.concatenate([tell(row[None]) for row in hazards])
        assert np.array_equal(tell(hazards), alone)
        assert np.array_equal(tell(hazards[5:41]), alone[5:41])


def test_survival_at_the_edges_is_survival() -> None:
    at = np.stack([survival(HAZARDS, EDGES, edge) for edge in EDGES], axis=1)
    assert survival_at_edges(HAZARDS) == pytest.approx(at)
    assert (np.diff(survival_at_edges(HAZARDS), axis=1) <= 0).all()


def test_the_bins_are_found_among_the_targets_of_a_model() -> None:
    shop = shop_targets(PURCHASE, DAY, 30 * DAY)
    assert Bins.of(shop) is None
    bins = Bins.of((*shop, *BINS))
    assert bins == Bins((2, 3, 4), EDGES)
    told = np.arange(10, dtype=np.float32).reshape(2, 5) / 16
    assert bins.hazards(told).tolist() == [[0.125, 0.1875, 0.25], [0.4375, 0.5, 0.5625]]
    with pytest.raises(ModelError, match="must follow one another"):
        Bins.of((*shop, BINS[0], BINS[2]))


@pytest.mark.parametrize("edges", [(), (0, DAY), (DAY, DAY), (3 * DAY, DAY)])
def test_bins_must_follow_one_another(edges: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="must end at ascending times"):
        hazard_targets(PURCHASE, edges)
