import numpy as np

from stream.records import Records, Row

ROWS = [Row(3, 10, b"a", b"1"), Row(4, 20, None, b"2"), Row(9, 30, b"c", None)]


def test_columns_give_back_the_rows_that_they_were_made_of():
    records = Records.of(ROWS)

    assert list(records) == ROWS
    assert records.keys == [b"a", None, b"c"]
    assert records.values == [b"1", b"2", None]
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
