"""Up to the peak, down to zero."""

from __future__ import annotations

from itertools import pairwise

import pytest

from models.fitting.config import FitConfig
from models.fitting.schedule import learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_it_rises_to_the_peak_and_falls_to_zero(schedule: str) -> None:
    config = FitConfig(learning_rate=2.0, warm_up=0.1, schedule=schedule)  # type: ignore[arg-type]
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert max(rates) == rates[9] == 2.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0)
    assert rates[55] == pytest.approx(1.0)


def test_constant_stays_at_the_peak() -> None:
    config = FitConfig(learning_rate=2.0, warm_up=0.0, schedule="constant")
    assert {learning_rate(step, 50, config) for step in range(50)} == {2.0}
