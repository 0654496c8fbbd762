"""One order of several partitions' records, however they arrive."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.merging import Merge


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int


def log(times: list[list[int]]) -> dict[TopicPartition, list[Record]]:
    """One partition per list of times; two of each topic."""
    return {
        TopicPartition(f"t{n // 2}", n % 2): [
            Record(f"t{n // 2}", n % 2, offset, time) for offset, time in enumerate(mine)
        ]
        for n, mine in enumerate(times)
    }


def merged(logs: dict[TopicPartition, list[Record]], seed: int) -> list[Record]:
    """Fetch pieces of any length of whatever is lacking, as brokers answer."""
    rng, merge, found = random.Random(seed), Merge(), []
    at = dict.fromkeys(logs, 0)
    merge.expect(logs)
    behind = list(logs)
    while behind:
        for where in [each for each in behind if merge.lacks(each)]:
            count = rng.randrange(4)
            merge.add(where, logs[where][at[where] : at[where] + count])
            at[where] += count
            if at[where] >= len(logs[where]):
                behind.remove(where)
                merge.close(where)
        found += merge.take()
    return found


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=5), st.integers(), st.integers())
def test_order_does_not_depend_on_fetches(times: list[list[int]], one: int, other: int) -> None:
    logs = log(times)
    found = merged(logs, one)
    assert found == merged(logs, other)
    for where, records in logs.items():
        assert [r for r in found if (r.topic, r.partition) == where] == records


def test_a_topic_may_come_before_all_others() -> None:
    merge, logs = Merge("t1"), log([[1, 2], [], [9], [8]])
    merge.expect(logs)
    for where, records in logs.items():
        merge.add(where, records)
        merge.close(where)
    assert [record.timestamp for record in merge.take()] == [9, 8, 1, 2]


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(1, 9), max_size=9).map(sorted), max_size=5), st.integers())
def test_order_is_that_of_time_topic_partition_and_offset(
    times: list[list[int]], seed: int
) -> None:
    logs = log(times)
    everything = [record for records in logs.values() for record in records]
    everything.sort(key=lambda r: (r.timestamp, r.topic, r.partition, r.offset))
    assert merged(logs, seed) == everything
