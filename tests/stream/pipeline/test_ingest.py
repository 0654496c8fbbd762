"""Decoding a micro-batch: columns for the valid, a reason for each of the others."""

from __future__ import annotations

import pytest

from models.encoding import encode_event
from schemas.codec import encode
from schemas.events import Purchase, View
from schemas.times import EARLIEST
from stream.config.durations import DAY_MS
from stream.pipeline.event_times import EventTimes
from stream.pipeline.ingest import Ingest, partition_of
from stream.testing import PipedRecord

T = 1_600_000_000_000


def ingest(**changes: object) -> Ingest:
    options: dict[str, object] = {
        "partition": 0,
        "partitions": 1,
        "max_bytes": 10_000,
        "times": EventTimes(earliest=EARLIEST, ahead=100, future=1000),
        "check_partitioner": True,
    }
    return Ingest(**{**options, **changes})  # type: ignore[arg-type]


def record(offset: int, event: Purchase | View, key: bytes | None = None) -> PipedRecord:
    return PipedRecord(offset, T, key or event.user_id.encode(), encode(event))


def test_valid_events_become_columns_in_order() -> None:
    events = [
        Purchase(
            event_id=str(i), user_id=f"u{i}", event_time=T + i, item_id="a", price=1.25, quantity=3
        )
        for i in range(3)
    ]
    decoded = ingest().decode([record(10 + i, e) for i, e in enumerate(events)])
    assert decoded.keys == [b"uu0", b"uu1", b"uu2"]
    assert decoded.offsets.tolist() == [10, 11, 12]
    assert decoded.events.time.tolist() == [T, T + 1, T + 2]
    assert decoded.events.amount.tolist() == [37_500] * 3
    assert decoded.events.id.tolist() == [encode_event(e)[1] for e in events]
    assert decoded.refused == []


def test_a_batch_of_nothing_valid_is_empty_but_explained() -> None:
    decoded = ingest().decode([PipedRecord(0, T, b"k", b"{")])
    assert len(decoded.events) == 0
    ((index, cause),) = decoded.refused
    assert (index, cause.reason) == (0, "truncated")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (View(event_id="1", user_id="u", event_time=T + 1001), "future"),
        (
            Purchase(event_id="1", user_id="u", event_time=T, price=1e9, quantity=1_000_000),
            "out_of_range",
        ),
    ],
)
def test_bounds(event: Purchase | View, reason: str) -> None:
    ((_, cause),) = ingest().decode([record(0, event)]).refused
    assert cause.reason == reason


def test_the_future_is_open_without_a_bound() -> None:
    event = View(event_id="1", user_id="u", event_time=T * 2)
    assert ingest(times=EventTimes(EARLIEST, None, None)).decode([record(0, event)]).refused == []


@pytest.mark.parametrize("value", ['{"type":"view"', '{"properties":{},"type":"view"'])
@pytest.mark.parametrize(
    ("time", "reason", "detail"),
    [
        (T // 1000, "out_of_range", "looks like seconds"),
        (T // DAY_MS, "out_of_range", "looks like days"),
        (T * 1_000, "out_of_range", "looks like microseconds"),
        (T * 1_000_000, "out_of_range", "looks like nanoseconds"),
        (T / 1_000 + 0.25, "wrong_type", "looks like seconds"),
        (1, "out_of_range", "before 1990-01-01"),
        (T * 60, "out_of_range", "after the year 2099"),
        (T + 1001, "future", "check the producer's clock"),
    ],
)
def test_impossible_times_are_refused_by_either_decoder(
    value: str, time: float, reason: str, detail: str
) -> None:
    text = f'{value},"event_id":"1","user_id":"u","event_time":{time}}}'.encode()
    good = encode(View(event_id="2", user_id="u", event_time=T))
    records = [PipedRecord(i, T, b"u", v) for i, v in enumerate([good, text, good])]
    decoded = ingest().decode(records)
    ((index, cause),) = decoded.refused
    assert (index, cause.reason, cause.field) == (1, reason, "event_time")
    assert detail in cause.detail
    assert decoded.offsets.tolist() == [0, 2]


def test_an_event_ahead_counts_as_of_its_arrival() -> None:
    events = [View(event_id=str(t), user_id="u", event_time=T + t) for t in (0, 100, 101, 1000)]
    decoded = ingest().decode([record(i, e) for i, e in enumerate(events)])
    assert decoded.events.time.tolist() == [T, T + 100, T, T]
    assert decoded.skews.ahead == 2


@pytest.mark.parametrize("timestamp", [-1, 0])
def test_no_timestamp_is_not_the_future(timestamp: int) -> None:
    event = View(event_id="1", user_id="u", event_time=T)
    decoded = ingest().decode([PipedRecord(0, timestamp, b"u", encode(event))])
    assert (decoded.refused, decoded.events.time.tolist()) == ([], [T])


def test_a_producer_with_another_partitioner_is_caught() -> None:
    users = [f"user-{i}" for i in range(40)]
    records = [
        record(i, View(event_id=str(i), user_id=user, event_time=T)) for i, user in enumerate(users)
    ]
    wrong = [i for i, user in enumerate(users) if partition_of(user.encode(), 12) != 5]
    decoded = ingest(partition=5, partitions=12).decode(records)
    assert [index for index, _ in decoded.refused] == wrong
    assert {cause.reason for _, cause in decoded.refused} == {"wrong_partition"}
    lax = ingest(partition=5, partitions=12, check_partitioner=False).decode(records)
    assert lax.refused == []


def test_partition_of_is_murmur2_as_in_java() -> None:
    # Values of org.apache.kafka.common.utils.Utils.murmur2, from Kafka's own unit tests.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, value in known.items():
        assert partition_of(key, 12) == (value & 0x7FFFFFFF) % 12
