"""Labels that are still open tell of drift by as much as is known of them at the moment."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.data.dataset import NOT_APPLICABLE, DatasetConfig, Examples
from models.evaluate import F64
from models.fitting.beta import fit_beta, so_far
from models.targets import ABSENT, Target, shop_targets
from models.training.open_labels import curve_of, may_stay_open, open_rows, share_at
from models.training.recalibrate import RecalibrationRules, fit_maps, mapped, matured_examples
from tests.models.shop import DAY, PURCHASE, START, shop_log

pytestmark = pytest.mark.slow

TARGETS = shop_targets(PURCHASE, 6 * DAY, 10 * DAY)
CONFIG = DatasetConfig(history_length=8, grace_ms=600_000, cancel_window_ms=DAY)
RULES = RecalibrationRules(window_ms=7 * DAY, min_labels=60, min_users=60, points=20)
UNTIL = START + 60 * DAY


OWN = (
    TARGETS[0],
    msgspec.structs.replace(TARGETS[1], gaps=1.5, floor_ms=3 * DAY, prior_gap_ms=5 * DAY),
)


@pytest.fixture(scope="module", params=[TARGETS, OWN], ids=["one window", "own windows"])
def targets(request: pytest.FixtureRequest) -> tuple[Target, ...]:
    found: tuple[Target, ...] = request.param
    return found


@pytest.fixture(scope="module")
def examples(targets: tuple[Target, ...]) -> Examples:
    return matured_examples(
        shop_log(users=400, days=80), targets, CONFIG, UNTIL, RULES, drop_late=True
    )


def test_waits_agree_with_complete_labels(examples: Examples, targets: tuple[Target, ...]) -> None:
    for column, target in enumerate(targets):
        known = ~np.isnan(examples.labels[:, column])
        waited = examples.waited[known, column]
        assert (waited != NOT_APPLICABLE).all()
        horizon = examples.horizon[known, column]
        assert (len(np.unique(horizon)) > 50) == (target.gaps > 0)
        came = (waited > 0) & (waited <= horizon)
        assert np.array_equal(came, examples.labels[known, column] == (target.kind != ABSENT))


def test_open_labels_are_of_the_newest_examples(
    examples: Examples, targets: tuple[Target, ...]
) -> None:
    settled = UNTIL - CONFIG.settle_ms
    for column, target in enumerate(targets):
        assert may_stay_open(target)
        rows = open_rows(examples, column, target, settled, 0.1)
        assert len(rows) > 300
        now = examples.now[rows]
        assert now.min() > settled - target.horizon_ms
        assert now.max() <= settled - 0.1 * target.horizon_ms
        assert np.isnan(examples.labels[rows, column]).all()
        orders = examples.waited[rows, column] != NOT_APPLICABLE
        assert orders.all()


def drawn(truth: F64, curve: F64, rng: np.random.Generator) -> np.ndarray:
    """Waits in a window of 12 steps of 100 ms whose hazard follows a curve; -1: no event."""
    spent = -np.log(rng.random(len(truth))) / -np.log1p(-truth)
    waited = np.interp(spent, curve, np.linspace(0, 1200, len(curve))).astype(np.int64)
    return np.where(spent < 1, np.maximum(waited, 1), -1)


CURVE = np.array([0.0, 0.4, *np.linspace(0.5, 1, 11)])


def test_the_curve_of_a_hazard_is_found_again() -> None:
    rng = np.random.default_rng(3)
    truth = rng.beta(2, 4, 60_000)
    waited = drawn(truth, CURVE, rng)
    after = np.where(waited > 0, waited / 1200, np.inf)
    found = curve_of(after, truth, np.ones(len(truth)))
    assert found == pytest.approx(CURVE, abs=0.02)
    assert found[[0, -1]].tolist() == [0, 1]
    assert share_at(found, np.array([1 / 24, 1, 1.5, 0])) == pytest.approx(
        [found[1] / 2, 1, 1, 1e-3], abs=1e-6
    )


def test_a_map_is_found_from_open_labels_alone() -> None:
    """Some windows are over by a tenth, none is over: the drift shows all the same."""
    rng = np.random.default_rng(4)
    said = rng.beta(2, 3, 80_000)
    logit = 0.8 * np.log(said) - 1.2 * np.log1p(-said) - 0.7
    truth = 1 / (1 + np.exp(-logit))
    elapsed = rng.integers(120, 1100, len(said))
    waited = drawn(truth, CURVE, rng)
    came = ((waited > 0) & (waited <= elapsed)).astype(np.float64)
    share = share_at(CURVE, elapsed / 1200)
    found = fit_beta(said, came, np.ones(len(said)), share)
    assert (found.a, found.b, found.c) == pytest.approx((0.8, 1.2, -0.7), abs=0.1)
    assert so_far(truth, share).mean() == pytest.approx(came.mean(), abs=0.01)
    # Taken for complete, the same labels say that hardly anybody comes.
    taken = fit_beta(said, came, np.ones(len(said)))
    assert mapped(taken, said).mean() < truth.mean() - 0.05
    assert mapped(found, said).mean() == pytest.approx(truth.mean(), abs=0.01)


def test_a_drift_of_the_last_days_is_seen_before_a_label_closes(
    examples: Examples, targets: tuple[Target, ...]
) -> None:
    """Nobody has bought for five days: no complete label knows it, but maps do."""
    rng = np.random.default_rng(5)
    said = np.clip(rng.beta(3, 3, examples.labels.shape), 0.02, 0.98)
    calm = UNTIL - CONFIG.settle_ms - 5 * DAY
    waited = examples.waited.copy()
    late = (waited > 0) & (examples.now[:, None] + waited > calm)
    waited[late] = -1
    silent = replace(examples, waited=waited)
    complete = fit_maps(
        silent, said, targets, UNTIL, CONFIG.settle_ms, replace(RULES, least_observed=1)
    )
    early = fit_maps(silent, said, targets, UNTIL, CONFIG.settle_ms, RULES)
    for population, maps in early.maps.items():
        now, before = maps["purchase"], complete.maps[population]["purchase"]
        assert now.c < before.c - 0.2
    # Churn is the absence of orders: its maps go the other way.
    assert early.maps["event"]["churn"].c > complete.maps["event"]["churn"].c + 0.2


def test_an_event_after_the_moment_changes_nothing(
    examples: Examples, targets: tuple[Target, ...]
) -> None:
    """An open label tells what came by the moment, less the time in which orders are taken back."""
    said = np.clip(np.random.default_rng(6).beta(3, 3, examples.labels.shape), 0.02, 0.98)
    early = UNTIL - 5 * DAY
    found = fit_maps(examples, said, targets, early, CONFIG.settle_ms, RULES)
    assert all(one.figures["open"] > 100 for one in found.findings)
    waited, labels = examples.waited.copy(), examples.labels.copy()
    later = examples.now[:, None] + waited > early - CONFIG.settle_ms
    assert (later & (waited > 0)).sum() > 100
    waited[later & (waited > 0)] = -1
    for column, target in enumerate(targets):
        unknown = examples.now + target.horizon_ms + CONFIG.settle_ms > early
        labels[unknown, column] = 1 - labels[unknown, column]
    turned = replace(examples, waited=waited, labels=labels)
    assert fit_maps(turned, said, targets, early, CONFIG.settle_ms, RULES) == found
