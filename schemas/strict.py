"""msgspec's JSON Schemas -> schemas that ajv takes in strict mode, with one message per error.

A union makes a validator report each of its branches. So an optional field gets the type
`[T, null]`, and the event types, which share all fields, become one object with seven values of
`type`.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.errors import SchemaError

__all__ = ["merge_variants", "without_unions"]

Document = dict[str, Any]
_DEFINITIONS: Final = "$defs"


def without_unions(node: Any, document: Document) -> Any:
    """Return the node with each `T or null` written as one schema.

    Args:
        node: part of a schema.
        document: resolves the references in it.
    """
    if isinstance(node, list):
        return [without_unions(value, document) for value in node]
    if not isinstance(node, dict):
        return node
    inner = {key: without_unions(value, document) for key, value in node.items()}
    options = [option for option in inner.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) != 1 or len(inner["anyOf"]) != 2:  # noqa: PLR2004 - one type and null
        return inner
    del inner["anyOf"]
    (option,) = options
    if "$ref" in option:
        option = without_unions(_resolve(option["$ref"], document), document)
    body = {key: value for key, value in option.items() if key != "title"}
    if "enum" in body:
        body["enum"] = [*body["enum"], None]
    else:
        body["type"] = [body["type"], "null"]
    return {**body, **inner}  # the field's own description, not that of its type


def merge_variants(document: Document, title: str, description: str) -> Document:
    """Return a tagged union of structs with the same fields as one struct.

    Raises:
        SchemaError: the structs differ in more than their tag.
    """
    tag = document["discriminator"]["propertyName"]
    names = document["discriminator"]["mapping"]
    bodies = [_resolve(reference, document) for reference in names.values()]
    first = bodies[0]["properties"]
    for name, body in zip(names, bodies, strict=True):
        differ = [f for f in {**first, **body["properties"]} if f != tag]
        differ = [f for f in differ if first.get(f) != body["properties"].get(f)]
        if differ or body["required"] != bodies[0]["required"]:
            raise SchemaError(
                f"{name} has other fields than {next(iter(names))}: {', '.join(differ)}; give all"
                " event types the same optional fields"
            )
    meaning = "; ".join(
        f"{name}: {body['description']}" for name, body in zip(names, bodies, strict=True)
    )
    types = {"description": meaning, "enum": list(names)}
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": {**first, tag: types},
        "required": bodies[0]["required"],
    }


def _resolve(reference: str, document: Document) -> Document:
    body: Document = document[_DEFINITIONS][reference.rsplit("/", 1)[-1]]
    return body
