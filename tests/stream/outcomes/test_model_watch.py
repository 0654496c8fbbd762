"""Verdicts of alerts, alarms of models, and canaries that must go."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.inputs.features import PROFILE_FEATURES
from models.monitoring.drift import Reference
from schemas.events import EventType, View
from stream.outcomes.joiner import OutcomeJoiner
from stream.outcomes.model_watch import ModelWatch, WatchRules
from stream.outcomes.rankings import RankingJoiner
from stream.outcomes.verdicts import Matured
from stream.pipeline.rollout import Announced
from tests.stream.outcomes.tools import (
    CHURN_DAYS,
    DAY,
    PURCHASE_DAYS,
    T0,
    TARGETS,
    at,
    buy,
    pass_time,
    prediction,
    raised,
    ranking,
    rules,
)
from tests.stream.worker.test_reload import published

RULES = WatchRules(churn_horizon_ms=CHURN_DAYS * DAY, min_users=40, min_matured=100)


def reference(_: str) -> Reference:
    rng = np.random.default_rng(1)
    profile = rng.normal(2, 1, (100, len(PROFILE_FEATURES))).astype(np.float32)
    labels = (rng.random(2000) < 0.2).astype(np.float32)
    return Reference.of(profile, {"purchase": rng.beta(2, 8, 5000)}, {"purchase": labels})


def watch(announced: Announced | None = None, **known: str) -> ModelWatch:
    return ModelWatch(RULES, announced or Announced(), reference, known)


class TestAlerts:
    def judged(self, *alerts, arm="treatment", bought=None, days=CHURN_DAYS + 1, **known):
        found = watch(**known)
        joiner = OutcomeJoiner(rules(), found)
        for alert in alerts:
            alert = msgspec.structs.replace(alert, arm=arm)  # noqa: PLW2901
            found.alert_raised(alert)
            joiner.alert(alert)
        if bought is not None:
            buy(joiner, "ann", bought)
        pass_time(joiner, days)
        return [(o.outcome, o.returned_at) for o in found.outcomes]

    def test_who_stays_away_was_rightly_told_of(self):
        for arm in ("treatment", "holdout"):
            assert self.judged(raised("ann", 0), arm=arm) == [("unknown", None), ("true", None)]

    def test_who_returns_is_saved_if_something_was_done_and_a_false_alarm_if_not(self):
        saved = self.judged(raised("ann", 0), bought=5)
        assert saved == [("unknown", None), ("saved", at(5))]
        false = self.judged(raised("ann", 0), bought=5, arm="holdout")
        assert false == [("unknown", None), ("false", at(5))]

    def test_nothing_is_told_before_the_horizon_is_over(self):
        assert self.judged(raised("ann", 0), bought=5, days=20) == [("unknown", None)]

    def test_a_retracted_alert_was_false_at_once_and_for_good(self):
        retracted = raised("ann", 0, state="retracted")
        retracted = msgspec.structs.replace(retracted, episode=raised("ann", 0).alert_id)
        assert self.judged(raised("ann", 0), retracted) == [("unknown", None), ("false", None)]

    def test_what_was_told_before_a_restart_is_not_told_again(self):
        alert = raised("ann", 0)
        assert self.judged(alert, **{alert.alert_id: "unknown"}) == [("true", None)]
        assert self.judged(alert, **{alert.alert_id: "true"}) == []


def feed(found: ModelWatch, version: str, n: int, error: float = 0.0, seed: int = 1, **at_) -> None:
    """Matured predictions of a target; with an error they say the wrong thing so often."""
    target = at_.get("target", "purchase")
    rng = np.random.default_rng(seed)
    truth = rng.beta(2, 8, n)
    for i, p in enumerate(truth.tolist()):
        said = 1 - p if rng.random() < error else p
        label = bool(rng.random() < p)
        time = at_.get("start", T0) + i * 1000
        found.matured(Matured(f"{version}-u{i % 300}", version, target, time, said, label))


def roles(**by_version: str) -> Announced:
    announced = Announced()
    for version, role in by_version.items():
        announced.note(version, published(version, rollout=role, canary_share=0.1))
    return announced


class TestACanary:
    def test_a_worse_one_must_go_once_with_figures(self):
        found = watch(roles(old="champion", new="canary"))
        for part in range(6):
            feed(found, "new", 200, error=0.5, seed=part)
            feed(found, "old", 200, seed=part + 100)
        (decided,) = found.rollbacks
        assert decided.version == "new"
        assert "purchase is worse than the champion's: log-loss" in decided.reason

    def test_one_that_is_worse_at_carts_must_go_too(self):
        found = watch(roles(old="champion", new="canary"))
        for part in range(6):
            for target, error in (("purchase", 0.0), ("cart", 0.5)):
                feed(found, "new", 200, error=error, seed=part, target=target)
                feed(found, "old", 200, seed=part + 100, target=target)
        (decided,) = found.rollbacks
        assert "cart is worse than the champion's: log-loss" in decided.reason

    def test_the_targets_share_the_error_allowed(self):
        announced = roles(old="champion", new="canary")
        found = ModelWatch(replace(RULES, alpha=0.04, targets=4), announced, reference)
        feed(found, "new", 10, target="cart")
        assert found._trial.by_target["cart"]._alpha == 0.01

    def test_an_equal_one_stays(self):
        found = watch(roles(old="champion", new="canary"))
        for part in range(10):
            feed(found, "new", 200, seed=part)
            feed(found, "old", 200, seed=part + 100)
        assert not found.rollbacks

    def test_only_the_champion_and_only_the_same_time_count(self):
        found = watch(roles(old="champion", other="champion", new="canary"))
        # The champion is `other`; `old` is a former one, and before the canary nothing is compared.
        feed(found, "other", 3000, start=T0 - 10 * DAY)
        feed(found, "old", 3000)
        feed(found, "new", 3000, error=0.5)
        assert not found.rollbacks
        feed(found, "other", 3000)
        feed(found, "new", 3000, error=0.5)
        assert [each.version for each in found.rollbacks] == ["new"]

    def test_no_canary_no_trial(self):
        found = watch(roles(old="champion", new="shadow"))
        feed(found, "new", 3000, error=0.5)
        feed(found, "old", 3000)
        assert not found.rollbacks


class TestAlarms:
    def metrics(self, found: ModelWatch, error: float, n: int = 1500, **at_):
        """Of predictions that go through a joiner, so that both see the same."""
        joiner = OutcomeJoiner(rules(), found)
        rng = np.random.default_rng(3)
        window = joiner._windows.of("m1", "purchase")
        for number, p in enumerate(rng.beta(2, 8, n).tolist()):
            said = 1 - p if rng.random() < error else p
            window.add(bool(rng.random() < p), said, 0.0, f"u{number}")
        feed(found, "m1", n, error, **at_)
        (metrics,) = found.metrics(joiner, 5)
        return metrics

    def test_a_good_model_has_none(self):
        metrics = self.metrics(watch(roles(m1="champion")), 0.0)
        assert metrics.alarms == []
        assert (metrics.rollout, metrics.updated_at) == ("champion", 5)
        assert set(metrics.stability) == {"score.purchase", "label.purchase"}
        assert max(metrics.stability.values()) < 0.1
        assert metrics.targets["purchase"].lift > 1.5

    def test_a_bad_one_is_named_with_what_is_wrong(self):
        metrics = self.metrics(watch(), 0.6)
        assert metrics.rollout is None
        said = " ".join(metrics.alarms)
        assert "score.purchase has drifted: stability index" in said
        assert "purchase at events is badly calibrated" in said
        assert "purchase at events is no better than its base rate" in said

    def test_predictions_at_timers_are_evaluated_apart(self):
        found = watch(roles(m1="champion"))
        joiner = OutcomeJoiner(rules(), found)
        for number in range(300):
            user, day = f"u{number}", number / 100
            here = prediction(user, day, 0.5, offset=number)
            joiner.prediction(here)
            later = msgspec.structs.replace(
                prediction(user, day + 0.5, 0.9, offset=number), reason="timer"
            )
            joiner.prediction(later)
            if number % 2 == 0:
                buy(joiner, user, day + 0.25)
        pass_time(joiner, PURCHASE_DAYS + 5)
        (metrics,) = found.metrics(joiner, 5)
        parts = metrics.targets["purchase"].populations
        assert (parts["event"].matured, parts["event"].base_rate) == (300, 0.5)
        assert (parts["timer"].matured, parts["timer"].base_rate) == (300, 0.0)
        assert "purchase at timers is badly calibrated: error 0.900" in metrics.alarms
        assert not any("at events is badly" in alarm for alarm in metrics.alarms)

    def test_carts_are_told_and_complained_of_like_purchases(self):
        found = watch()
        joiner = OutcomeJoiner(rules(targets=TARGETS), found)
        for number in range(120):
            user, day = f"u{number}", number / 100
            joiner.prediction(prediction(user, day, 0.01, offset=number, cart=0.9))
            if number % 10 == 0:
                joiner.event(user, at(day + 0.5), EventType.CART_ADD)
        pass_time(joiner, PURCHASE_DAYS + 3)
        (metrics,) = found.metrics(joiner, 5)
        assert set(metrics.targets) == {"purchase", "cart"}
        cart = metrics.targets["cart"]
        assert (cart.matured, cart.base_rate, cart.ece) == (120, 0.1, pytest.approx(0.8))
        assert "cart at events is badly calibrated: error 0.800" in metrics.alarms

    def test_rankings_are_told_beside_targets_and_alone(self):
        found = watch(roles(m1="champion"))
        joiner, rankings = OutcomeJoiner(rules(), found), RankingJoiner(rules())
        for version in ("m1", "m2"):
            rankings.prediction(ranking("ann", at(0), categories="ab", version=version))
        view = View(event_id="e", user_id="ann", event_time=at(1), category_id="a")
        rankings.event("ann", view)
        rankings.event("bob", msgspec.structs.replace(view, event_time=at(2)))
        joiner.prediction(prediction("ann", 0))
        pass_time(joiner, PURCHASE_DAYS + 1)
        one, two = found.metrics(joiner, 5, rankings)
        assert (one.model_version, one.rollout, set(one.targets)) == (
            "m1",
            "champion",
            {"purchase"},
        )
        assert (two.model_version, two.rollout, two.targets) == ("m2", None, {})
        for metrics in (one, two):
            told = metrics.rankings["category"]
            assert (told.total, told.judged, told.sampled) == (1, 1, 1)
            assert (told.hit_rate, told.ndcg, told.last_hit_rate) == (1, 1, 0)
            assert "item" not in metrics.rankings
        assert found.metrics(joiner, 5)[0].rankings == {}

    @pytest.mark.parametrize(
        ("told", "moments", "alarms"), [("ba", 100, 1), ("ba", 99, 0), ("ab", 100, 0)]
    )
    def test_a_ranking_that_tells_less_than_the_last_name_is_an_alarm(self, told, moments, alarms):
        found = watch(roles(m1="champion"))
        joiner, rankings = OutcomeJoiner(rules(), found), RankingJoiner(rules())
        for day in range(moments + 2):
            view = View(event_id=f"e{day}", user_id="ann", event_time=at(day), category_id="a")
            rankings.event("ann", view)
            rankings.prediction(ranking("ann", at(day), categories=told, version="m1"))
        (metrics,) = found.metrics(joiner, 5, rankings)
        assert metrics.rankings["category"].judged == moments
        assert len(metrics.alarms) == alarms

    def test_few_predictions_raise_no_alarm(self):
        assert self.metrics(watch(), 0.6, n=99).alarms == []

    def test_a_change_is_found_and_forgotten_after_a_week(self):
        found = watch()
        feed(found, "m1", 2000)
        feed(found, "m1", 2000, error=0.9, seed=2, start=T0 + DAY)
        metrics = self.metrics(found, 0.0)
        assert metrics.changes["log_loss.purchase"] >= 1
        joiner = OutcomeJoiner(rules(), found)
        joiner.event("clock", T0 + 2 * DAY, EventType.VIEW)
        model = found._model("m1")
        assert any("has changed" in a for a in found._alarms(model, {}, {}, T0 + 2 * DAY))
        assert found._alarms(model, {}, {}, T0 + 20 * DAY) == []


def test_models_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream.outcomes.model_watch.MAX_MODELS", 3)
    found = watch()
    for version in ("a", "b", "c", "a", "d"):
        feed(found, version, 5)
    assert set(found._models) == {"c", "a", "d"}
