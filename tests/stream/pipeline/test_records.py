"""Records in the bytes of a fetch: rows, parts, the newest of each key, several fetches as one."""

import random

import numpy as np
import pytest

from stream.pipeline.records import Records, Row

ROWS = [Row(3, 10, b"a", b"1"), Row(4, 20, None, b"2"), Row(9, 30, b"c", None)]


def test_columns_give_back_the_rows_that_they_were_made_of():
    records = Records.of(ROWS)

    assert list(records) == ROWS
    assert records.keys == [b"a", None, b"c"]
    assert [row.value for row in records] == [b"1", b"2", None]
    assert records.offsets.tolist() == [3, 4, 9]
    assert records.timestamps.tolist() == [10, 20, 30]
    assert records[-1] == ROWS[-1]
    assert Records.of(records) is records


def test_a_part_is_columns_too():
    part = Records.of(ROWS)[1:]

    assert isinstance(part, Records)
    assert list(part) == ROWS[1:]


def test_reading_on_from_an_offset_that_compaction_may_have_removed():
    records = Records.of(ROWS)

    for offset, first in ((0, 0), (3, 0), (4, 1), (5, 2), (9, 2), (10, 3)):
        assert list(records.from_offset(offset)) == ROWS[first:]


def test_nothing_is_columns_of_the_right_type():
    records = Records.of(())

    assert not records
    assert records.offsets.dtype == records.timestamps.dtype == np.int64


def some(first: int, count: int, chance: random.Random) -> list[Row]:
    names = [b"ua", b"ub", b"m", b"f", b"", None, b"u" + b"long" * 30]
    values = [b"", None, b"value", bytes(300)]
    return [
        Row(first + n, 5 + n, chance.choice(names), chance.choice(values)) for n in range(count)
    ]


def test_what_is_found_is_given_back_as_it_was():
    rows = some(7, 200, random.Random(1))
    assert list(Records.of(rows)) == rows


def test_several_are_one():
    chance = random.Random(2)
    parts = [some(0, 50, chance), [], some(60, 1, chance), some(100, 70, chance)]
    together = Records.together([Records.of(part) for part in parts])
    assert list(together) == [row for part in parts for row in part]
    assert len(together) == 121


@pytest.mark.slow
def test_the_newest_of_each_chosen_key_comes_in_order():
    rows = some(0, 500, random.Random(3))
    newest = {row.key: row.value for row in rows if row.key and row.key[0] in b"um"}
    assert list(Records.of(rows).newest(b"um")) == sorted(newest.items())
    assert list(Records.of([]).newest(b"um")) == []
