"""One record in a hundred is poison: the good ones are processed, the bad ones can be repaired."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from schemas.codec import encode
from schemas.events import Event, View
from schemas.outputs import Prediction
from schemas.refused import DeadLetter
from stream.pipeline.ingest import partition_of
from tests.e2e.oracle import judge
from tests.e2e.shop import publish, put_raw
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Scale
from tests.logs import START, shop_log
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 7, "1 % poison; dead letters repaired and replayed"

SHOP: dict[str, dict[str, object]] = {
    "worker": {"clock": "event", "emit": "every", "batch_size": 256},
    "churn": {
        "prior_gap_ms": 86_400_000,
        "tick_ms": 3_600_000,
        "raise_at": 0.6,
        "raise_untrained": True,
    },
}
Record = tuple[bytes | None, bytes | None]


def _with(event: View, member: bytes) -> bytes:
    return encode(event)[:-1] + b"," + member + b"}"


POISON: dict[str, Callable[[View], Record]] = {
    "truncated": lambda e: (e.user_id.encode(), encode(e)[:-2]),
    "not_utf8": lambda e: (e.user_id.encode(), _with(e, b'"query":"\xff\xfe"')),
    "not_a_number": lambda e: (e.user_id.encode(), _with(e, b'"price":NaN')),
    "null_value": lambda e: (e.user_id.encode(), _with(e, b'"type":null')),
    "too_deep": lambda e: (
        e.user_id.encode(),
        _with(e, b'"properties":{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    ),
    "wrong_type": lambda e: (e.user_id.encode(), _with(e, b'"quantity":"two"')),
    "too_large": lambda e: (
        e.user_id.encode(),
        _with(e, b'"properties":{"x":"' + b"x" * 5_000_000 + b'"}'),
    ),
    "malformed": lambda e: (e.user_id.encode(), encode(e) + b"!"),
    "missing_field": lambda e: (e.user_id.encode(), encode(e).replace(b'"event_time"', b'"time"')),
    "unknown_type": lambda e: (e.user_id.encode(), encode(e).replace(b'"view"', b'"dance"')),
    "out_of_range": lambda e: (e.user_id.encode(), _with(e, b'"price":-1.0')),
    "key_missing": lambda e: (None, encode(e)),
    "key_mismatch": lambda e: (b"somebody", encode(e)),
}
"""Reason -> how to break an event so that it is refused for that."""
KEYED_ANEW = {"key_missing", "key_mismatch", "wrong_partition"}


def poisoned(count: int, rng: random.Random) -> dict[str, tuple[str, View, Record]]:
    """Event id -> (reason, the event as it should have been, the record as it is)."""
    reasons = [*POISON, *rng.choices(list(POISON), k=count)][:count]
    found = {}
    for number, reason in enumerate(reasons):
        event = View(
            event_id=f"poison-{number}",
            user_id=f"poisoned-{number}",
            event_time=START + rng.randrange(10**9),
        )
        found[event.event_id] = reason, event, POISON[reason](event)
    return found


def repair(shop: World, events: dict[str, View]) -> tuple[str, int]:
    """Write a repair file of all letters that need one; return its path and the number of them."""
    lines, repaired = [], 0
    for text in shop.run("dlq", "show", "--json").splitlines():
        line = json.loads(text)
        value = line.get("value") or msgspec.json.decode(
            json.dumps(line.get("value_base64", "")), type=bytes
        ).decode(errors="replace")
        event_id = re.search(r"poison-\d+", value)
        if event_id and line["reason"] not in KEYED_ANEW:
            line["event"] = json.loads(encode(events[event_id[0]]))
            repaired += 1
        lines.append(json.dumps(line))
    file = shop.folder / "repaired.jsonl"
    file.write_text("\n".join(lines))
    return str(file), repaired


def test_the_good_are_processed_and_the_bad_are_kept_and_come_back_once(
    world: Callable[..., World], fault_row: FaultRow, scale: Scale, rng: random.Random
) -> None:
    shop = world(**SHOP)
    scorer = publish(shop)
    good: list[Event] = shop_log(rng.randrange(10**6), scale(1500, 20_000))
    bad = poisoned(max(len(POISON), len(good) // 100), rng)
    strays = {
        f"poison-s{n}": View(event_id=f"poison-s{n}", user_id=f"stray-{n}", event_time=START)
        for n in range(4)
    }
    records: list[Record] = [(event.user_id.encode(), encode(event)) for event in good]
    for _, _, record in bad.values():
        records.insert(rng.randrange(len(records)), record)
    records.insert(rng.randrange(len(records)), (b"user-1", None))
    with fault_row.attempt(times=len(bad) + 1 + len(strays)) as attempt:
        worker = shop.start_worker()
        put_raw(shop, records)
        for stray in strays.values():
            key = stray.user_id.encode()
            elsewhere = (partition_of(key, 2) + 1) % 2
            put_raw(shop, [(key, encode(stray))], partition=elsewhere)
        sent = len(records) + len(strays)
        shop.wait_committed(sent)

        letters = shop.read(shop.settings.topics.dead_letter, DeadLetter)
        reasons = Counter(reason for reason, _, _ in bad.values())
        reasons += Counter({"null_value": 1, "wrong_partition": len(strays)})
        assert Counter(letter.reason.value for letter in letters) == reasons
        assert max(letter.size for letter in letters if letter.clipped) > 5_000_000
        predictions = shop.read(shop.settings.topics.propensity, Prediction)
        assert len(predictions) == len(good)

        events = {event_id: event for event_id, (_, event, _) in bad.items()}
        file, repaired = repair(shop, events)
        back = 0
        for _ in range(2):  # the second time nothing comes back
            back += json.loads(shop.run("dlq", "replay", "--from", file, "--json"))["replayed"]
            for reason in sorted(KEYED_ANEW):
                told = shop.run("dlq", "replay", "--reason", reason, "--json")
                back += json.loads(told)["replayed"]
        assert back == len(bad) + len(strays)
        assert repaired == len(bad) - reasons["key_missing"] - reasons["key_mismatch"]
        began = time.monotonic()
        while len(shop.read(shop.settings.topics.propensity, Prediction)) < len(good) + back:
            assert time.monotonic() - began < PATIENCE_S, worker.said()[-3000:]
            time.sleep(0.2)
        worker.stop()
        assert "opened anew" not in worker.said()
        verdict, _ = judge(shop, scorer)
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong
        per_user = Counter(
            p.user_id for p in shop.read(shop.settings.topics.propensity, Prediction)
        )
        for event in [*events.values(), *strays.values()]:
            assert per_user[event.user_id] == 1, event
