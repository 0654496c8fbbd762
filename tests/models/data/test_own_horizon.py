"""Labels of churn within the user's own horizon: as a plain look at the orders says, and served."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from models.data.dataset import DatasetConfig, build_examples
from models.data.split import TimeSplit
from models.log.eventlog import in_order
from models.networks.rhythm import Rhythm
from models.serving.scorer import Scorer, network_spec
from models.targets import CHURN, Target, shop_targets
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import gru_scorer
from tests.logs import shop_log as wire_log
from tests.models.shop import DAY, PURCHASE, order_starts, shop_log

CONFIG = DatasetConfig(history_length=8, event_points=5, silence_points=5, min_points=10)


def targets(longest: int, *, gaps: float = 1.5, floor: int = DAY) -> tuple[Target, ...]:
    own = {"gaps": gaps, "floor_ms": floor, "prior_gap_ms": 3 * DAY}
    whole = shop_targets(PURCHASE, 2 * DAY, longest)
    return tuple(replace(each, **own) if each.name == CHURN else each for each in whole)


def horizon_at(orders: np.ndarray, longest: int) -> int:
    """By hand: one and a half of the mean gap, where three days count as one more gap."""
    gap = (3 * DAY + int(orders[-1] - orders[0])) // len(orders)
    return max(min(int(1.5 * gap), longest), DAY)


def test_labels_equal_a_plain_look_ahead_within_the_users_own_gaps() -> None:
    longest = 8 * DAY
    ordered = in_order(shop_log(), CONFIG.grace_ms)
    times = ordered.log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), longest, CONFIG.grace_ms, 0.2, 0.2)
    examples = build_examples(ordered, targets(longest), split, CONFIG)
    begins = order_starts(ordered)
    fixed, lengths = 0, set()
    for point in range(len(examples)):
        now, label = int(examples.now[point]), examples.settled[point, 1]
        mine = times[begins & (ordered.log.users == examples.user[point])]
        past = mine[mine <= now]
        # A short horizon, too, is known no earlier than the longest.
        known = len(past) >= CONFIG.min_orders and split.settled(np.array([now]), longest)[0]
        assert np.isnan(label) != known
        if known:
            ahead = horizon_at(past, longest)
            assert label == (not ((mine > now) & (mine <= now + ahead)).any())
            fixed += label != (not ((mine > now) & (mine <= now + longest)).any())
            lengths.add(ahead)
    assert fixed > 20
    assert {DAY, longest} & lengths or len(lengths) > 50


@pytest.mark.full
@pytest.mark.parametrize("clock", ["event", "wall"])
def test_predictions_and_alerts_tell_the_horizon_that_the_label_has(clock: str) -> None:
    longest = 20 * DAY
    scorer = gru_scorer(targets=targets(longest, floor=0))
    churn = {"raise_at": 0.05, "escalate_at": 0.4, "resolve_at": 0.01, "prior_gap_ms": 3 * DAY}
    worker = {"clock": clock, "emit": "every", "predict_at_timers": True}
    driver = PipelineDriver(scorer, Settings(worker=worker, churn={**churn, "cooldown_ms": DAY}))
    log = wire_log(7, 1200)
    driver.pipe(log, batch=100)
    if clock == "wall":
        driver.advance(max(event.event_time for event in log) + 40 * DAY)
    alerts = driver.alerts()
    assert len(alerts) > 5
    for alert in alerts:
        assert alert.horizon_ms == min(int(1.5 * alert.expected_gap_ms), longest)
    own = [p.targets["churn"].horizon_ms for p in driver.predictions()]
    assert len(set(own)) > 10
    assert max(own) <= longest
    assert {p.targets["purchase"].horizon_ms for p in driver.predictions()} == {2 * DAY}
    assert any(p.reason == "timer" for p in driver.predictions())


def test_the_purchase_process_looks_as_far_as_the_users_own_horizon() -> None:
    profile = np.zeros((3, len(network_spec(targets(DAY)).profile_features)), np.float32)
    names = network_spec(targets(DAY)).profile_features
    # Orders, and days from the first to the last: the expected gaps are 3, 5 and 33 days.
    for row, (orders, days) in enumerate(((1, 0), (2, 7), (3, 96))):
        profile[row, names.index("log_orders")] = np.log1p(orders)
        profile[row, names.index("log_purchase_span_hours")] = np.log1p(24 * days)
        profile[row, names.index("log_since_purchase_hours")] = np.log1p(24 * 2)
    hidden = np.zeros((3, 0), np.float32)
    said = Scorer.rhythm(targets(30 * DAY)).probabilities(hidden, profile)
    for row, days in enumerate((4.5, 7.5, 30)):
        fixed = Scorer.rhythm(shop_targets(PURCHASE, 2 * DAY, int(days * DAY)))
        assert said[row] == pytest.approx(fixed.probabilities(hidden, profile)[row], abs=1e-5)


def test_a_process_without_own_horizons_has_the_parts_it_always_had() -> None:
    plain, own = shop_targets(PURCHASE, 2 * DAY, 8 * DAY), targets(8 * DAY)
    assert "process.gaps" not in Rhythm(network_spec(plain)).state_dict()
    assert "process.gaps" in Rhythm(network_spec(own)).state_dict()
