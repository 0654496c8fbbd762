"""Labels, figures and bounds of the outcome joiner, and that interleaving does not matter."""

from __future__ import annotations

import random
from itertools import groupby

import numpy as np
import pytest

from models.evaluate import roc_auc
from models.survival import hazard_targets
from schemas.events import EventType
from schemas.outputs import TargetScore
from stream.outcomes.joiner import OutcomeJoiner
from tests.stream.outcomes.tools import (
    CHURN_DAYS,
    DAY,
    PURCHASE_DAYS,
    TARGETS,
    at,
    buy,
    pass_time,
    prediction,
    raised,
    rules,
)


@pytest.mark.parametrize(
    ("bought", "label"),
    [(None, 0), (0.0, 0), (0.03, 1), (PURCHASE_DAYS, 1), (PURCHASE_DAYS + 0.01, 0)],
    ids=["never", "same time", "another order", "at the horizon", "beyond it"],
)
def test_a_purchase_counts_strictly_after_and_up_to_the_horizon(bought, label):
    joiner = OutcomeJoiner(rules())
    buy(joiner, "ann", 0)
    joiner.prediction(prediction("ann", 0))
    if bought is not None:
        buy(joiner, "ann", bought)
    pass_time(joiner, PURCHASE_DAYS + 0.1)
    figures = joiner.figures("purchase")
    assert figures is not None
    assert (figures.matured, figures.base_rate) == (1, label)


def test_nothing_is_judged_before_horizon_and_grace_have_passed():
    joiner = OutcomeJoiner(rules(grace_ms=DAY))
    joiner.prediction(prediction("ann", 0))
    pass_time(joiner, PURCHASE_DAYS + 1)
    assert joiner.figures("purchase") is None
    pass_time(joiner, PURCHASE_DAYS + 1.01)
    assert joiner.figures("purchase").matured == 1


def test_the_purchase_that_moves_the_clock_past_the_horizon_is_known_in_time():
    joiner = OutcomeJoiner(rules(grace_ms=0))
    joiner.prediction(prediction("ann", 0))
    buy(joiner, "ann", PURCHASE_DAYS)
    buy(joiner, "ann", PURCHASE_DAYS + 1)
    pass_time(joiner, PURCHASE_DAYS + 2)
    assert joiner.figures("purchase").base_rate == 1


def test_churn_is_the_absence_of_a_purchase_and_needs_a_rhythm():
    joiner = OutcomeJoiner(rules())
    for user in ("leaves", "stays", "new"):
        if user != "new":
            buy(joiner, user, -5)
        buy(joiner, user, 0)
    for user in ("leaves", "stays", "new"):
        joiner.prediction(prediction(user, 0, 0.3))
    buy(joiner, "stays", 20)
    pass_time(joiner, CHURN_DAYS + 1)
    figures = joiner.figures("churn")
    assert (figures.matured, figures.base_rate) == (2, 0.5)
    assert joiner.figures("purchase").matured == 3


@pytest.mark.parametrize(("bought", "right"), [(9, 0), (11, 1), (None, 1)])
def test_an_alert_and_a_prediction_are_judged_by_their_own_horizon(bought, right):
    joiner = OutcomeJoiner(rules())
    buy(joiner, "ann", -5)
    buy(joiner, "ann", -1)
    said = prediction("ann", 0, 0.3)
    said.targets["churn"] = TargetScore(0.7, 10 * DAY)
    joiner.prediction(said)
    joiner.alert(raised("ann", 0, horizon_ms=10 * DAY))
    if bought is not None:
        buy(joiner, "ann", bought)
    pass_time(joiner, 12)
    assert (joiner.alerts().right, joiner.alerts().wrong) == (right, 1 - right)
    assert joiner.figures("churn").base_rate == right


def test_lines_of_one_order_do_not_make_a_rhythm():
    joiner = OutcomeJoiner(rules())
    buy(joiner, "ann", 0)
    buy(joiner, "ann", 0.01)
    joiner.prediction(prediction("ann", 0.01))
    pass_time(joiner, CHURN_DAYS + 1)
    assert joiner.figures("churn") is None


def test_one_prediction_counts_per_user_moment_and_model():
    joiner = OutcomeJoiner(rules())
    joiner.prediction(prediction("ann", 0, 0.2, offset=4))
    joiner.prediction(prediction("ann", 0, 0.9, offset=6))
    joiner.prediction(prediction("ann", 0, 0.4, offset=5))
    joiner.prediction(prediction("ann", 0, 0.4, offset=6, version="m2"))
    pass_time(joiner, 10)
    assert joiner.figures("purchase", "m1").log_loss == pytest.approx(-np.log(0.1))
    assert joiner.figures("purchase", "m2").log_loss == pytest.approx(-np.log(0.6))
    assert joiner.figures("purchase").matured == 2
    assert joiner.versions("purchase") == ["m1", "m2"]


def test_recency_is_the_previous_order_and_not_the_current_one():
    joiner = OutcomeJoiner(rules())
    # Before their purchase of today: often bought yesterday, rarely long ago, new never.
    buy(joiner, "often", -1)
    buy(joiner, "rarely", -20)
    for user in ("often", "rarely", "new"):
        buy(joiner, user, -0.001)
        buy(joiner, user, 0)
        joiner.prediction(prediction(user, 0))
    buy(joiner, "often", 3)
    pass_time(joiner, 10)
    assert joiner.figures("purchase").recency_auc == 1
    assert joiner.figures("purchase").auc == 0.5


def test_predictions_of_moments_that_a_model_may_know_do_not_count():
    joiner = OutcomeJoiner(rules(since=at(1)))
    joiner.prediction(prediction("ann", 0.9))
    joiner.alert(raised("ann", 0.9))
    joiner.prediction(prediction("ann", 1))
    pass_time(joiner, 20)
    assert joiner.figures("purchase").matured == 1
    assert joiner.alerts().raised == 0


@pytest.mark.parametrize(
    ("kind", "days", "labels"),
    [
        (EventType.CART_ADD, 0.9, (0, 1, 0)),
        (EventType.CART_ADD, 1.1, (0, 0, 0)),
        (EventType.FAVOURITE, 1.9, (0, 0, 1)),
        (EventType.PURCHASE, 0.9, (1, 0, 0)),
        (EventType.CART_REMOVE, 0.9, (0, 0, 0)),
    ],
    ids=["a cart", "a cart too late", "a favourite", "a purchase", "another event"],
)
def test_each_target_is_decided_by_events_of_its_own_type(kind, days, labels):
    joiner = OutcomeJoiner(rules(targets=TARGETS))
    joiner.prediction(prediction("ann", 0, 0.5, cart=0.3, favourite=0.2))
    joiner.event("ann", at(days), kind)
    pass_time(joiner, PURCHASE_DAYS + 1)
    figures = [joiner.figures(name) for name in ("purchase", "cart", "favourite")]
    assert [found.matured for found in figures] == [1, 1, 1]
    assert tuple(found.base_rate for found in figures) == labels
    said = 0.3 if labels[1] else 0.7
    assert figures[1].log_loss == pytest.approx(-np.log(said))


def test_recency_of_a_cart_is_that_of_the_previous_cart():
    joiner = OutcomeJoiner(rules(targets=TARGETS))
    for user, days in (("often", -1), ("rarely", -20)):
        joiner.event(user, at(days), EventType.CART_ADD)
    # Whoever bought lately has no cart of late: a purchase says nothing here.
    buy(joiner, "rarely", -0.5)
    for user in ("often", "rarely"):
        joiner.prediction(prediction(user, 0, cart=0.5))
    joiner.event("often", at(0.5), EventType.CART_ADD)
    pass_time(joiner, 2)
    assert joiner.figures("cart").recency_auc == 1


def test_targets_that_the_settings_do_not_name_are_not_judged_and_cost_nothing():
    joiner = OutcomeJoiner(rules())
    joiner.event("bob", at(-1), EventType.CART_ADD)
    joiner.prediction(prediction("ann", 0, cart=0.3))
    joiner.event("ann", at(0.5), EventType.CART_ADD)
    pass_time(joiner, PURCHASE_DAYS + 1)
    assert joiner.targets == ("purchase", "churn")
    assert joiner.figures("cart") is None
    assert joiner.versions("cart") == []
    assert not joiner._users


def test_hazards_are_no_outcomes():
    joiner = OutcomeJoiner(rules(targets=(*TARGETS[:2], *hazard_targets(6, (DAY, 3 * DAY)))))
    assert joiner.targets == ("purchase", "churn")


def test_carts_do_not_make_a_rhythm():
    joiner = OutcomeJoiner(rules(targets=TARGETS))
    for days in (-9, -5, 0):
        joiner.event("ann", at(days), EventType.CART_ADD)
    joiner.prediction(prediction("ann", 0, cart=0.5))
    pass_time(joiner, CHURN_DAYS + 1)
    assert joiner.figures("churn") is None


def test_carts_that_no_label_needs_are_dropped_by_their_own_horizon():
    joiner = OutcomeJoiner(rules(targets=TARGETS))
    for day in range(300):
        joiner.event("ann", at(day), EventType.CART_ADD)
        buy(joiner, "ann", day)
        joiner.prediction(prediction("ann", day, cart=0.5))
    times = joiner._users["ann"].times
    assert len(times[EventType.CART_ADD]) < 6 < len(joiner._users["ann"].orders)
    assert joiner.figures("cart").base_rate == 1


def test_alert_precision():
    joiner = OutcomeJoiner(rules())
    for user in ("gone", "back", "soon"):
        joiner.alert(raised(user, 20 if user == "soon" else 0))
    joiner.alert(raised("gone", 0))
    joiner.alert(raised("gone", 9, "escalated"))
    assert joiner.alerts().precision is None
    buy(joiner, "back", CHURN_DAYS)
    joiner.event("clock", at(CHURN_DAYS + 1), EventType.VIEW)
    alerts = joiner.alerts()
    assert (alerts.raised, alerts.right, alerts.wrong, alerts.unknown) == (3, 1, 1, 1)
    assert alerts.precision == 0.5


def streams(seed: int) -> dict[str, list]:
    """A log of one partition, its predictions and alerts, each in order of time."""
    rng = random.Random(seed)
    out: dict[str, list] = {"event": [], "prediction": [], "alert": []}
    moments = sorted(rng.uniform(0, 200) for _ in range(600))
    for offset, day in enumerate(moments):
        user = f"u{int(rng.paretovariate(1)) % 25}"
        kind = EventType.PURCHASE if rng.random() < 0.4 else EventType.VIEW
        out["event"].append((user, at(day), kind))
        out["prediction"].append(prediction(user, day, rng.random(), offset=offset))
        if rng.random() < 0.1:
            out["alert"].append(raised(user, day))
    return out


def feed(joiner: OutcomeJoiner, kind: str, message) -> None:
    if kind == "event":
        joiner.event(*message)
    else:
        getattr(joiner, kind)(message)


def told(joiner: OutcomeJoiner) -> tuple:
    figures = [joiner.figures(target) for target in ("purchase", "churn")]
    known = [(f.matured, f.base_rate, f.auc, f.recency_auc, f.log_loss, f.ece) for f in figures]
    return (*known, joiner.alerts(), joiner.pending)


@pytest.mark.parametrize("seed", range(3))
def test_how_the_streams_interleave_does_not_matter(seed):
    log = streams(seed)
    results = []
    for order in (["event", "prediction", "alert"], ["prediction", "alert", "event"], None):
        joiner = OutcomeJoiner(rules())
        if order is None:
            heads = {kind: iter(messages) for kind, messages in log.items()}
            kinds = [kind for kind, messages in log.items() for _ in messages]
            random.Random(seed).shuffle(kinds)
            for kind in kinds:
                feed(joiner, kind, next(heads[kind]))
        else:
            for kind in order:
                for message in log[kind]:
                    feed(joiner, kind, message)
        results.append(told(joiner))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            assert one == pytest.approx(other) if isinstance(one, tuple) else one == other


def test_figures_equal_a_plain_computation():
    log = streams(7)
    joiner = OutcomeJoiner(rules())
    for kind, messages in log.items():
        for message in messages:
            feed(joiner, kind, message)
    bought = {
        user: sorted(time for _, time, _ in group)
        for user, group in groupby(
            sorted(event for event in log["event"] if event[2] == EventType.PURCHASE),
            key=lambda event: event[0],
        )
    }
    end = log["event"][-1][1] - PURCHASE_DAYS * DAY - 600_000
    truth, scores = [], []
    for p in log["prediction"]:
        if p.state_time < end:
            lines = bought.get(p.user_id, [])
            gap = rules().order_gap_ms
            if p.state_time in lines and any(0 < t - p.state_time <= gap for t in lines):
                continue  # in the midst of an order
            times = [t for i, t in enumerate(lines) if i == 0 or t - lines[i - 1] > gap]
            truth.append(any(0 < t - p.state_time <= PURCHASE_DAYS * DAY for t in times))
            scores.append(p.targets["purchase"].probability)
    figures = joiner.figures("purchase")
    assert figures.matured == len(truth)
    assert figures.base_rate == pytest.approx(np.mean(truth))
    assert figures.auc == pytest.approx(roc_auc(np.array(truth), np.array(scores)))


def test_memory_is_bounded_by_leaving_out_whole_users():
    joiner = OutcomeJoiner(rules(max_pending=100, max_users=50, window=64))
    for step in range(4000):
        user, day = f"u{step % 400}", step / 20
        buy(joiner, user, day)
        joiner.prediction(prediction(user, day, 0.3))
        joiner.alert(raised(user, day))
    assert joiner.sampled < 1
    assert joiner.pending <= 100
    assert len(joiner._users) <= 50
    assert joiner.figures("purchase").matured <= 64
    assert joiner.figures("purchase").total > 64
    alerts = joiner.alerts()
    assert alerts.right + alerts.wrong <= 64
    assert alerts.unknown >= 0


@pytest.mark.slow
def test_purchases_that_no_label_needs_are_dropped():
    joiner = OutcomeJoiner(rules())
    for day in range(2000):
        buy(joiner, "ann", day)
        joiner.prediction(prediction("ann", day))
    assert len(joiner._users["ann"].orders) < 3 * CHURN_DAYS
    assert joiner.figures("purchase").base_rate == 1


def test_models_beyond_the_last_few_are_forgotten():
    joiner = OutcomeJoiner(rules(max_models=3))
    for number in range(6):
        joiner.prediction(prediction("ann", number, version=f"m{number}"))
    pass_time(joiner, 50)
    assert joiner.versions("purchase") == ["m3", "m4", "m5"]
    assert joiner.figures("purchase").matured == 6
