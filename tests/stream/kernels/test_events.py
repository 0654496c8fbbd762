"""The kernel takes the plain events, and makes of them what `decode_event` makes."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from aiokafka.partitioner import murmur2 as murmur2_in_python
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoding import encode_event, order_code
from models.money import currency_code
from schemas.codec import decode_event, encode
from schemas.errors import InvalidEvent
from schemas.events import EVENT_TYPES, OPTIONAL_FIELDS, Event, Purchase
from stream.kernels.buffers import as_array
from stream.kernels.events import Bounds, Parsed, murmur2, parse_events
from stream.pipeline.ingest import MAX_AMOUNT
from stream.pipeline.records import Records, Row
from tests.schemas.strategies import events

NO_BOUNDS = Bounds(1 << 20, MAX_AMOUNT, 0, 0)
EXAMPLE = {
    "type": "purchase",
    "event_id": "e-1",
    "user_id": "ann",
    "event_time": 1_700_000_000_000,
    "item_id": "item-7",
    "category_id": None,
    "price": 12.25,
    "quantity": 3,
    "currency": "GBP",
    "query": "",
}


def parsed(values: list[bytes], keys: list[bytes], bounds: Bounds = NO_BOUNDS) -> Parsed:
    out = Parsed.empty(len(values))
    rows = zip(keys, values, strict=True)
    records = Records.of(Row(n, 0, key, value) for n, (key, value) in enumerate(rows))
    parse_events(as_array(records.data), records.places, bounds, out)
    return out


def row_of(columns: Parsed, i: int) -> tuple[int, ...]:
    return tuple(int(column[i]) for column in columns[:-2])


def is_plain(value: bytes, key: bytes = b"ann", bounds: Bounds = NO_BOUNDS) -> bool:
    """Whether the kernel takes it; if so, `decode_event` must make the same row of it."""
    found = parsed([b"{}", value, b"{}"], [b"x", key, b"x"], bounds)
    assert found.plain.tolist()[::2] == [False, False]
    if not found.plain[1]:
        return False
    event = decode_event(value)
    assert event.user_id.encode() == key
    assert row_of(found, 1) == encode_event(event)
    assert found.currency[1] == currency_code(event.currency)
    return True


def text(**changes: Any) -> bytes:
    return json.dumps({**EXAMPLE, **changes}).encode()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None)
@given(events)
def test_any_valid_event(event: Event) -> None:
    is_plain(encode(event), event.user_id.encode())


@pytest.mark.slow
@settings(max_examples=150, deadline=None, database=None)
@given(
    st.sampled_from(sorted(EVENT_TYPES)),
    st.floats(0, 1e6).map(lambda x: round(x, 4)) | st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(
        lambda x: not set(x) & {'"', "\\"}
    ),
)
def test_plain_events_are_taken(kind: str, price: float, quantity: int, name: str) -> None:
    event = {**EXAMPLE, "type": kind, "price": price, "quantity": quantity}
    event |= {"event_id": name, "user_id": name, "item_id": name, "category_id": name}
    fits = "e" not in str(price)  # no exponent
    assert is_plain(json.dumps(event).encode(), name.encode()) == fits
    assert is_plain(msgspec.json.encode(event), name.encode()) or not fits


@pytest.mark.slow
@settings(max_examples=400, deadline=None, database=None)
@given(st.randoms(use_true_random=False))
def test_damage_is_never_taken_for_something_else(rng: random.Random) -> None:
    value = bytearray(text(price=rng.choice((0, 1.5, 99999.99))))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(value))
        how = rng.randrange(3)
        if how == 0:
            value[at] = rng.choice(b'{}[]",:.-+0123456789eE \\\n\x00\xff' + value)
        elif how == 1:
            del value[at : at + rng.randrange(1, 9)]
        else:
            value[at:at] = rng.choice((b"0", b",", b'"', b" ", b"null", b"}", b"1e5", b"\\u0041"))
    is_plain(bytes(value))


@pytest.mark.parametrize(
    "value",
    [
        text(event_time=0),
        text(event_time=253_402_300_800_000),
        text(quantity=0),
        text(quantity=1_000_001),
        text(quantity=2.5),
        text(quantity=0.0),
        text(timezone="+24:00"),
        text(timezone="Europe/"),
        text(timezone="9/Berlin"),
        text(timezone="+02:0"),
        text(tax=1e10),
        text(order_discount=-1),
        text(order_id="x" * 257),
        text(user_id=""),
        text(price=1_000_000_000.5),
        text(price=-1),
        text(schema_version=0),
        text(schema_version=None),
        text(event_id=""),
        text(item_id="x" * 257),
        text(currency="x" * 17),
        text(type="dance"),
        text(type=None),
        text(user_id="bob"),
        text(other=1),
        text(properties={}),
        text(price=None)[:-1],
        text() + b"x",
        text().replace(b'"price": 12.25', b'"price": 012.25'),
        text().replace(b'"price": 12.25', b'"price": 12.'),
        text().replace(b'"price": 12.25', b'"price": .25'),
        text().replace(b'"price": 12.25', b'"price": 1234567890.123456'),
        text().replace(b'"quantity": 3', b'"price": 3'),
        text().replace(b'"type": "purchase", ', b""),
        text(item_id="caf\u00e9"),
        b"",
        b"null",
        b"{",
    ],
)
def test_what_is_not_plain_is_left_alone(value: bytes) -> None:
    assert not is_plain(value)


@pytest.mark.parametrize("name", sorted(OPTIONAL_FIELDS - {"properties"}))
def test_an_empty_text_counts_as_absent(name: str) -> None:
    whole = {**EXAMPLE, "order_id": "o-1"}
    absent = {key: value for key, value in whole.items() if key != name}
    empty = json.dumps({**whole, name: ""}).encode()
    assert is_plain(empty)
    assert encode_event(decode_event(empty)) == encode_event(
        decode_event(json.dumps(absent).encode())
    )


@pytest.mark.parametrize("number", ["3.0", "3.000", "3e0", "0.3e1", "30E-1"])
@pytest.mark.parametrize("name", ["quantity", "schema_version", "event_time"])
def test_a_whole_number_may_have_a_point(name: str, number: str) -> None:
    value = text(**{name: 777}).replace(b"777", number.encode())
    assert is_plain(value) == ("e" not in number.lower())
    assert getattr(decode_event(value), name) == 3


@pytest.mark.parametrize(
    "name",
    [
        *("Z", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+3"),
        *("EST5EDT", "+02:00", "-0330", "+23:59", "Africa/Porto-Novo"),
    ],
)
def test_time_zones_that_are_taken(name: str) -> None:
    assert is_plain(text(timezone=name))
    assert decode_event(text(timezone=name)).timezone == name


@pytest.mark.slow
@settings(max_examples=300, deadline=None, database=None)
@given(st.text("+-:/_09258aZ", max_size=8))
def test_time_zones_are_judged_alike(name: str) -> None:
    taken = is_plain(text(timezone=name))
    try:
        decode_event(text(timezone=name))
    except InvalidEvent:
        assert not taken
    else:
        assert taken


def test_orders_and_quantities_are_read() -> None:
    value = text(order_id="o-1", order_discount=2.5, tax=0.19)
    assert is_plain(value)
    assert encode_event(decode_event(value))[6:] == (order_code("o-1"), 3, 25_000)


def test_white_space_does_not_matter() -> None:
    assert is_plain(json.dumps(EXAMPLE, indent=2).encode() + b" \r\n")
    assert is_plain(msgspec.json.encode(EXAMPLE))
    assert is_plain(text(price=None, quantity=None, schema_version=3, anonymous_id="device"))


@pytest.mark.parametrize("currency", ["EUR", "eur", " jPy  ", "zzz", "AAA", None])
def test_currencies_of_three_letters_are_taken(currency: str | None) -> None:
    assert is_plain(text(currency=currency))


@pytest.mark.parametrize("currency", ["E", "EURO", "12E", "@AB", "[[[", "`ab", "{a}", "   ", "E R"])
def test_other_currencies_are_left_alone(currency: str) -> None:
    assert not is_plain(text(currency=currency))


def test_bounds() -> None:
    value = text()
    assert is_plain(value, bounds=NO_BOUNDS._replace(max_bytes=len(value)))
    assert not is_plain(value, bounds=NO_BOUNDS._replace(max_bytes=len(value) - 1))
    assert is_plain(value, bounds=NO_BOUNDS._replace(max_amount=367_500))
    assert not is_plain(value, bounds=NO_BOUNDS._replace(max_amount=367_499))
    here = (murmur2_in_python(b"ann") & 0x7FFFFFFF) % 5
    for partition in range(5):
        bounds = NO_BOUNDS._replace(partition=partition, partitions=5)
        assert is_plain(value, bounds=bounds) == (partition == here)


def test_the_largest_amounts() -> None:
    for price, quantity in ((1e9, 10**6), (1e9, 1000), (999999999.99, 1001)):
        event = Purchase(event_id="e", user_id="ann", event_time=1, price=price, quantity=quantity)
        fits = encode_event(event)[5] <= MAX_AMOUNT
        assert is_plain(encode(event)) == fits


@given(st.binary(max_size=40))
def test_murmur2_is_javas(key: bytes) -> None:
    want = murmur2_in_python(bytearray(key)) & 0xFFFFFFFF
    assert int(murmur2(as_array(key), 0, len(key))) == want


def test_an_event_that_is_refused_is_never_plain() -> None:
    for value in (text(event_time="1"), text(price="1"), text(quantity=True), text(item_id=5)):
        assert not is_plain(value)
        with pytest.raises(InvalidEvent):
            decode_event(value)
