"""The timer index made on the way against the newest due time of each user in a dictionary."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stream.kernels.buffers import joined
from stream.pipeline.due_times import NO_DUE, DueTimes, dues_of
from tests.stream.runs import each

pytestmark = pytest.mark.slow


def index_of(dues: dict[bytes, int | None]) -> list[bytes]:
    return sorted(b"t" + due.to_bytes(8, "big") + key for key, due in dues.items() if due)


def add(found: DueTimes, keys: list[bytes], dues: list[int | None]) -> None:
    data, ends = joined(keys)
    numbers = np.array([NO_DUE if due is None else due for due in dues], np.int64)
    found.add(data, ends - [len(key) for key in keys], ends, numbers)


def entries(found: DueTimes) -> list[bytes]:
    run = found.index()
    assert (run.value_begins == run.value_ends).all()
    return [
        run.data[begin:end].tobytes()
        for begin, end in zip(run.key_begins, run.key_ends, strict=True)
    ]


@pytest.mark.parametrize("most", [3000, 100_000])
def test_the_newest_due_time_of_each_user_is_in_the_index(most):
    chance = random.Random(7)
    found, newest = DueTimes(most), {}
    for _ in range(12):
        keys = [b"u" + b"%d" % chance.randrange(3000) * chance.choice((1, 3)) for _ in range(900)]
        dues = [chance.choice((None, chance.randrange(1, 500), 2**61 + 1)) for _ in keys]
        add(found, keys, dues)
        newest |= dict(zip(keys, dues, strict=True))
        if len(newest) > most:
            break
    if len(newest) <= most:
        assert found.complete
        assert entries(found) == index_of(newest)


def test_nobody_has_no_index():
    found = DueTimes()
    assert entries(found) == []
    add(found, [], [])
    add(found, [b"ua"], [None])
    assert entries(found) == []


def test_too_many_users_are_given_up():
    found = DueTimes(most_users=10)
    add(found, [b"u%d" % n for n in range(10)] * 3, [1] * 30)
    assert found.complete
    add(found, [b"u%d" % n for n in range(21)], [1] * 21)
    assert not found.complete
    add(found, [b"ua"], [5])
    assert entries(found) == []


def test_due_times_of_records_and_of_none():
    values = [b"7", None, b"-", b"30"]
    due_of = each(lambda value: None if value == b"-" else int(value))
    assert dues_of(due_of, values) == [7, None, None, 30]
    assert dues_of(due_of, []) == []
