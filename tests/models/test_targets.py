"""The targets of a shop, and what a log says of them."""

from __future__ import annotations

import numpy as np

from models.data.dataset import DatasetConfig, build_examples
from models.data.split import TimeSplit
from models.log.eventlog import in_order
from models.networks import build
from models.serving.scorer import Scorer, network_spec
from models.survival import hazard_targets
from models.targets import ABSENT, NAMES, OCCURS, judged, questions, shop_targets
from schemas.events import EventType
from tests.models.shop import CART, DAY, PURCHASE, carts_log


def test_cart_and_favourite_are_predicted_where_they_have_a_horizon() -> None:
    assert [target.name for target in shop_targets(PURCHASE, DAY, 30 * DAY)] == [
        "purchase",
        "churn",
    ]
    every = shop_targets(
        PURCHASE, DAY, 30 * DAY, cart_horizon_ms=2 * DAY, favourite_horizon_ms=3 * DAY
    )
    assert tuple(target.name for target in every) == NAMES
    assert [target.horizon_ms // DAY for target in every] == [1, 30, 2, 3]
    assert [target.kind for target in every] == [OCCURS, ABSENT, OCCURS, OCCURS]
    assert every[2].event_type == EventType.CART_ADD == CART
    assert every[3].event_type == EventType.FAVOURITE


def test_a_cart_is_labelled_by_additions_and_not_by_purchases() -> None:
    targets = shop_targets(PURCHASE, 2 * DAY, 8 * DAY, cart_horizon_ms=DAY)
    log = carts_log(users=40)
    times = log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 8 * DAY, 0, 0.2, 0.2)
    config = DatasetConfig(history_length=8, min_points=10)
    examples = build_examples(in_order(log, None), targets, split, config)
    checked = 0
    for point in range(0, len(examples), 5):
        said = examples.labels[point, 2]
        if np.isnan(said):
            continue
        after = times - examples.now[point]
        added = (log.users == examples.user[point]) & (log.events.type == CART)
        assert said == ((after > 0) & (after <= DAY) & added).any()
        checked += 1
    assert checked > 50
    assert build("gru", network_spec(targets), 8).targets == 3


def test_the_bins_of_a_wait_are_one_question_and_no_label_of_a_prediction() -> None:
    targets = shop_targets(PURCHASE, DAY, 30 * DAY)
    bins = hazard_targets(PURCHASE, (DAY, 3 * DAY))
    assert questions((*targets, *bins)) == ("purchase", "churn", "wait", "wait")
    assert judged((*targets, *bins)) == targets


def test_before_any_model_only_purchases_are_spoken_of() -> None:
    """A purchase process knows nothing of carts."""
    targets = shop_targets(PURCHASE, DAY, 30 * DAY, cart_horizon_ms=DAY)
    assert [target.name for target in Scorer.rhythm(targets).targets] == ["purchase", "churn"]
