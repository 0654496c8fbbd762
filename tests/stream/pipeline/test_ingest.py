"""Decoding a micro-batch: columns for the valid, a reason for each of the others."""

from __future__ import annotations

import pytest

from models.encoding import encode_event
from schemas.codec import encode
from schemas.events import Purchase, View
from stream.pipeline.ingest import Ingest, partition_of
from stream.testing import PipedRecord

T = 1_600_000_000_000


def ingest(**changes: object) -> Ingest:
    options: dict[str, object] = {
        "partition": 0,
        "partitions": 1,
        "max_bytes": 10_000,
        "max_future_ms": 1000,
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
    assert ingest(max_future_ms=None).decode([record(0, event)]).refused == []


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
