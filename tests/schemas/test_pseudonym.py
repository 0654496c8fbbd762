from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode_event, encode
from schemas.events import Purchase, View
from schemas.pseudonym import MIN_KEY_BYTES, Pseudonyms

KEY = b"0123456789abcdef0123456789abcdef"
ids = st.text(min_size=1, max_size=256)


@given(ids)
def test_a_pseudonym_is_stable_recognised_and_left_alone(user_id: str) -> None:
    pseudonyms = Pseudonyms(KEY)
    made = pseudonyms.of(user_id)
    assert made == Pseudonyms(KEY).of(user_id)
    assert pseudonyms.made(made)
    assert pseudonyms.of(made) == made
    assert not pseudonyms.made(user_id)
    assert user_id not in made or len(user_id) < 4
    assert len(made) == 43


def test_it_is_what_the_documentation_says_so_that_other_languages_can_make_it() -> None:
    hashed = hmac.new(KEY, b"user\0ann", hashlib.sha256).digest()[:16]
    mark = hmac.new(KEY, b"mark\0" + hashed, hashlib.sha256).digest()[:4]
    expected = f"p1_{(hashed + mark).hex()}"
    assert Pseudonyms(KEY).of("ann") == expected
    assert expected == "p1_b7890b71ce733daf1df3bb9278fbd65efad1ed49"


def test_another_key_makes_others_and_recognises_none() -> None:
    one, other = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert one.of("ann") != other.of("ann")
    assert not other.made(one.of("ann"))
    assert other.of(one.of("ann")) != one.of("ann")
    assert one.key_id != other.key_id
    assert one.key_id not in one.of("ann")


@given(st.text(alphabet="0123456789abcdef", min_size=40, max_size=40))
def test_who_has_not_the_key_cannot_make_one(text: str) -> None:
    assert not Pseudonyms(KEY).made(f"p1_{text}")


@pytest.mark.parametrize("text", ["", "p1_", "p1_" + "1" * 40, "p1_" + "é" * 40, "P1_" + "A" * 40])
def test_other_texts_are_none(text: str) -> None:
    assert not Pseudonyms(KEY).made(text)


def test_a_spelling_in_capitals_is_another_user() -> None:
    pseudonyms = Pseudonyms(KEY)
    loud = pseudonyms.of("ann").upper()
    assert not pseudonyms.made(loud)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match=str(MIN_KEY_BYTES)):
        Pseudonyms(KEY[:-1])


def test_an_event_names_nobody_and_stays_an_event() -> None:
    pseudonyms = Pseudonyms(KEY)
    event = decode_event(
        b'{"type":"purchase","event_id":"1","user_id":"ann","event_time":5,"price":2.5,'
        b'"anonymous_id":"cookie","properties":{"mail":"ann@shop"},"currency":"EUR"}'
    )
    hidden = pseudonyms.event(event)
    assert hidden == Purchase(
        event_id="1",
        user_id=pseudonyms.of("ann"),
        event_time=5,
        price=2.5,
        anonymous_id=pseudonyms.of("cookie"),
        currency="EUR",
    )
    assert b"ann" not in encode(hidden)
    assert b"cookie" not in encode(hidden)
    assert pseudonyms.event(hidden) == hidden
    plain = View(event_id="1", user_id="ann", event_time=5)
    assert pseudonyms.event(plain).anonymous_id is None


def test_it_forgets_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.pseudonym._REMEMBERED", 3)
    pseudonyms = Pseudonyms(KEY)
    first = [pseudonyms.of(str(i)) for i in range(10)]
    assert [pseudonyms.of(str(i)) for i in range(10)] == first
    assert len(pseudonyms._known) <= 3
