"""Figures of a ranking, and of those that need no model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.networks.next_head import NextConfig
from models.ranking.fit import fit_next, make_head
from models.ranking.judge import GAIN, POPULARITY, RECENT, distinct, hits, judge, popular
from tests.models.ranking.test_fit import FIT, SPEC, circles, windows


def test_hits() -> None:
    assert hits(np.array([5, 6, 7]), 5) == (1.0, 1.0)
    assert hits(np.array([5, 6, 7]), 7) == (1.0, 0.5)
    assert hits(np.arange(20), 10) == (0.0, 0.0)


def test_distinct_keeps_the_order() -> None:
    assert distinct(np.array([3, 1, 3]), np.array([2, 1, 9])).tolist() == [3, 1, 2, 9]


def test_popular_codes_are_the_most_frequent_ones() -> None:
    codes = np.repeat(np.arange(15), np.append(99, np.arange(14, 0, -1)))
    assert popular(codes).tolist() == list(range(1, 11))


@pytest.mark.slow
def test_a_head_is_judged_by_what_it_can_tell_beside_what_needs_no_model() -> None:
    torch.manual_seed(3)
    train, others = circles(96, 0), circles(24, 1)
    head = make_head(SPEC, None, train, NextConfig())
    fit_next(head, None, train, others, FIT, "test")
    favourites = popular(train.ids[:, head.column])
    moments, covered, figures = judge(head, None, others, favourites, 0)
    assert moments == 24 * 13
    assert covered == 1.0
    # Of a circle of three the next one was there three events ago: the third in a ranking of what
    # was there lately; the last two codes come before it.
    again = 12 / 13
    assert figures[RECENT][GAIN] == pytest.approx(0.5 * again, abs=0.05)
    assert figures[POPULARITY][GAIN] < 0.25
    assert figures[""][GAIN] > 0.85
    assert figures[""]["hr_10"] >= figures[""][GAIN]


def test_what_is_outside_the_vocabulary_is_missed() -> None:
    torch.manual_seed(3)
    train = circles(96, 0)
    head = make_head(SPEC, None, train, NextConfig(), most=20)
    moments, covered, figures = judge(head, None, circles(24, 1), np.array([41]), 0)
    assert 0.2 < covered < 0.8
    assert figures[""]["hr_10"] <= covered
    assert figures[POPULARITY]["hr_10"] == 0
    assert figures[RECENT]["hr_10"] > 0.9
    assert moments == 24 * 13


def test_without_moments_there_are_no_figures() -> None:
    head = make_head(SPEC, None, circles(8, 0), NextConfig())
    assert judge(head, None, windows([[1, 2]]), np.array([1]), 0) == (0, 0.0, {})
