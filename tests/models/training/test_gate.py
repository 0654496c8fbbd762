"""The gate lets through what is better, and says with figures why it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.errors import TrainingError
from models.inputs.features import PROFILE_FEATURES
from models.inputs.segments import COLD, Evidence
from models.populations import EVENT, POPULATIONS, TIMER, user_weights
from models.survival import hazard_targets
from models.targets import shop_targets
from models.training.gate import ALL, GateRules, Slice, interval, judge, losses
from models.training.verdict import Verdict

TARGETS = shop_targets(6, 1, 2)
RULES = GateRules(evidence=Evidence(min_events=5))
USERS, POINTS = 400, 8


def shop(seed: int = 3) -> tuple[Slice, np.ndarray]:
    """Points of users with a rate of their own, and the true probabilities [N,K]."""
    rng = np.random.default_rng(seed)
    users = np.arange(USERS).repeat(POINTS)
    rate = rng.uniform(0.05, 0.95, USERS)[users]
    truth = np.stack([rate, 1 - rate], axis=1)
    labels = (rng.random(truth.shape) < truth).astype(np.float32)
    labels[rng.random(truth.shape) < 0.1] = np.nan
    profile = np.zeros((len(users), len(PROFILE_FEATURES)), np.float32)
    views = rng.integers(1, 30, USERS)[users]
    profile[:, PROFILE_FEATURES.index("log_views")] = np.log1p(views)
    return Slice(TARGETS, labels, profile, users * 7 + 5, np.arange(len(users)) % 2 == 0), truth


def rivals(truth: np.ndarray, blur: float = 0.5) -> dict[str, np.ndarray]:
    flat = np.broadcast_to(truth.mean(axis=0), truth.shape)
    nearly = (1 - blur) * truth + blur * flat
    return {"base_rate": flat, "recency": nearly, "logistic": nearly, "rhythm": truth}


def failures(verdict: Verdict) -> set[tuple[str, str, str]]:
    return {(check.name, check.target, check.segment) for check in verdict.failed}


@pytest.mark.slow
def test_the_truth_passes_and_the_same_seed_says_the_same() -> None:
    found, truth = shop()
    verdict = judge(found, truth, rivals(truth), RULES)
    verdict.require("gru")
    assert len(verdict.checks) == 2 * 2 + 2 * 2 * 3 + 1
    assert verdict == judge(found, truth, rivals(truth), RULES)
    assert verdict.segments["purchase"][COLD]["log_loss"] > 0


def waits(seed: int = 5) -> tuple[Slice, np.ndarray]:
    """A third bin of each point's wait is known if no purchase came in the two before."""
    rng = np.random.default_rng(seed)
    users = np.arange(USERS).repeat(POINTS)
    truth = rng.uniform(0.05, 0.6, (USERS, 3))[users]
    drawn = rng.random(truth.shape) < truth
    labels = drawn.astype(np.float32)
    came = np.cumsum(drawn, axis=1) - drawn > 0
    labels[came] = np.nan
    profile = np.zeros((len(users), len(PROFILE_FEATURES)), np.float32)
    events = np.ones(len(users), np.bool_)
    return Slice(hazard_targets(6, (1, 2, 3)), labels, profile, users, events), truth


def test_the_bins_of_a_wait_are_judged_as_the_one_question_they_answer() -> None:
    found, truth = waits()
    verdict = judge(found, truth, rivals(truth), RULES, ("old", truth))
    verdict.require("gru")
    names = [(check.name, check.target) for check in verdict.checks if check.segment == EVENT]
    assert [name for name in names if name[0] == "calibrated"] == [
        ("calibrated", f"hazard_{place}") for place in range(3)
    ]
    better = next(check for check in verdict.checks if check.name == "better than base_rate")
    assert (better.target, better.points) == ("wait", len(found.labels))
    # The likelihood of a censored wait: the sum over the bins that are known.
    total = np.nansum(losses(found.labels, truth), axis=1).mean()
    assert better.ours == pytest.approx(total)  # All users have as many examples.
    against = [c for c in verdict.checks if c.name == "not worse than the champion"]
    assert {check.target for check in against} == {"wait"}


def test_a_wait_passes_though_one_bin_tells_nothing_and_fails_if_all_do() -> None:
    found, truth = waits()
    flat = np.broadcast_to(truth.mean(axis=0), truth.shape)
    dull = truth.copy()
    dull[:, 2] = flat[:, 2]
    judge(found, dull, {"base_rate": flat}, RULES).require("gru")
    failed = failures(judge(found, flat, {"base_rate": flat}, RULES))
    assert failed == {("better than base_rate", "wait", ALL)}


def test_what_is_not_surely_better_is_refused_with_each_check_and_its_figures() -> None:
    found, truth = shop()
    blurred = rivals(truth)["recency"]
    verdict = judge(found, blurred, rivals(truth), RULES)
    assert failures(verdict) == {
        ("better than recency", "purchase", ALL),
        ("better than recency", "churn", ALL),
        ("better than logistic", "", ALL),
    }
    with pytest.raises(TrainingError) as refusal:
        verdict.require("gru")
    known = ~np.isnan(found.labels[:, 0])
    loss = np.mean(
        [
            np.average(
                losses(found.labels, blurred)[part, 0], weights=user_weights(found.users[part])
            )
            for part in (known & found.at_event, known & ~found.at_event)
        ]
    )
    refused = f"failed: better than recency (purchase, all): {loss:.4f} against"
    assert refused in str(refusal.value)
    assert "difference +0.0000 to +0.0000" in str(refusal.value)
    assert "better than logistic (all targets, all)" in str(refusal.value)


def test_a_model_that_is_too_sure_of_itself_is_not_calibrated() -> None:
    found, truth = shop()
    sure = 1 / (1 + np.exp(-4 * np.log(truth / (1 - truth))))
    failed = failures(judge(found, sure, {}, RULES))
    assert failed == {
        ("calibrated", target, part) for target in ("purchase", "churn") for part in POPULATIONS
    }


def test_a_bias_of_one_population_is_not_hidden_by_the_other() -> None:
    found, truth = shop()
    # Too high at events and too low in inactivity: all together the rates match.
    bent = np.where(found.at_event[:, None], np.minimum(truth + 0.2, 1), np.maximum(truth - 0.2, 0))
    failed = failures(judge(found, bent, {}, replace(RULES, max_ece=0.05)))
    assert failed == {
        ("calibrated", target, part) for target in ("purchase", "churn") for part in POPULATIONS
    }
    rows = judge(found, truth, {}, RULES).populations["churn"]
    assert set(rows) == set(POPULATIONS)
    assert all(row["ece"] < 2 * row["ece_chance"] for row in rows.values())
    assert rows["timer"]["users"] == USERS


def test_a_baseline_that_is_surely_better_in_one_population_refuses() -> None:
    found, truth = shop()
    ours = truth.copy()
    ours[~found.at_event] = 0.5
    flat = rivals(truth)["base_rate"]
    baselines = {"recency": np.where(found.at_event[:, None], flat, truth)}
    worse = failures(judge(found, ours, baselines, RULES))
    assert {one for one in worse if one[0].startswith("not worse")} == {
        ("not worse than recency", target, TIMER) for target in ("purchase", "churn")
    }


def test_a_user_of_many_examples_counts_once() -> None:
    found, truth = shop()
    talker = found.users == found.users[0]
    many = np.concatenate([np.arange(len(truth)), np.repeat(np.flatnonzero(talker), 500)])
    wrong = truth.copy()
    wrong[talker] = np.where(found.labels[talker] > 0, 0.01, 0.99)
    grown = Slice(
        TARGETS, found.labels[many], found.profile[many], found.users[many], found.at_event[many]
    )
    verdict = judge(grown, wrong[many], {}, RULES)
    assert not verdict.failed


def test_few_points_do_not_make_a_perfect_model_look_badly_calibrated() -> None:
    found, truth = shop()
    few = slice(0, 60)
    part = Slice(
        TARGETS, found.labels[few], found.profile[few], found.users[few], found.at_event[few]
    )
    verdict = judge(part, truth[few], {}, replace(RULES, max_ece=0.02))
    assert all(check.ours > 0.02 for check in verdict.checks)
    assert not verdict.failed


def test_one_bad_segment_is_found_behind_a_better_whole() -> None:
    found, truth = shop()
    base = rivals(truth, blur=0.4)
    ours = truth.copy()
    cold = np.expm1(found.profile[:, PROFILE_FEATURES.index("log_views")]).round() < 5
    ours[cold] = 1 - truth[cold]
    verdict = judge(found, ours, {}, RULES, ("champion-1", base["recency"]))
    champion = {found for found in failures(verdict) if found[0].startswith("not worse")}
    assert {segment for _, _, segment in champion} >= {COLD}
    assert all(segment != "events: 20 to 99" for _, _, segment in champion)
    assert verdict.champion == "champion-1"
    row = verdict.segments["purchase"][COLD]
    assert row["champion.log_loss"] < row["log_loss"]


def test_a_challenger_equal_to_the_champion_is_not_worse() -> None:
    found, truth = shop()
    verdict = judge(found, truth, {}, RULES, ("champion-1", truth))
    judged = [check for check in verdict.checks if check.name.startswith("not worse")]
    assert len(judged) > 8
    assert not verdict.failed


def test_segments_of_few_users_are_not_judged() -> None:
    found, truth = shop()
    verdict = judge(found, truth, {}, replace(RULES, min_users=USERS + 1), ("champion-1", truth))
    assert not [check for check in verdict.checks if check.name.startswith("not worse")]


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    groups = np.arange(60).repeat(10)
    rules = GateRules(resamples=200)
    inside = 0
    for _ in range(200):
        # Users differ from each other: points taken for independent would give a third of it.
        values = rng.normal(0, 1, 60)[groups] + rng.normal(0, 1, 600)
        low, high = interval(values, groups, rules)
        inside += low <= 0 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_many_comparisons_widen_the_interval() -> None:
    rng = np.random.default_rng(12)
    values, groups = rng.normal(0, 1, 600), np.arange(60).repeat(10)
    one = interval(values, groups, RULES)
    many = interval(values, groups, RULES, comparisons=40)
    assert many[0] < one[0] < one[1] < many[1]


@pytest.mark.slow
def test_more_users_than_groups_are_drawn_in_groups() -> None:
    rng = np.random.default_rng(13)
    users = np.arange(3000).repeat(2)
    truth = rng.uniform(0.1, 0.9, (6000, 2))
    labels = (rng.random(truth.shape) < truth).astype(np.float32)
    profile = np.zeros((6000, len(PROFILE_FEATURES)), np.float32)
    events = np.ones(6000, np.bool_)
    found = Slice(TARGETS, labels, profile, users, events)
    verdict = judge(found, truth, rivals(truth), RULES)
    assert not verdict.failed
