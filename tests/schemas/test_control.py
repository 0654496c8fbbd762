"""Control messages: round trips, and paths that must not leave the models folder."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.codec import decode, encode
from schemas.control import EraseReceipt, EraseUser, ModelPublished, WorkerStatus
from schemas.errors import InvalidMessage
from schemas.outputs import Source

MODEL = ModelPublished(
    version="gru-20240101T000000",
    digest="0" * 64,
    uri="gru-20240101T000000/model.pt",
    architecture="gru",
    feature_version="1",
    metrics={"roc_auc": 0.75},
    published_at=5,
)
MESSAGES = [
    MODEL,
    msgspec.structs.replace(MODEL, rollout="canary", canary_share=0.05, signature="c2ln"),
    EraseUser(request_id="r", user_id="u", requested_at=5),
    EraseReceipt(
        request_id="r",
        user_id="u",
        erased_at=6,
        removed={"state": 1, "timers": 2},
        source=Source("users.erase", 0, 0),
    ),
    WorkerStatus(
        worker_id="w",
        partition=0,
        offset=10,
        high_water=12,
        watermark=0,
        consumed=10,
        accepted=7,
        duplicate=1,
        late=1,
        invalid=1,
        predictions=7,
        alerts=0,
        model_version="rhythm",
        users=3,
        updated_at=5,
    ),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_round_trip(message):
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("uri", "../model.pt"),
        ("uri", "/etc/model.pt"),
        ("uri", "a/../../b"),
        ("uri", "a//b"),
        ("uri", "a\\b"),
        ("uri", "file:model.pt"),
        ("uri", "model.pt\n"),
        ("uri", "a/" * 300 + "b"),
        ("uri", ""),
        ("version", "../x"),
        ("version", "a/b"),
        ("version", ""),
        ("digest", "ABC"),
        ("digest", "g" * 64),
        ("digest", "0" * 64 + "\n"),
        ("rollout", "everyone"),
        ("canary_share", 1.5),
    ],
)
def test_a_hostile_announcement_is_refused(field: str, value: Any):
    document = msgspec.to_builtins(MODEL) | {field: value}
    with pytest.raises(InvalidMessage) as caught:
        decode(ModelPublished, msgspec.json.encode(document))
    assert caught.value.field == field
