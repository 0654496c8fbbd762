"""Hypothesis strategies for valid messages."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from schemas.events import EVENT_TYPES, MAX_PRICE, MAX_QUANTITY, MAX_TIME, Event
from schemas.outputs import Source

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=256)
times = st.integers(1, MAX_TIME)
durations = st.integers(0, 2**63 - 1)
sources = st.builds(Source, texts, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
raw_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
).map(lambda value: msgspec.Raw(msgspec.json.encode(value)))


def _optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


events: st.SearchStrategy[Event] = st.sampled_from(list(EVENT_TYPES.values())).flatmap(
    lambda kind: st.builds(
        kind,
        event_id=texts,
        user_id=texts,
        event_time=times,
        schema_version=st.integers(1, 65535),
        anonymous_id=_optional(texts),
        session_id=_optional(texts),
        item_id=_optional(texts),
        category_id=_optional(texts),
        price=_optional(st.floats(0, MAX_PRICE)),
        quantity=_optional(st.integers(1, MAX_QUANTITY)),
        currency=_optional(st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)),
        query=_optional(st.text(st.characters(codec="utf-8"), max_size=200)),
        order_id=_optional(texts),
        order_discount=_optional(st.floats(0, MAX_PRICE)),
        tax=_optional(st.floats(0, MAX_PRICE)),
        timezone=_optional(st.sampled_from(("Z", "+02:00", "-0330", "Europe/Berlin", "Etc/GMT+3"))),
        properties=_optional(st.dictionaries(texts, raw_values, max_size=4)),
    )
)
