"""With a pseudonym key no user's own id is in state, changelog or outputs."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import decode, decode_event, encode
from schemas.events import Event
from schemas.pseudonym import Pseudonyms
from schemas.refused import DeadLetter
from stream.config.loading import load_settings
from stream.config.secure_settings import PrivacySettings
from stream.config.settings import Settings
from stream.errors import SettingsError, StoreForeign
from stream.pipeline.ingest import partition_of
from stream.replay.errors import ProduceError
from stream.replay.order import Row
from stream.replay.produce import _pseudonymised
from stream.testing import PipelineDriver
from tests.logs import gru_scorer, raw, shop_log

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef0123456789abcdef"
PSEUDONYMS = Pseudonyms(KEY.encode())
T = 1_600_000_000_000


def settings(key: str | None = KEY, **sections: object) -> Settings:
    return Settings(
        worker={"clock": "event", "emit": "every"},
        churn={
            "raise_at": 0.4,
            "raise_untrained": True,
            "resolve_at": 0.3,
            "prior_gap_ms": 86_400_000,
        },
        privacy={"pseudonym_key": key},
        **sections,
    )


def named(log: list[Event]) -> list[Event]:
    """The same events by users whose ids would stand out."""
    return [
        msgspec.structs.replace(
            e, user_id=f"raw-{e.user_id}", anonymous_id=f"raw-cookie-{e.user_id}"
        )
        for e in log
    ]


def everything(driver: PipelineDriver) -> bytes:
    written = [x or b"" for out in driver.outputs.values() for pair in out for x in pair]
    return b"".join([*written, *(k + v for k, v in driver.store._values.items())])


def test_state_and_outputs_are_those_of_the_users_under_other_names() -> None:
    log = named(shop_log(5, 600))
    plain, hidden = (PipelineDriver(gru_scorer(), settings(key)) for key in (None, KEY))
    for driver in (plain, hidden):
        driver.pipe(log, batch=100)
    assert b"raw-" in everything(plain)
    assert b"raw-" not in everything(hidden)
    of = PSEUDONYMS.of
    assert hidden.histories() == {of(user): h for user, h in plain.histories().items()}
    assert [(p.user_id, p.targets) for p in hidden.predictions()] == [
        (of(p.user_id), p.targets) for p in plain.predictions()
    ]
    assert [(a.user_id, a.state, a.event_time) for a in hidden.alerts()] == [
        (of(a.user_id), a.state, a.event_time) for a in plain.alerts()
    ]
    assert plain.alerts()


def test_it_does_not_matter_whether_the_producer_knows_the_key_already() -> None:
    log = named(shop_log(5, 300))
    at_the_edge, in_the_worker = (PipelineDriver(gru_scorer(), settings()) for _ in range(2))
    at_the_edge.pipe([PSEUDONYMS.event(event) for event in log])
    in_the_worker.pipe(log)
    assert at_the_edge.histories() == in_the_worker.histories()
    assert at_the_edge.outputs == in_the_worker.outputs


def test_late_events_are_copied_without_the_user() -> None:
    driver = PipelineDriver(gru_scorer(), settings())
    (event, *_) = named(shop_log(5, 1))
    old = msgspec.structs.replace(event, event_id="old", event_time=event.event_time - 10**9)
    driver.pipe([event, msgspec.structs.replace(old, properties={"mail": msgspec.Raw(b'"raw-x"')})])
    (late,) = driver.late()
    assert late.user_id == PSEUDONYMS.of(event.user_id)
    assert decode_event(late.value) == PSEUDONYMS.event(old)
    assert not late.clipped
    assert b"raw-" not in everything(driver)


REFUSED = [
    (b"raw-ann", b'{"type":"view","user_id":"raw-ann"', "truncated"),
    (
        b"raw-bob",
        b'{"type":"view","event_id":"1","user_id":"raw-ann","event_time":1}',
        "key_mismatch",
    ),
    (
        b"raw-ann",
        b'{"type":"raw-x","event_id":"1","user_id":"raw-ann","event_time":1}',
        "unknown_type",
    ),
    (b"\xffraw-", b"\xffraw-", "not_utf8"),
    (b"raw-ann", None, "null_value"),
    (None, b'{"type":"view","event_id":"1","user_id":"raw-ann","event_time":1}', "key_missing"),
    (b"raw-ann", b"", "truncated"),
]


@pytest.mark.parametrize(("key", "value", "reason"), REFUSED)
def test_of_refused_records_nothing_is_copied(
    key: bytes | None, value: bytes | None, reason: str
) -> None:
    driver = PipelineDriver(gru_scorer(), settings())
    driver.pipe_raw([(key, value, T)])
    ((out_key, written),) = driver.outputs[driver.settings.topics.dead_letter]
    letter = decode(DeadLetter, written)
    assert b"raw-" not in everything(driver)
    assert letter.reason == reason
    assert letter.key == out_key
    assert letter.size == len(value or b"")
    assert letter.value == (None if value is None else b"")
    assert b"raw-" not in (letter.key or b"")
    assert letter.clipped == bool(value)
    assert letter.source.offset == 0
    if key == b"raw-ann":
        assert out_key == PSEUDONYMS.of("raw-ann").encode()


def test_partitions_follow_the_key_that_the_producer_sent() -> None:
    log = named(shop_log(5, 200))
    drivers = [
        PipelineDriver(gru_scorer(), settings(), partition=p, partitions=3) for p in range(3)
    ]
    for key, value, time in raw(log):
        assert key is not None
        drivers[partition_of(key, 3)].pipe_raw([(key, value, time)])
    assert all(d.dead_letters() == [] for d in drivers)
    assert sum(d.pipeline.counters.accepted for d in drivers) == 200


@pytest.mark.parametrize(
    ("before", "after"), [(None, KEY), (KEY, None), (KEY, KEY[::-1])], ids=["on", "off", "other"]
)
def test_state_of_another_key_is_refused(before: str | None, after: str | None) -> None:
    driver = PipelineDriver(gru_scorer(), settings(before))
    driver.pipe(shop_log(5, 10))
    with pytest.raises(StoreForeign, match=r"shop\.events-0: the state holds .*another app_id"):
        PipelineDriver(gru_scorer(), settings(after), driver.store)
    PipelineDriver(gru_scorer(), settings(before), driver.store)


def test_the_key_comes_from_a_file_or_the_environment_and_is_shown_nowhere(
    tmp_path, monkeypatch
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("INTENTSTREAM_PRIVACY__PSEUDONYM_KEY_FILE", str(file))
    loaded = load_settings()
    assert loaded.privacy.stored_id("ann") == PSEUDONYMS.of("ann")
    assert KEY not in repr(loaded)
    monkeypatch.delenv("INTENTSTREAM_PRIVACY__PSEUDONYM_KEY_FILE")
    monkeypatch.setenv("INTENTSTREAM_PRIVACY__PSEUDONYM_KEY", KEY)
    loaded = load_settings()
    assert loaded.privacy.stored_id("ann") == PSEUDONYMS.of("ann")
    assert KEY not in repr(loaded)
    assert KEY not in loaded.model_dump_json()
    assert PrivacySettings().stored_id("ann") == "ann"


def test_a_key_that_is_no_key_is_refused_without_showing_it(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"has 7 bytes.*openssl rand") as caught:
        _ = PrivacySettings(pseudonym_key="hunter2").pseudonyms
    assert "hunter2" not in str(caught.value)
    for name, content in {"empty": b"\n", "bytes": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SettingsError, match="pseudonym_key_file"):
            _ = PrivacySettings(pseudonym_key_file=tmp_path / name).pseudonyms
    with pytest.raises(SettingsError, match="cannot read"):
        _ = PrivacySettings(pseudonym_key_file=tmp_path / "none").pseudonyms
    both = {"privacy": {"pseudonym_key": KEY, "pseudonym_key_file": "x"}}
    with pytest.raises(SettingsError, match="keep one") as caught:
        load_settings(overrides=both)
    assert KEY not in str(caught.value)


def test_what_is_produced_names_nobody_or_is_not_produced() -> None:
    (event,) = named(shop_log(5, 1))
    row = Row(event.event_time, 0, event.user_id.encode(), encode(event))
    (sent,) = _pseudonymised([row], PSEUDONYMS)
    assert sent.key == PSEUDONYMS.of(event.user_id).encode()
    assert decode_event(sent.value) == PSEUDONYMS.event(event)
    with pytest.raises(ProduceError, match="cannot be pseudonymised"):
        list(_pseudonymised([row._replace(value=b"{")], PSEUDONYMS))
