"""Each user's true hazards, and the probability of a purchase that follows from them.

While a user stays, purchases are a Poisson process of the user's own rate (gamma-distributed over
users) and leaving has a constant hazard of the user's own; what the Pareto/NBD model assumes
(Schmittlein, Morrison and Colombo 1987), here without error.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream.simulate.plan import DAY_MS, Plan

__all__ = ["Truth", "draw_truth", "user_id"]

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

_EARLY_SHARE = 0.5
"""Users who are there from the beginning; the others arrive evenly over the period."""
_COUPLING = 0.5
"""Rank correlation, roughly, between browsing and buying."""
_LEAVE_SHAPE = 2.0
"""Gamma shape of the hazard of leaving. Above 1 the mean lifetime is finite."""
_EXPECTATION_DRAWS = 1 << 16


@dataclass(frozen=True)
class Truth:
    """The hazards of U users; the arrays have shape [U].

    Attributes:
        plan: what was simulated.
        purchase_per_day: rate of purchases while the user stays; 0 for bots.
        leave_per_day: hazard of leaving.
        first: when the user arrived, in milliseconds.
        left: when the user left for good, in milliseconds; may be after the period.
        activity: browsing relative to others.
        bot: whether the user is a bot.
    """

    plan: Plan
    purchase_per_day: Floats
    leave_per_day: Floats
    first: Times
    left: Times
    activity: Floats
    bot: npt.NDArray[np.bool_]

    def true_probability(
        self, user: int | npt.NDArray[np.int64], t: int | Times, horizon_ms: int
    ) -> Floats:
        """Probability of at least one purchase in (t, t + horizon], knowing the user's hazards.

        It is conditioned on whether the user is still there at `t`, but not on when the user will
        leave: rate / (rate + leave) * (1 - exp(-(rate + leave) * horizon)), and 0 for who has
        left. Browsing that leads up to a purchase says more over minutes; this does not use it.

        Args:
            user: index, or indices, of users (see `user_id`).
            t: milliseconds since the epoch; the horizon of a user not yet there is shortened.
            horizon_ms: length of the window.
        """
        rate = self.purchase_per_day[user]
        total = rate + self.leave_per_day[user]
        first = self.first[user]
        days = np.maximum(horizon_ms - np.maximum(first - np.asarray(t), 0), 0) / DAY_MS
        probability = rate / total * -np.expm1(-total * days)
        return np.where(self.left[user] <= t, 0.0, probability)


def user_id(index: int) -> str:
    """Return the `user_id` on the wire of the user at this index."""
    return f"u{index:07d}"


def draw_truth(plan: Plan, random: np.random.Generator) -> Truth:
    """Draw users; their purchase rates are scaled to the plan's expected number of purchases."""
    users = plan.users
    first, left, leave = _stay(plan, random, users)
    browsing = random.standard_normal(users)
    mixed = _COUPLING * browsing + np.sqrt(1 - _COUPLING**2) * random.standard_normal(users)
    rates = np.empty(users)
    # Giving sorted rates out by rank couples them to browsing and leaves them exactly gamma.
    rates[np.argsort(mixed)] = np.sort(random.gamma(plan.rate_shape, 1 / plan.rate_shape, users))
    bot = random.random(users) < plan.bot_share
    expected = plan.purchase_share * plan.events
    humans = users * (1 - plan.bot_share)
    rates *= expected / (humans * _expected_days(plan))
    return Truth(
        plan=plan,
        purchase_per_day=np.where(bot, 0.0, rates),
        leave_per_day=leave,
        first=first,
        left=left,
        activity=np.exp(plan.activity_sigma * browsing) * np.where(bot, 50.0, 1.0),
        bot=bot,
    )


def _stay(plan: Plan, random: np.random.Generator, users: int) -> tuple[Times, Times, Floats]:
    early = random.random(users) < _EARLY_SHARE
    offset = np.where(early, 0.0, random.random(users) * plan.days)
    # The mean of 1/gamma(shape, 1) is 1 / (shape - 1).
    leave = random.gamma(_LEAVE_SHAPE, 1.0, users) / ((_LEAVE_SHAPE - 1) * plan.mean_lifetime)
    lifetime = random.exponential(1.0, users) / leave
    first = plan.start + (offset * DAY_MS).astype(np.int64)
    # A first event needs room: nobody stays less than a millisecond or arrives after the end.
    first = np.minimum(first, plan.end - 1)
    stay = np.clip(lifetime * DAY_MS, 1, 1 << 50).astype(np.int64)
    return first, first + stay, leave


def _expected_days(plan: Plan) -> float:
    """Mean days a user is there inside the period, from draws that are not the shop's users.

    Scaling by the users' own stays would make a small shop's rates depend on them.
    """
    random = np.random.default_rng([plan.seed, 1])
    first, left, _ = _stay(plan, random, _EXPECTATION_DRAWS)
    return float(np.mean(np.minimum(left, plan.end) - first)) / DAY_MS
