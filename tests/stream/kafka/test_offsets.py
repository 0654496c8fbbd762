"""Where a partition begins to read."""

import pytest
from aiokafka import TopicPartition

from stream.errors import OffsetError
from stream.kafka.offsets import SourceOffsets, starting_offset

TP = TopicPartition("events", 1)


@pytest.mark.parametrize(
    ("committed", "state", "begin", "end", "expected"),
    [
        (None, -1, 0, 0, 0),
        (None, -1, 7, 10, 7),
        (5, 5, 0, 10, 5),
        (3, 5, 0, 10, 5),
        (8, 5, 0, 10, 8),
        (None, 5, 0, 10, 5),
        (5, 5, 8, 10, 8),
        (10, 10, 0, 10, 10),
    ],
)
def test_reading_starts_where_state_and_group_agree(committed, state, begin, end, expected):
    assert starting_offset(TP, SourceOffsets(committed, begin, end), state) == expected


def test_a_topic_that_was_made_anew_is_refused():
    with pytest.raises(OffsetError, match=r"events-1.*deleted and created again.*new app_id"):
        starting_offset(TP, SourceOffsets(50, 0, 10), 50)
