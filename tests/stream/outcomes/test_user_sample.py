"""Which users are followed when there are too many."""

from __future__ import annotations

import pytest

from stream.outcomes.user_sample import UserSample


def test_at_first_everybody_is_followed():
    sample = UserSample()
    assert sample.share == 1
    assert all(sample.keeps(f"u{number}") for number in range(100))


def test_every_second_one_is_left_out_and_stays_out():
    sample, users = UserSample(), [f"u{number}" for number in range(4000)]
    kept = set(users)
    for halvings in range(1, 4):
        sample.halve()
        still = {user for user in users if sample.keeps(user)}
        assert sample.share == 0.5**halvings
        assert still < kept
        assert len(still) / len(users) == pytest.approx(sample.share, abs=0.03)
        kept = still
