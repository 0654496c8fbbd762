"""The event types and their codes, which state and features depend on."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import decode_event, encode
from schemas.events import EVENT_TYPES, TYPE_CODES, TYPE_NAMES, EventType


def test_codes_are_fixed_for_ever():
    assert TYPE_CODES == {
        "view": 1,
        "search": 2,
        "favourite": 3,
        "cart_add": 4,
        "cart_remove": 5,
        "purchase": 6,
        "refund": 7,
    }
    assert {TYPE_NAMES[code]: code for code in TYPE_NAMES} == TYPE_CODES


@pytest.mark.parametrize("name", TYPE_CODES)
def test_every_type_has_a_struct_with_its_tag_and_code(name):
    struct = EVENT_TYPES[name]
    event = struct(event_id="e", user_id="u", event_time=1)
    assert struct.__struct_config__.tag == name
    assert type(decode_event(encode(event))) is struct
    assert event.code == TYPE_CODES[name] == EventType[name.upper()]


def test_every_field_is_described():
    for struct in EVENT_TYPES.values():
        _, schemas = msgspec.json.schema_components([struct])
        fields = schemas[struct.__name__]["properties"]
        assert set(fields) == {"type", *struct.__struct_fields__}
        assert all("description" in body for name, body in fields.items() if name != "type")
