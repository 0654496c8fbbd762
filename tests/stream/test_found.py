"""Records in the bytes of a fetch: the newest of each key, and several fetches as one."""

from __future__ import annotations

import random

from stream.found import Found
from stream.records import Records, Row


def some(first: int, count: int, chance: random.Random) -> list[Row]:
    names = [b"ua", b"ub", b"m", b"f", b"", None, b"u" + b"long" * 30]
    values = [b"", None, b"value", bytes(300)]
    return [
        Row(first + n, 5 + n, chance.choice(names), chance.choice(values)) for n in range(count)
    ]


def test_what_is_found_is_given_back_as_it_was():
    rows = some(7, 200, random.Random(1))
    assert list(Found.of(rows).records()) == rows
    assert list(Records.of(rows)) == rows


def test_several_are_one():
    chance = random.Random(2)
    parts = [some(0, 50, chance), [], some(60, 1, chance), some(100, 70, chance)]
    together = Found.together([Found.of(part) for part in parts])
    assert list(together.records()) == [row for part in parts for row in part]
    assert len(together) == 121


def test_the_newest_of_each_chosen_key_comes_in_order():
    rows = some(0, 500, random.Random(3))
    newest = {row.key: row.value for row in rows if row.key and row.key[0] in b"um"}
    assert list(Found.of(rows).newest(b"um")) == sorted(newest.items())
    assert list(Found.of([]).newest(b"um")) == []
