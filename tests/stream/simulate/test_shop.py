import numpy as np
import pytest

from schemas.events import EventType
from stream.simulate import Plan, simulate
from stream.simulate.plan import DAY_MS

START = 1_704_067_200_000


@pytest.fixture(scope="module")
def shop():
    return simulate(
        Plan(users=20_000, events=400_000, start=START, days=30, seed=5, bot_share=0.01)
    )


def test_exactly_as_many_events_in_order_inside_every_user_s_stay(shop):
    truth = shop.truth
    assert len(shop.time) == 400_000
    assert np.all(np.diff(shop.time) >= 0)
    assert np.all(shop.time >= truth.first[shop.user])
    assert np.all(shop.time < truth.left[shop.user])
    assert shop.time.max() < truth.plan.end
    for name in ("user", "kind", "item", "session", "quantity"):
        assert len(getattr(shop, name)) == 400_000
    assert shop.item.max() < truth.plan.items
    assert shop.quantity[shop.kind != EventType.PURCHASE].max() == 1


def test_equal_seeds_equal_events_other_seeds_others():
    plan = Plan(users=10, events=500, start=START, seed=1)
    one, two, other = (simulate(p) for p in (plan, plan, Plan(10, 500, START, seed=2)))
    assert np.array_equal(one.time, two.time)
    assert np.array_equal(one.item, two.item)
    assert not np.array_equal(one.time, other.time)


@pytest.mark.parametrize("events", [1, 2, 7, 40])
@pytest.mark.parametrize("seed", range(10))
def test_tiny_shops(events, seed):
    assert len(simulate(Plan(users=3, events=events, start=START, seed=seed)).time) == events


def test_purchases_follow_the_true_probability(shop):
    """Ten groups of users by true probability: what happened agrees within four standard errors."""
    truth = shop.truth
    users = np.arange(truth.plan.users)
    at, horizon = START + 10 * DAY_MS, 7 * DAY_MS
    probability = truth.true_probability(users, at, horizon)
    inside = (shop.kind == EventType.PURCHASE) & (shop.time > at) & (shop.time <= at + horizon)
    bought = np.isin(users, shop.user[inside])
    assert not bought[probability == 0].any()
    for group in np.array_split(np.argsort(probability), 10):
        expected = probability[group].mean()
        error = np.sqrt(np.sum(probability[group] * (1 - probability[group]))) / len(group)
        assert abs(bought[group].mean() - expected) <= 4 * error + 1e-12


def test_leaving_follows_its_hazard(shop):
    truth = shop.truth
    stayed = (truth.left - truth.first) / DAY_MS
    survives = np.exp(-truth.leave_per_day * 10)
    assert np.mean(stayed > 10) == pytest.approx(survives.mean(), abs=0.015)


def test_shares_and_activity(shop):
    kinds = np.bincount(shop.kind, minlength=8) / len(shop.kind)
    assert kinds[EventType.PURCHASE] == pytest.approx(0.03, rel=0.1)
    assert np.all(kinds[[1, 2, 3, 4, 5]] > 0)
    humans = shop.truth.activity[~shop.truth.bot]
    assert np.log(humans).std() == pytest.approx(1.5, rel=0.05)
    bots = np.flatnonzero(shop.truth.bot)
    assert set(shop.kind[np.isin(shop.user, bots)]) == {EventType.VIEW}


def test_a_purchase_ends_a_session_with_its_item_in_the_cart(shop):
    place = np.flatnonzero(shop.kind == EventType.PURCHASE)[100]
    session = np.flatnonzero(shop.session == shop.session[place])
    assert session[-1] == place
    assert shop.kind[session[-2]] == EventType.CART_ADD
    assert shop.item[session[-2]] == shop.item[place]
    assert len(set(shop.user[session])) == 1
