"""Each rule of compatibility, on changes of one small message."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from copy import copy
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from schemas.events import EVENT_TYPES, Event
from schemas.evolve import NARROWED, WIDENED, compare
from schemas.generate import DOCUMENTS, GENERATED


class Inner(Struct):
    depth: int


Field = tuple[str, Any] | tuple[str, Any, Any]


def schema(*fields: Field) -> dict[str, Any]:
    return msgspec.json.schema(msgspec.defstruct("Message", list(fields)))


BASE: list[Field] = [
    ("name", Annotated[str, Meta(min_length=1, max_length=9)]),
    ("count", Annotated[int, Meta(ge=0, le=9)]),
    ("state", Literal["on", "off"]),
    ("inner", Inner),
    ("many", list[int]),
    ("free", dict[str, float]),
    ("note", str | None, None),
]


def changed(name: str, *field: Any) -> dict[str, Any]:
    return schema(*[(name, *field) if one[0] == name else one for one in BASE])


def without(name: str) -> dict[str, Any]:
    return schema(*[one for one in BASE if one[0] != name])


class Deeper(Struct):
    depth: str


BREAKING = {
    "required field removed": (without("count"), "count", "field removed", None),
    "optional field removed": (without("note"), "note", "field removed", None),
    "required field added": (
        schema(("size", int), *BASE),
        "size",
        "required field added",
        "old messages do not have it",
    ),
    "now required": (changed("note", str | None), "note", "now required", None),
    "no longer required": (
        schema(BASE[0], *BASE[2:], ("count", Annotated[int, Meta(ge=0, le=9)], 0)),
        "count",
        "no longer required",
        None,
    ),
    "type changed": (changed("many", str), "many", "type narrowed", NARROWED),
    "type narrowed": (changed("free", dict[str, int]), "free{}", "type narrowed", NARROWED),
    "type widened": (changed("many", list[float]), "many[]", "type widened", WIDENED),
    "one of two types": (changed("many", list[int | str]), "many[]", "type widened", WIDENED),
    "null allowed": (changed("state", Literal["on", "off"] | None), "state", "null now", WIDENED),
    "null refused": (changed("note", str, ""), "note", "null no longer", NARROWED),
    "enum value removed": (changed("state", Literal["on"]), "state", "'off' removed", NARROWED),
    "enum value added": (
        changed("state", Literal["on", "off", "idle"]),
        "state",
        "'idle' added",
        WIDENED,
    ),
    "enum dropped": (changed("state", str), "state", "enum dropped", WIDENED),
    "upper bound tightened": (
        changed("count", Annotated[int, Meta(ge=0, le=8)]),
        "count",
        "bound tightened: maximum 9 became 8",
        NARROWED,
    ),
    "upper bound loosened": (
        changed("count", Annotated[int, Meta(ge=0, le=10)]),
        "count",
        "bound loosened",
        WIDENED,
    ),
    "lower bound tightened": (
        changed("count", Annotated[int, Meta(ge=1, le=9)]),
        "count",
        "bound tightened",
        NARROWED,
    ),
    "bound removed": (changed("count", Annotated[int, Meta(ge=0)]), "count", "loosened", WIDENED),
    "bound added": (
        changed("many", Annotated[list[int], Meta(max_length=3)]),
        "many",
        "bound tightened: maxItems",
        NARROWED,
    ),
    "length tightened": (
        changed("name", Annotated[str, Meta(min_length=1, max_length=8)]),
        "name",
        "tightened: maxLength",
        NARROWED,
    ),
    "pattern added": (
        changed("name", Annotated[str, Meta(min_length=1, max_length=9, pattern="^a")]),
        "name",
        "pattern changed",
        NARROWED,
    ),
    "default changed": (changed("note", str | None, "x"), "note", "default changed", None),
    "nested field retyped": (changed("inner", Deeper), "inner.depth", "type narrowed", NARROWED),
}


@pytest.mark.parametrize(("new", "path", "rule", "why"), BREAKING.values(), ids=BREAKING.keys())
def test_a_breaking_change_is_found_and_explained(new, path, rule, why):
    breaks = compare(schema(*BASE), new)
    found = [one for one in breaks if one.path == path and rule in one.rule]
    assert found, breaks
    assert why is None or found[0].why == why


COMPATIBLE = {
    "nothing": schema(*BASE),
    "optional field added": schema(*BASE, ("size", int | None, None)),
    "optional object added": schema(*BASE, ("more", Inner | None, None)),
    "order of fields": schema(*reversed(BASE[:-1]), BASE[-1]),
    "described": changed("many", Annotated[list[int], Meta(description="numbers")]),
}


@pytest.mark.parametrize("new", COMPATIBLE.values(), ids=COMPATIBLE.keys())
def test_a_compatible_change_passes(new):
    assert compare(schema(*BASE), new) == []


class A(Struct, tag_field="type", tag="a"):
    x: int


class B(Struct, tag_field="type", tag="b"):
    x: int


class RetypedA(Struct, tag_field="type", tag="a"):
    x: str


class RenamedA(Struct, tag_field="kind", tag="a"):
    x: int


class RenamedB(Struct, tag_field="kind", tag="b"):
    x: int


class Holder(Struct):
    one: A | B | None = None


class OtherHolder(Struct):
    one: int | None = None


def test_event_types_may_be_added_but_not_removed():
    both, only_a = msgspec.json.schema(A | B), msgspec.json.schema(A | B)
    only_a = {**only_a, "anyOf": only_a["anyOf"][:1]}
    assert compare(only_a, both) == []
    assert [(one.path, one.rule) for one in compare(both, only_a)] == [("<b>", "type removed")]


def test_a_field_of_one_event_type_is_checked():
    breaks = compare(msgspec.json.schema(A | B), msgspec.json.schema(RetypedA | B))
    assert {one.path for one in breaks} == {"<a>.x"}


def test_the_tag_field_may_not_be_renamed():
    breaks = compare(msgspec.json.schema(A | B), msgspec.json.schema(RenamedA | RenamedB))
    assert [one.rule for one in breaks] == ["tag field renamed from type to kind"]


def test_a_union_may_not_become_a_plain_value():
    breaks = compare(msgspec.json.schema(Holder), msgspec.json.schema(OtherHolder))
    assert [one.path for one in breaks] == ["one"]


class Node(Struct):
    value: int
    children: list[Node] = []


def test_recursive_schemas_end():
    document = msgspec.json.schema(Node)
    assert compare(document, document) == []


# Types of a field, each with values at its limits.
VARIANTS: list[tuple[Any, list[Any]]] = [
    (int, [0, -5, 2**40]),
    (float, [0.5, 3, -1e300]),
    (str, ["", "long text"]),
    (bool, [True]),
    (int | None, [None, 7]),
    (int | str, [1, "a"]),
    (Annotated[int, Meta(ge=0)], [0, 9]),
    (Annotated[int, Meta(ge=0, le=5)], [0, 5]),
    (Annotated[str, Meta(max_length=3)], ["", "abc"]),
    (Annotated[str, Meta(pattern="^a")], ["a", "ab"]),
    (Literal["on", "off"], ["on", "off"]),
    (Literal["on"], ["on"]),
    (list[int], [[], [1]]),
    (list[float], [[0.5]]),
    (dict[str, int], [{}, {"a": 1}]),
    (Inner, [{"depth": 1}]),
    (Deeper, [{"depth": "x"}]),
]
# Per field: absent, or (variant, has a default).
specs = st.fixed_dictionaries(
    {
        name: st.none() | st.tuples(st.sampled_from(VARIANTS), st.booleans())
        for name in ("first", "second")
    }
)


def built(spec: dict[str, Any]) -> type[Struct]:
    fields: list[Field] = []
    for name, choice in spec.items():
        if choice is not None:
            (kind, values), optional = choice
            default = msgspec.field(default_factory=partial(copy, values[0]))
            fields.append((name, kind, default) if optional else (name, kind))
    return msgspec.defstruct("Message", fields, kw_only=True)


def messages(spec: dict[str, Any]) -> Iterator[bytes]:
    """Every message that a writer of the spec may write: values at their limits, or left out."""
    options = []
    for name, choice in spec.items():
        if choice is None:
            options.append([{}])
        else:
            (_, values), optional = choice
            options.append([{name: value} for value in values] + ([{}] if optional else []))
    for parts in itertools.product(*options):
        yield msgspec.json.encode({key: value for part in parts for key, value in part.items()})


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(specs, specs, st.sampled_from(["first", "second", "neither"]))
def test_what_passes_is_readable_in_both_directions(old, new, kept):
    if kept != "neither":
        new = {**new, kept: old[kept]}
    old_reader, new_reader = built(old), built(new)
    assume(not compare(msgspec.json.schema(old_reader), msgspec.json.schema(new_reader)))
    for message in messages(old):
        msgspec.json.decode(message, type=new_reader)
    for message in messages(new):
        msgspec.json.decode(message, type=old_reader)


@pytest.mark.parametrize("stem", DOCUMENTS)
def test_every_message_is_compatible_with_itself(stem):
    document = msgspec.json.schema(DOCUMENTS[stem])
    assert compare(document, document) == []


def events_schema() -> dict[str, Any]:
    text = (GENERATED / "event.schema.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def test_event_types_may_be_added_and_not_removed() -> None:
    before, after = events_schema(), events_schema()
    after["properties"]["type"]["enum"].append("wish")
    assert compare(before, after) == []
    assert [str(found) for found in compare(after, before)] == [f"<wish>: type removed: {NARROWED}"]


def test_one_object_is_compatible_with_the_union_it_replaces() -> None:
    union, merged = msgspec.json.schema(Event), events_schema()
    assert compare(union, merged) == compare(merged, union) == []
    merged["properties"]["price"]["maximum"] = 5
    assert len(compare(union, merged)) == len(EVENT_TYPES)
