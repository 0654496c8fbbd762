"""The simulated funnel: its true probability, and that only the order tells of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from models.evaluate import roc_auc
from models.evaluation.sessions.funnel import (
    BROWSING,
    CYCLE,
    INTENT,
    Funnel,
    FunnelPlan,
    draw_funnel,
    filtered,
    type_moves,
)
from models.history import PURCHASE

PLAN = FunnelPlan(users=600)
GAP = 1_800_000


@pytest.fixture(scope="module")
def shop() -> Funnel:
    return draw_funnel(PLAN)


def sessions(shop: Funnel) -> list[slice]:
    time, users = shop.log.events.time, shop.log.users
    begins = np.append(True, (users[1:] != users[:-1]) | (np.diff(time) > GAP))
    starts = np.flatnonzero(begins)
    return [slice(a, b) for a, b in zip(starts, np.append(starts[1:], len(time)), strict=True)]


def labels_of(shop: Funnel) -> np.ndarray:
    labels = np.zeros(len(shop.log))
    for each in sessions(shop):
        labels[each] = shop.log.events.type[each.stop - 1] == PURCHASE
    return labels


def test_the_posterior_equals_a_sum_over_all_paths() -> None:
    """The forward algorithm against brute force over the hidden states of a short session."""
    kinds, categories = [0, 1, 1, 0, 2], [3, 3, 1, 1, 2]
    moves, buys = PLAN.moves, np.array(PLAN.buys)
    weights = np.zeros(2)
    for path in np.ndindex(*(2,) * len(kinds)):
        weight = PLAN.initial[path[0]]
        for place in range(1, len(kinds)):
            state = path[place]
            step = (kinds[place] - kinds[place - 1]) % len(CYCLE)
            weight *= moves[path[place - 1], state] * (1 - buys[state] - PLAN.leaves)
            weight *= type_moves(PLAN, state, categories[place])[step]
        weights[path[-1]] += weight
    assert filtered(PLAN, kinds, categories)[-1] == pytest.approx(weights / weights.sum())


def test_the_rest_of_the_session_equals_a_long_walk() -> None:
    state, bought = np.eye(2), np.zeros(2)
    for _ in range(2000):
        state = state @ PLAN.moves
        bought += state @ np.array(PLAN.buys)
        state = state * (1 - np.array(PLAN.buys) - PLAN.leaves)
    assert PLAN.rest() == pytest.approx(bought, abs=1e-9)


@pytest.mark.slow
def test_true_probabilities_are_calibrated(shop: Funnel) -> None:
    running = shop.log.events.type != PURCHASE
    labels, truth = labels_of(shop)[running], shop.truth[running]
    edges = np.quantile(truth, [0, 0.25, 0.5, 0.75, 1])
    for low, high in pairwise(edges):
        inside = (truth >= low) & (truth <= high)
        assert labels[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.03)
    assert roc_auc(labels, truth) > 0.72


@pytest.mark.slow
def test_shares_of_event_types_tell_nothing(shop: Funnel) -> None:
    kinds_of, bought = [], []
    for each in sessions(shop):
        kinds = shop.log.events.type[each]
        shown = kinds[kinds != PURCHASE]
        kinds_of.append([np.mean(shown == kind) for kind in CYCLE])
        bought.append(kinds[-1] == PURCHASE)
    shares, labels = np.array(kinds_of), np.array(bought)
    assert 1000 < labels.sum() < len(labels) - 1000
    for column in range(len(CYCLE)):
        assert abs(roc_auc(labels, shares[:, column]) - 0.5) < 0.03


def test_states_move_round_the_cycle_in_opposite_directions() -> None:
    for category in range(PLAN.categories):
        stay, forward, back = type_moves(PLAN, INTENT, category)
        assert (stay, back, forward) == tuple(type_moves(PLAN, BROWSING, category))
    forward_in = [type_moves(PLAN, INTENT, c)[1] > 0.5 for c in range(PLAN.categories)]
    assert 0 < sum(forward_in) < PLAN.categories


def test_a_draw_repeats() -> None:
    one, two = (draw_funnel(FunnelPlan(users=5)) for _ in range(2))
    assert np.array_equal(one.truth, two.truth)
    assert np.array_equal(one.log.events.time, two.log.events.time)
