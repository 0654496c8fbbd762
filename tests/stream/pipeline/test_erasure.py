"""Erasure in the pure pipeline: a user who asked to be forgotten, and came back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history import history_bytes
from schemas.codec import encode
from schemas.control import EraseUser
from schemas.errors import InvalidMessage, Reason
from schemas.events import Event, Purchase
from stream.config.settings import Settings
from stream.pipeline.erasure import Erasures, read_requests
from stream.pipeline.ingest import partition_of
from stream.pipeline.state import META_KEY
from stream.testing import PipedRecord, PipelineDriver
from tests.logs import DAY, START, gru_scorer, raw, shop_log

SCORER = gru_scorer()
SETTINGS = Settings(
    worker={"clock": "event", "emit": "every"},
    churn={
        "tick_ms": 3_600_000,
        "replay_tick_ms": DAY,
        "prior_gap_ms": DAY,
        "raise_at": 0.3,
        "raise_untrained": True,
        "resolve_at": 0.2,
        "escalate_at": 0.9,
        "min_orders": 1,
    },
)


def driver(**options: object) -> PipelineDriver:
    return PipelineDriver(SCORER, SETTINGS, **options)


def timed(log: list[Event]) -> list[tuple[bytes | None, bytes | None, int]]:
    """Each event reaches the broker at the millisecond of its place in the log."""
    return [(key, value, place) for place, (key, value, _) in enumerate(raw(log))]


def request(user: str, at: int, offset: int = 0, **changes: object) -> PipedRecord:
    message = EraseUser(request_id=f"r{offset}", user_id=user, requested_at=at)
    return PipedRecord(offset, at, user.encode(), encode(message))


def predictions_of(it: PipelineDriver, user: str) -> list[dict[str, float]]:
    return [
        {name: score.probability for name, score in p.targets.items()}
        for p in it.predictions()
        if p.user_id == user
    ]


@pytest.mark.slow
def test_a_user_is_forgotten_as_if_never_seen() -> None:
    log = shop_log(1, 800)
    it, other = driver(), driver()
    it.pipe(log, batch=100)
    user = max(it.records(), key=lambda u: int(it.records()[u]["indexed_due"] > 0))
    before = it.records()[user]
    it.erase(user, at_ms=7)
    other.pipe(log, batch=100)

    assert user not in it.records()
    assert it.store.get(b"u" + user.encode()) is None
    assert not any(key == b"u" + user.encode() for _, key in it.store.due(2**62, 10**6))
    rest = {u: h for u, h in other.histories().items() if u != user}
    assert it.histories() == rest
    (receipt,) = it.receipts()
    assert (receipt.request_id, receipt.user_id) == ("request-0", user)
    assert receipt.removed["record"] == 1
    assert receipt.removed["events"] == int(before["n"])
    assert receipt.removed["timers"] == int(before["indexed_due"] > 0)
    assert (receipt.source.topic, receipt.source.offset) == ("users.erase", 0)
    assert (receipt.before.topic, receipt.before.offset) == ("shop.events", 800)
    assert it.pipeline.counters.erased == 1


def test_an_open_alert_is_told_of_in_the_receipt() -> None:
    it = driver()
    it.pipe(shop_log(1, 800))
    alerted = next(u for u, r in it.records().items() if r["status"] >= 2)
    it.erase(alerted, at_ms=1)
    assert it.receipts()[0].removed["open_alerts"] == 1


def test_the_changelog_gets_a_tombstone_and_the_place() -> None:
    it = driver()
    it.pipe(shop_log(1, 100))
    it.pipeline.erase(
        read_requests([request("user-1", 5, 41)], until=100, partition=0, partitions=1), 100, 9
    )
    outbox = it.pipeline.drain()
    assert (b"uuser-1", None) in outbox.changelog
    key, meta = outbox.changelog[-1]
    assert key == META_KEY
    assert b'"erase_offset":42' in meta
    assert outbox.next_offset is None
    assert list(outbox.outputs) == ["users.erased"]


@pytest.mark.slow
def test_who_comes_back_starts_from_nothing() -> None:
    log = shop_log(3, 600)
    user = "user-1"
    back = [
        Purchase(event_id=f"back-{n}", user_id=user, event_time=log[-1].event_time + n * DAY)
        for n in range(1, 6)
    ]
    it, fresh = driver(), driver()
    it.pipe(log)
    it.erase(user, at_ms=1)
    before = len(predictions_of(it, user))
    it.pipe(back)
    # The same clock, without the user's first life.
    fresh.pipe([event for event in log if event.user_id != user])
    fresh.pipe(back)
    assert it.histories()[user] == fresh.histories()[user]
    assert predictions_of(it, user)[before:] == predictions_of(fresh, user)
    assert it.pipeline.counters.late == 0


def test_an_event_that_was_seen_before_the_erasure_is_new_after_it() -> None:
    event = Purchase(event_id="e", user_id="ann", event_time=START)
    it = driver()
    it.pipe([event])
    it.erase("ann", at_ms=START)
    it.pipe([event])
    assert it.pipeline.counters.duplicate == 0
    assert it.records()["ann"]["n"] == 1


def test_a_user_whom_nobody_knows_gets_a_receipt() -> None:
    it = driver()
    it.pipe(shop_log(1, 50))
    users = set(it.records())
    it.erase("nobody", at_ms=1)
    (receipt,) = it.receipts()
    assert set(receipt.removed.values()) == {0}
    assert set(it.records()) == users


def test_forgotten_twice_is_forgotten() -> None:
    it = driver()
    it.pipe(shop_log(1, 200))
    it.erase("user-1", at_ms=1)
    it.erase("user-1", at_ms=2)
    assert [r.removed["record"] for r in it.receipts()] == [1, 0]


@pytest.mark.slow
def test_it_takes_effect_between_the_events_before_and_after_it() -> None:
    log = shop_log(4, 400)
    it = driver()
    it.erase("user-1", at_ms=250, until=10**6)
    it.erase("user-2", at_ms=100, until=10**6)
    assert it.receipts() == []
    it.pipe_raw(timed(log), batch=400)
    # In the order of the requests, so the second waits for the first.
    assert [r.before.offset for r in it.receipts()] == [250, 250]
    expected = driver()
    expected.pipe([e for i, e in enumerate(log) if i >= 250 or e.user_id not in TWO])
    assert {u: h for u, h in it.histories().items() if u in TWO} == {
        u: h for u, h in expected.histories().items() if u in TWO
    }


TWO = ("user-1", "user-2")


@pytest.mark.full
@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 300),
    cuts=st.lists(st.integers(0, 130), max_size=5).map(sorted),
    known=st.booleans(),
)
def test_the_log_alone_decides_what_is_left(
    seed: int, batch: int, cuts: list[int], *, known: bool
) -> None:
    """However the log is cut into batches, and however far ahead the requests are read."""
    rng = random.Random(seed)
    log = shop_log(seed, 120, users=4)
    asked = [(f"user-{rng.randrange(5)}", cut) for cut in cuts]
    requests = [request(user, cut, n) for n, (user, cut) in enumerate(asked)]
    it = driver()
    if known:
        it.pipeline.erase(
            read_requests(requests, until=120, partition=0, partitions=1), 0, now_ms=1
        )
        it.pipe_raw(timed(log), batch=batch)
    else:
        lo = 0
        for one in requests:
            hi = min(one.timestamp, 120)
            it.pipe_raw(timed(log)[lo:hi], batch=batch)
            it.pipeline.erase(
                read_requests([one], until=hi, partition=0, partitions=1), hi, now_ms=1
            )
            lo = hi
        it.pipe_raw(timed(log)[lo:], batch=batch)
    it.pipeline.erase([], 120, now_ms=1)
    it.commit()

    serial = driver()
    lo = 0
    for user, cut in asked:
        serial.pipe_raw(timed(log)[lo : min(cut, 120)], batch=1)
        serial.erase(user, at_ms=cut)
        lo = min(cut, 120)
    serial.pipe_raw(timed(log)[lo:], batch=1)

    assert it.histories() == serial.histories()
    assert [(r.user_id, r.before, r.removed) for r in it.receipts()] == [
        (r.user_id, r.before, r.removed) for r in serial.receipts()
    ]
    assert {p.prediction_id: p for p in it.predictions()} == {
        p.prediction_id: p for p in serial.predictions()
    }
    assert sorted(map(repr, it.alerts())) == sorted(map(repr, serial.alerts()))
    listed = {(key.decode()[1:], due) for due, key in it.store.due(2**62, 10**6)}
    due = {(u, int(r["indexed_due"])) for u, r in it.records().items() if r["indexed_due"]}
    assert listed == due


def test_what_was_not_committed_is_asked_for_again() -> None:
    log = shop_log(5, 300)
    it = driver()
    it.pipe_raw(timed(log)[:200])
    pending = read_requests([request("user-1", 250)], until=300, partition=0, partitions=1)
    it.pipeline.erase(pending, 200, now_ms=1)
    assert it.pipeline.erasing
    it.restart()
    assert it.pipeline.erase_offset == -1
    it.pipeline.erase(pending, 200, now_ms=1)
    it.pipe_raw(timed(log)[200:])
    assert it.pipeline.erase_offset == 1
    it.restart()
    assert it.pipeline.erase_offset == 1
    assert len(it.receipts()) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", Reason.TRUNCATED),
        (None, Reason.NULL_VALUE),
        (b'{"user_id":"ann"}', Reason.MISSING_FIELD),
    ],
)
def test_a_request_that_says_nothing_is_a_dead_letter_and_holds_nothing_up(
    value: bytes | None, reason: Reason
) -> None:
    it = driver()
    it.pipe(shop_log(1, 50))
    it.erase_raw([(b"ann", value, 1)])
    it.erase("user-1", at_ms=2)
    (letter,) = it.dead_letters()
    assert (letter.reason, letter.source.topic, letter.key) == (reason, "users.erase", b"ann")
    assert len(it.receipts()) == 1
    assert it.pipeline.erase_offset == 2
    assert it.pipeline.counters.invalid == 0


def test_a_request_in_a_partition_that_cannot_know_the_user_is_refused() -> None:
    users = [f"user-{n}" for n in range(20)]
    found = {
        user: read_requests([request(user, 1)], until=0, partition=1, partitions=3)[0].request
        for user in users
    }
    for user, said in found.items():
        if partition_of(user.encode(), 3) == 1:
            assert isinstance(said, EraseUser)
        else:
            assert isinstance(said, InvalidMessage)
            assert said.reason is Reason.WRONG_PARTITION


@pytest.mark.slow
def test_pseudonyms_are_forgotten_by_either_name() -> None:
    chosen = SETTINGS.model_copy(
        update={"privacy": Settings(privacy={"pseudonym_key": "k" * 32}).privacy}
    )
    log = shop_log(6, 200)
    for name in ("user-1", chosen.privacy.stored_id("user-1")):
        it = PipelineDriver(SCORER, chosen)
        it.pipe(log)
        it.erase(name, at_ms=1)
        stored = chosen.privacy.stored_id("user-1")
        assert stored not in it.records()
        (receipt,) = it.receipts()
        assert receipt.removed["record"] == 1
        assert receipt.user_id == stored
        assert b"user-1" not in b"".join(value for _, value in it.outputs["users.erased"])


def test_the_receipt_says_until_when_copies_remain() -> None:
    it = driver()
    it.pipe(shop_log(1, 50))
    erasures = read_requests(
        [request("user-1", 5)],
        until=50,
        partition=0,
        partitions=1,
        kept_ms={"shop.events": 1000, "shop.events.late": None},
    )
    it.pipeline.erase(erasures, 50, now_ms=77)
    it.commit()
    (receipt,) = it.receipts()
    assert receipt.erased_at == 77
    assert receipt.remaining == {"shop.events": 1077, "shop.events.late": None}


def test_waiting_requests_keep_their_order() -> None:
    waiting = Erasures()
    waiting.add(
        read_requests([request("a", 9, 0), request("b", 5, 1)], until=3, partition=0, partitions=1)
    )
    assert waiting.cut([PipedRecord(0, 8, None, None)]) is None
    assert waiting.cut([PipedRecord(n, 8, None, None) for n in range(5)]) == 3
    assert waiting.cut([PipedRecord(0, 9, None, None)]) == 0
    assert list(waiting.due(2)) == []
    assert [e.record.offset for e in waiting.due(3)] == [0, 1]
    assert not waiting


@pytest.mark.slow
def test_records_equal_those_of_a_log_without_the_first_life() -> None:
    """Not only the canonical history: every byte of the record."""
    log = shop_log(7, 300)
    user = "user-1"
    it, fresh = driver(), driver()
    it.pipe(log[:150])
    it.erase(user, at_ms=1)
    it.pipe(log[150:])
    fresh.pipe([e for e in log[:150] if e.user_id != user])
    fresh.pipe(log[150:])
    mine, theirs = it.records()[user], fresh.records()[user]
    assert history_bytes(mine) == history_bytes(theirs)
    for name in mine.dtype.names:
        if name not in {"offset", "ring", "seal"}:
            assert mine[name].tobytes() == theirs[name].tobytes(), name
