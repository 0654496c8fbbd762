"""Alarms of `intentstream status`: of what serves now, in lines that can be read."""

from __future__ import annotations

import msgspec

from schemas.control import ModelPublished, WorkerStatus
from stream.operations.alarms import alarms_of

NOW = 1_700_000_000_000
BEAT = WorkerStatus(
    worker_id="w1",
    partition=0,
    offset=50,
    high_water=50,
    watermark=NOW,
    consumed=50,
    accepted=50,
    duplicate=0,
    late=0,
    invalid=0,
    predictions=50,
    alerts=2,
    model_version="m1",
    users=10,
    updated_at=NOW,
    timers_due_at=NOW,
)
SECOND = ModelPublished(
    version="m2",
    digest="0" * 64,
    uri="m2",
    architecture="gru",
    feature_version="1",
    metrics={},
    published_at=NOW + 1,
)
DRIFTED = {f"input_{n:02}": 1 + n / 10 for n in range(12)}


def beat(**changes: object) -> WorkerStatus:
    return msgspec.structs.replace(BEAT, **changes)


def test_drift_of_many_inputs_is_one_line() -> None:
    beats = [beat(stability=DRIFTED), beat(partition=1, stability={"input_11": 0.5})]
    (alarm,) = alarms_of(beats, {}, None)
    assert alarm.startswith("m1: 12 of its inputs have drifted since its training")
    assert alarm.endswith("input_11 2.10, input_10 2.00, input_09 1.90 and 9 more")
    assert alarms_of([beat(stability={"orders": 0.25})], {}, None) == []


def test_events_beyond_the_overflow_are_named_with_the_remedy() -> None:
    (alarm,) = alarms_of([beat(overflow=1_200), beat(partition=1, overflow=34), beat()], {}, None)
    assert alarm.startswith("1,234 events were within the grace")
    assert "raise state.overflow" in alarm


def test_drift_of_a_replaced_model_is_not_shown() -> None:
    assert alarms_of([beat(stability=DRIFTED)], {}, SECOND) == []
    assert alarms_of([beat(model_version="m2", updated_at=NOW + 9)], {}, SECOND) == []


def test_a_model_that_stays_keeps_its_alarms() -> None:
    refused = beat(stability=DRIFTED, updated_at=NOW + 9)
    assert len(alarms_of([refused], {}, SECOND)) == 1
    shadow = msgspec.structs.replace(SECOND, rollout="shadow")
    assert len(alarms_of([beat(stability=DRIFTED)], {}, shadow)) == 1


def test_who_sends_wrong_times_is_told_by_type_and_by_an_example() -> None:
    beats = [
        beat(
            ahead=100,
            offsets={"28800000": 100},
            skewed={"view": 90, "purchase": 10},
            skewed_at=41,
            updated_at=NOW + 9,
        ),
        beat(partition=1, behind=5, skewed={"view": 5}, skewed_at=7),
        beat(partition=2),
    ]
    zone, ahead, producers = alarms_of(beats, {}, None)
    assert "(UTC+8)" in zone
    assert ahead.startswith("100 events were ahead")
    assert (
        "by type: view 95, purchase 10; the last one lies at offset 41 of partition 0" in producers
    )
    # Devices that send hours later are no fault.
    assert alarms_of([beat(behind=5, skewed={"view": 5}, skewed_at=7)], {}, None) == []
