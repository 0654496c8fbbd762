"""Where a partition begins to read."""

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from stream.errors import OffsetError
from stream.kafka.offsets import SourceOffsets, Start, starting_point

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
        (10, 10, 0, 10, 10),
    ],
)
def test_reading_starts_where_state_and_group_agree(committed, state, begin, end, expected):
    assert starting_point(TP, SourceOffsets(committed, begin, end), state) == Start(expected)


def test_what_retention_deleted_unread_is_counted_and_logged() -> None:
    with capture_logs() as logs:
        assert starting_point(TP, SourceOffsets(5, 8, 10), 4) == Start(8, lost=3)
    (line,) = [line for line in logs if "lost" in line]
    assert (line["partition"], line["lost"]) == ("events-1", 3)
    assert (line["from_offset"], line["to_offset"]) == (5, 8)


@pytest.mark.parametrize(("group", "what"), [(3, "lies before the state's"), (8, "skipped")])
def test_a_group_offset_that_was_moved_gets_one_line(group: int, what: str) -> None:
    with capture_logs() as logs:
        starting_point(TP, SourceOffsets(group, 0, 10), 5)
    (line,) = logs
    assert what in line["event"]
    assert (line["group"], line["state"]) == (group, 5)


def test_a_topic_that_was_made_anew_is_refused():
    with pytest.raises(OffsetError, match=r"events-1.*deleted and created again.*new app_id"):
        starting_point(TP, SourceOffsets(50, 0, 10), 50)
