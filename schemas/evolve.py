"""Is a changed JSON Schema compatible, in both directions, with the committed one?

Messages stay in the log for months and producers, workers and subscribers are upgraded at different
times. So a change must pass two questions: does a new reader accept every old message, and does an
old reader accept every new one? What passes is an added optional field and an added event type
(readers dead-letter types they do not know, so the event union is open by contract). What fails:

- a field removed: whoever reads it loses it;
- a required field added: old messages do not have it;
- optional to required, or back: one side may miss it where the other insists;
- a type, enumeration or bound narrowed: new readers refuse old messages;
- a type, enumeration or bound widened: old readers refuse new messages;
- a default changed: an absent field would change its meaning;
- an event type removed, or the tag field renamed.

The remedy for all of them is a new optional field, or a new message on a new topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Break", "compare"]

Node = Mapping[str, Any]

NARROWED: Final = "new readers would refuse old messages"
WIDENED: Final = "old readers would refuse new messages"
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_JSON_TYPES: Final = {str: "string", int: "integer", bool: "boolean"}
_TAG: Final = "type"
_FEWEST_TAGS: Final = 2
_EXACT: Final = ("pattern", "format", "contentEncoding", "multipleOf")


@dataclass(frozen=True, order=True)
class Break:
    """One incompatible change.

    Attributes:
        path: dotted path of the field; `[]` is an array's element, `{}` a free object's value.
        rule: short name of the broken rule.
        why: who would fail, on what.
    """

    path: str
    rule: str
    why: str

    def __str__(self) -> str:
        """One line for a human."""
        return f"{self.path or '(document)'}: {self.rule}: {self.why}"


def compare(old: Node, new: Node) -> list[Break]:
    """All incompatible changes from the committed JSON Schema `old` to `new`, ordered by path."""
    return sorted(set(_Comparison(old, new).node(old, new, "")))


@dataclass(frozen=True)
class _Shape:
    """A schema node with references and `null` alternatives resolved."""

    nullable: bool
    body: Node
    variants: Mapping[str, Node] | None
    tag: str | None


class _Comparison:
    def __init__(self, old: Node, new: Node) -> None:
        self._old = old
        self._new = new
        self._seen: set[tuple[str, str]] = set()

    def node(self, old: Node, new: Node, path: str) -> Iterator[Break]:
        references = (old.get("$ref", ""), new.get("$ref", ""))
        if all(references):
            if references in self._seen:
                return
            self._seen.add(references)
        before, after = _expanded(_shape(old, self._old)), _expanded(_shape(new, self._new))
        if before.nullable != after.nullable:
            rule, why = (
                ("null no longer allowed", NARROWED)
                if before.nullable
                else ("null now allowed", WIDENED)
            )
            yield Break(path, rule, why)
        if before.variants is not None and after.variants is not None:
            yield from self._union(before, after, path)
        elif (before.variants is None) != (after.variants is None):
            yield Break(path, "turned into or from a tagged union", NARROWED)
        else:
            yield from self._body(before.body, after.body, path)

    def _union(self, old: _Shape, new: _Shape, path: str) -> Iterator[Break]:
        if old.tag != new.tag:
            yield Break(path, f"tag field renamed from {old.tag} to {new.tag}", NARROWED)
            return
        old_variants, new_variants = old.variants or {}, new.variants or {}
        for tag, variant in old_variants.items():
            where = f"{path}<{tag}>"
            if tag not in new_variants:
                yield Break(where, "type removed", NARROWED)
            else:
                yield from self.node(variant, new_variants[tag], where)

    def _body(self, old: Node, new: Node, path: str) -> Iterator[Break]:
        old_types, new_types = _types(old), _types(new)
        if old_types != new_types:
            shown = f"{_list(old_types)} became {_list(new_types)}"
            if old_types - new_types:
                yield Break(path, f"type narrowed: {shown}", NARROWED)
            if new_types - old_types:
                yield Break(path, f"type widened: {shown}", WIDENED)
            return
        yield from _enumeration(old, new, path)
        yield from _bounds(old, new, path)
        yield from self._properties(old, new, path)
        for keyword, mark in (("items", "[]"), ("additionalProperties", "{}")):
            if keyword not in old and keyword not in new:
                continue
            inner_old, inner_new = old.get(keyword, {}), new.get(keyword, {})
            if isinstance(inner_old, Mapping) and isinstance(inner_new, Mapping):
                yield from self.node(inner_old, inner_new, path + mark)
            elif inner_old != inner_new:
                rule = f"{keyword} changed from {inner_old} to {inner_new}"
                yield Break(path, rule, WIDENED if inner_old is False else NARROWED)

    def _properties(self, old: Node, new: Node, path: str) -> Iterator[Break]:
        old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
        old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
        for name, old_field in old_fields.items():
            where = f"{path}.{name}" if path else name
            if name not in new_fields:
                yield Break(where, "field removed", "its readers lose it")
                continue
            if name in new_required - old_required:
                yield Break(where, "now required", "old messages may lack it")
            if name in old_required - new_required:
                yield Break(where, "no longer required", "new messages may lack it")
            yield from _default(old_field, new_fields[name], where)
            yield from self.node(old_field, new_fields[name], where)
        for name in new_fields.keys() - old_fields.keys():
            if name in new_required:
                where = f"{path}.{name}" if path else name
                yield Break(where, "required field added", "old messages do not have it")


def _shape(node: Node, document: Node) -> _Shape:
    node = _resolve(node, document)
    options = [_resolve(option, document) for option in node.get("anyOf", ())]
    if "discriminator" in node:
        tag = node["discriminator"]["propertyName"]
        variants = {_tag_of(option, tag): option for option in options if option.get("properties")}
        nullable = any(option.get("type") == "null" for option in options)
        return _Shape(nullable, node, variants, tag)
    stripped = {
        keyword: [value for value in node[keyword] if value != null]
        for keyword, null in (("type", "null"), ("enum", None))
        if isinstance(node.get(keyword), list) and null in node[keyword]
    }
    if stripped:
        return _Shape(nullable=True, body={**node, **stripped}, variants=None, tag=None)
    plain = [option for option in options if option.get("type") != "null"]
    nullable = len(plain) < len(options)
    if len(plain) == 1:
        inner = _shape(plain[0], document)
        return _Shape(nullable or inner.nullable, inner.body, inner.variants, inner.tag)
    return _Shape(nullable, {**node, "anyOf": plain} if options else node, None, None)


def _expanded(shape: _Shape) -> _Shape:
    """The shape; one object with several values of `type` as the union that it stands for."""
    properties = shape.body.get("properties", {})
    tags = properties.get(_TAG, {}).get("enum", ())
    if shape.variants is not None or len(tags) < _FEWEST_TAGS:
        return shape
    variants = {
        tag: {**shape.body, "properties": {**properties, _TAG: {"enum": [tag]}}} for tag in tags
    }
    return _Shape(shape.nullable, shape.body, variants, _TAG)


def _resolve(node: Node, document: Node) -> Node:
    while "$ref" in node:
        target: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def _tag_of(variant: Node, tag: str) -> str:
    return str(variant["properties"][tag]["enum"][0])


def _types(node: Node) -> frozenset[str]:
    """JSON types a node accepts; an empty schema accepts `any`."""
    if "anyOf" in node:
        return frozenset().union(*(_types(option) for option in node["anyOf"]))
    if "type" in node:
        kinds = node["type"]
        return frozenset([kinds] if isinstance(kinds, str) else kinds)
    if "enum" in node:
        return frozenset(_JSON_TYPES[type(value)] for value in node["enum"])
    return frozenset(["any"])


def _list(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))


def _enumeration(old: Node, new: Node, path: str) -> Iterator[Break]:
    if ("enum" in old) != ("enum" in new):
        rule, why = ("enum dropped", WIDENED) if "enum" in old else ("enum introduced", NARROWED)
        yield Break(path, rule, why)
        return
    old_values, new_values = old.get("enum", ()), new.get("enum", ())
    for value in old_values:
        if value not in new_values:
            yield Break(path, f"enum value {value!r} removed", NARROWED)
    for value in new_values:
        if value not in old_values:
            yield Break(path, f"enum value {value!r} added", WIDENED)


def _bounds(old: Node, new: Node, path: str) -> Iterator[Break]:
    for keywords, sign in ((_LOWER, 1), (_UPPER, -1)):
        for keyword in keywords:
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            tightened = before is None or (after is not None and sign * (after - before) > 0)
            change = f"{keyword} {before} became {after}"
            rule = f"bound tightened: {change}" if tightened else f"bound loosened: {change}"
            yield Break(path, rule, NARROWED if tightened else WIDENED)
    for keyword in _EXACT:
        if old.get(keyword) != new.get(keyword):
            rule = f"{keyword} changed from {old.get(keyword)} to {new.get(keyword)}"
            yield Break(path, rule, WIDENED if keyword not in new else NARROWED)


def _default(old: Node, new: Node, path: str) -> Iterator[Break]:
    missing = object()
    before, after = old.get("default", missing), new.get("default", missing)
    if missing not in (before, after) and before != after:
        rule = f"default changed from {before!r} to {after!r}"
        yield Break(path, rule, "an absent field would change its meaning")
