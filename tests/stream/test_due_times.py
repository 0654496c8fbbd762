"""The timer index made on the way against the newest due time of each user in a dictionary."""

from __future__ import annotations

import random

import pytest

from stream.due_times import DueTimes


def index_of(dues: dict[bytes, int | None]) -> list[bytes]:
    return sorted(b"t" + due.to_bytes(8, "big") + key for key, due in dues.items() if due)


@pytest.mark.parametrize("most", [3000, 100_000])
def test_the_newest_due_time_of_each_user_is_in_the_index(most):
    chance = random.Random(7)
    found, newest = DueTimes(most), {}
    for _ in range(12):
        keys = [b"u" + b"%d" % chance.randrange(3000) * chance.choice((1, 3)) for _ in range(900)]
        dues = [chance.choice((None, chance.randrange(1, 500), 2**61 + 1)) for _ in keys]
        found.add(keys, dues)
        newest |= dict(zip(keys, dues, strict=True))
        if len(newest) > most:
            break
    if len(newest) <= most:
        assert found.complete
        assert list(found.entries()) == index_of(newest)


def test_nobody_has_no_index():
    found = DueTimes()
    assert list(found.entries()) == []
    found.add([], [])
    found.add([b"ua"], [None])
    assert list(found.entries()) == []


def test_too_many_users_are_given_up():
    found = DueTimes(most_users=10)
    found.add([b"u%d" % n for n in range(10)] * 3, [1] * 30)
    assert found.complete
    found.add([b"u%d" % n for n in range(21)], [1] * 21)
    assert not found.complete
    found.add([b"ua"], [5])
    assert list(found.entries()) == []
