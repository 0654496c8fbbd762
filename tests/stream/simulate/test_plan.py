import pytest

from stream.simulate import Plan, SimulateError


def test_end_and_lifetime():
    plan = Plan(users=1, events=1, start=1_000, days=0.5)
    assert plan.end == 1_000 + 43_200_000
    assert plan.mean_lifetime == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"events": 0},
        {"start": 0},
        {"days": 0},
        {"days": float("nan")},
        {"seed": -1},
        {"purchase_share": 0.5},
        {"rate_shape": 0},
        {"activity_sigma": -1},
        {"lifetime_days": 0},
        {"bot_share": 1},
        {"items": 3},
    ],
)
def test_impossible_plans_are_refused_by_name(wrong):
    with pytest.raises(SimulateError, match=next(iter(wrong)).partition("_")[0]):
        Plan(**{"users": 10, "events": 10, "start": 1} | wrong)
