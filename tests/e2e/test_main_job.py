"""The main job on the real broker: what goes in comes out, once, whatever is killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from models.serving.scorer import Scorer
from schemas.events import Event, Purchase
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter
from stream.pipeline.ingest import partition_of
from stream.testing import PipelineDriver
from tests.e2e.oracle import assert_equal_to_serial, serial
from tests.e2e.shop import publish, publish_broken, put, put_raw, wait_until
from tests.e2e.world import World
from tests.logs import TARGETS, disordered, duplicated, shop_log
from tests.patience import PATIENCE_S
from tests.stream.replay.files import TAOBAO, needs_taobao, replayed
from tests.stream.replay.test_taobao import SINCE, UNTIL

pytestmark = pytest.mark.kafka

MakeWorld = Callable[..., World]
TAOBAO_SPAN = ("--since", "1511539200", "--until", "1512316800")
IN_SPAN = 84_440
QUICK = {
    "tick_ms": 500,
    "prior_gap_ms": 1500,
    "min_gap_ms": 1000,
    "raise_at": 0.05,
    "raise_untrained": True,
    "resolve_at": 0.01,
    "escalate_after_ms": 86_400_000,
}
"""A shop whose customers come every second and a half."""


@pytest.mark.full
@needs_taobao
@pytest.mark.parametrize("order", ["time", "file"])
def test_taobao_through_a_worker_equals_a_serial_replay(world: MakeWorld, order: str) -> None:
    shop = world(worker={"clock": "event", "emit": "latest"})
    told = shop.run(
        "produce", str(TAOBAO), "--format", "taobao", *TAOBAO_SPAN, "--order", order, "--json", "-"
    )
    assert json.loads(told)["sent"] == IN_SPAN
    worker = shop.start_worker()
    shop.wait_committed(IN_SPAN)
    worker.stop()
    drivers = serial(shop, Scorer.rhythm(TARGETS))
    if order == "time":
        assert sum(d.pipeline.counters.accepted for d in drivers.values()) == IN_SPAN
    histories = shop.histories()
    assert len(histories) == 815
    assert histories == {u: h for d in drivers.values() for u, h in d.histories().items()}


@pytest.mark.full
@needs_taobao
def test_killed_three_times_a_subscriber_sees_what_a_serial_run_gives(world: MakeWorld) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "batch_size": 512},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
    )
    scorer = publish(shop)
    shop.run("produce", str(TAOBAO), "--format", "taobao", *TAOBAO_SPAN)
    for share in (0.1, 0.4, 0.7):
        worker = shop.start_worker()
        shop.wait_committed(int(IN_SPAN * share))
        worker.kill()
    worker = shop.start_worker()
    shop.wait_committed(IN_SPAN)
    worker.stop()
    assert_equal_to_serial(shop, scorer)
    assert len(shop.raw(shop.settings.topics.propensity)) == IN_SPAN


@pytest.mark.full
@pytest.mark.parametrize(
    "stage", ["after_poll", "after_scoring", "before_commit", "after_commit", "before_store"]
)
def test_killed_at_a_stage_boundary_nothing_is_lost_or_doubled(
    world: MakeWorld, stage: str
) -> None:
    shop = world(
        worker={"clock": "event", "emit": "every", "batch_size": 16},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.6,
            "raise_untrained": True,
        },
    )
    scorer = publish(shop)
    # A commit covers at most nine batches, so there are more of them than kills need.
    log = duplicated(disordered(shop_log(31, 1500), 31, 900_000), 31, 0.1)
    put(shop, log)
    for passage in (2, 5):
        worker = shop.start_worker(INTENTSTREAM_FAULT=f"{stage}:{passage}:kill")
        assert worker.process.wait(PATIENCE_S) == -9, worker.said()[-3000:]
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    worker.stop()
    assert_equal_to_serial(shop, scorer)


@pytest.mark.full
def test_at_least_once_repeats_are_identical_and_nothing_is_lost(world: MakeWorld) -> None:
    shop = world(
        worker={
            "clock": "event",
            "emit": "every",
            "batch_size": 8,  # a commit covers at most nine: all kills find one
            "guarantee": "at_least_once",
        }
    )
    scorer = publish(shop)
    log = shop_log(37, 1500)
    put(shop, log)
    for stage in ("after_commit", "before_store", "before_commit"):
        worker = shop.start_worker(INTENTSTREAM_FAULT=f"{stage}:4:kill")
        assert worker.process.wait(PATIENCE_S) == -9, worker.said()[-3000:]
    worker = shop.start_worker()
    shop.wait_committed(len(log))
    worker.stop()
    drivers = serial(shop, scorer)
    want = {p.prediction_id: p for d in drivers.values() for p in d.predictions()}
    values: dict[str, set[bytes]] = {}
    for record in shop.raw(shop.settings.topics.propensity):
        identity = record.value.split(b'"', 4)[3].decode()
        values.setdefault(identity, set()).add(record.value)
    assert set(values) == set(want)
    assert {len(copies) for copies in values.values()} == {1}
    assert shop.histories() == {u: h for d in drivers.values() for u, h in d.histories().items()}


@pytest.mark.full
@needs_taobao
def test_shuffled_within_the_grace_and_duplicated_the_state_is_the_same(world: MakeWorld) -> None:
    shop = world(worker={"clock": "event"})
    log, _ = replayed(TAOBAO, "taobao", since=SINCE, until=UNTIL)
    put(shop, duplicated(disordered(log, 2, shop.settings.state.grace_ms), 2, 0.1))
    worker = shop.start_worker()
    shop.wait_committed(len(log) + len(log) // 10)
    worker.stop()
    straight = PipelineDriver(Scorer.rhythm(TARGETS), shop.settings)
    straight.pipe(log)
    assert shop.histories() == straight.histories()


@pytest.mark.full
def test_silence_alone_raises_the_alert_when_it_is_due_and_once(world: MakeWorld) -> None:
    shop = world(
        worker={"clock": "wall"},
        state={"session_gap_ms": 100},
        churn={**QUICK, "gap_factor": 4},
    )
    worker = shop.start_worker()
    wait_until(lambda: worker.said().count("partition is open") == len(shop.partitions))
    now = time.time_ns() // 1_000_000
    put(shop, three_purchases("ann", now))
    (alert,) = shop.wait_for(shop.settings.topics.churn, ChurnAlert, 1)
    due = -(-(now + 4 * alert.expected_gap_ms) // 500) * 500
    assert (alert.user_id, alert.state, alert.cause) == ("ann", "raised", "silence")
    assert alert.event_time == due
    seen = shop.raw(shop.settings.topics.churn)[0].timestamp
    assert seen >= due - 50
    assert_no_second_alert(shop)
    worker.stop()


def three_purchases(user: str, now: int) -> list[Event]:
    return [
        Purchase(event_id=f"{user}-{i}", user_id=user, event_time=now - (2 - i) * 1500, price=9.0)
        for i in range(3)
    ]


def assert_no_second_alert(shop: World) -> None:
    """Let timers pass on all partitions, seen by alerts on others long silent, and look again."""
    strangers = [f"stranger-{n}" for n in range(8)]
    assert {partition_of(u.encode(), len(shop.partitions)) for u in strangers} == set(
        shop.partitions
    )
    silent_since = time.time_ns() // 1_000_000 - 20_000
    put(shop, [event for user in strangers for event in three_purchases(user, silent_since)])
    alerts = shop.wait_for(shop.settings.topics.churn, ChurnAlert, 1 + len(strangers))
    assert sorted(alert.user_id for alert in alerts) == ["ann", *strangers]


@pytest.mark.full
def test_silence_that_came_due_while_the_worker_was_down_alerts_once(world: MakeWorld) -> None:
    shop = world(
        worker={"clock": "wall"},
        state={"session_gap_ms": 100},
        churn={**QUICK, "gap_factor": 8},
    )
    worker = shop.start_worker()
    wait_until(lambda: worker.said().count("partition is open") == len(shop.partitions))
    now = time.time_ns() // 1_000_000
    put(shop, three_purchases("ann", now))
    shop.wait_committed(3)
    worker.stop()
    assert shop.raw(shop.settings.topics.churn) == []
    due = now + 8 * 1500
    time.sleep(max(0.0, due / 1000 + 0.5 - time.time()))
    worker = shop.start_worker()
    (alert,) = shop.wait_for(shop.settings.topics.churn, ChurnAlert, 1)
    assert alert.event_time == -(-due // 500) * 500
    worker.stop()
    worker = shop.start_worker()
    assert_no_second_alert(shop)
    worker.stop()


def test_poison_goes_to_the_dead_letters_once_and_harms_nobody(world: MakeWorld) -> None:
    shop = world(worker={"clock": "event", "emit": "every"})
    log = shop_log(41, 300)
    put(shop, log[:150])
    put_raw(shop, [(key, value) for key, value, _ in POISON])
    put(shop, log[150:])
    worker = shop.start_worker()
    shop.wait_committed(len(log) + len(POISON))
    worker.stop()
    letters = shop.read(shop.settings.topics.dead_letter, DeadLetter)
    assert sorted(letter.reason for letter in letters) == sorted(reason for _, _, reason in POISON)
    assert len({(x.source.partition, x.source.offset) for x in letters}) == len(POISON)
    assert len(shop.read(shop.settings.topics.propensity, Prediction)) == len(log)


POISON: list[tuple[bytes | None, bytes | None, str]] = [
    (b"user-1", b'{"type":"view","event_id":"x"', "truncated"),
    (b"user-1", b'{"type":"view","event_id":"\xff"}', "not_utf8"),
    (
        b"user-1",
        b'{"type":"view","event_id":"x","user_id":"user-1","event_time":1,"price":NaN}',
        "not_a_number",
    ),
    (
        b"user-1",
        b'{"type":"view","event_id":7,"user_id":"user-1","event_time":1}',
        "wrong_type",
    ),
    (b"user-1", b'{"type":"view","event_id":"x","event_time":1}', "missing_field"),
    (
        b"user-1",
        b'{"type":"dance","event_id":"x","user_id":"user-1","event_time":1}',
        "unknown_type",
    ),
    (b"user-1", None, "null_value"),
    (b"user-1", b"[" * 100_000, "too_deep"),
    (None, b'{"type":"view","event_id":"x","user_id":"user-1","event_time":1}', "key_missing"),
    (b"bob", b'{"type":"view","event_id":"x","user_id":"user-1","event_time":1}', "key_mismatch"),
]


def test_a_new_model_is_taken_up_while_events_flow_and_a_bad_one_is_refused(
    world: MakeWorld,
) -> None:
    shop = world(worker={"clock": "event", "emit": "every"})
    publish(shop, 1, "gru-1")
    log = shop_log(43, 900)
    worker = shop.start_worker()
    put(shop, log[:300])
    shop.wait_committed(300)
    publish(shop, 2, "gru-2")
    wait_until(lambda: "before=gru-1 model=gru-2" in worker.said())
    put(shop, log[300:600])
    shop.wait_committed(600)
    publish_broken(shop, "gru-2", "gru-3")
    wait_until(lambda: "model=gru-3" in worker.said())
    put(shop, log[600:])
    shop.wait_committed(900)
    worker.stop()
    predictions = shop.read(shop.settings.topics.propensity, Prediction)
    assert len(predictions) == 900
    assert len({(p.source.partition, p.source.offset) for p in predictions}) == 900
    assert {p.model_version for p in predictions} == {"gru-1", "gru-2"}
    assert sum(p.model_version == "gru-2" for p in predictions) >= 600
