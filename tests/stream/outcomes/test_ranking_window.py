"""Rolling figures of judged rankings."""

from __future__ import annotations

import pytest

from models.ranking.judge import gain
from stream.outcomes.ranking_window import JudgedRanking, RankingWindow


def judged(place: int | None, *, last: bool = False) -> JudgedRanking:
    return JudgedRanking(0, "shoes", last, 0.0 if place is None else gain(place))


def test_figures_are_means_over_the_window():
    window = RankingWindow(10)
    assert window.figures() is None
    for row in (judged(0, last=True), judged(2), judged(None), judged(None, last=True)):
        window.add(row)
    figures = window.figures()
    assert (figures.total, figures.judged) == (4, 4)
    assert (figures.hit_rate, figures.last_hit_rate) == (0.5, 0.5)
    # The gain of the third place is 1 / log2(4).
    assert figures.ndcg == pytest.approx((1 + 0.5) / 4)


def test_it_rolls():
    window = RankingWindow(3)
    for place in (None, None, 0, 0, 0):
        window.add(judged(place))
    figures = window.figures()
    assert (figures.total, figures.judged, figures.hit_rate) == (5, 3, 1)


def test_what_is_written_over_shows():
    window, row = RankingWindow(3), judged(None)
    window.add(row)
    row.gain = gain(1)
    assert window.figures().hit_rate == 1
