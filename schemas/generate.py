"""Writes the JSON Schemas and the AsyncAPI 3 document, and compares them with committed ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas import evolve
from schemas.channels import CHANNELS, DOCUMENTS, Channel
from schemas.codec import encode
from schemas.errors import IncompatibleSchema, SchemaError
from schemas.events import Purchase
from schemas.examples import EXAMPLES
from schemas.strict import merge_variants, without_unions

__all__ = ["ASYNCAPI_FILE", "GENERATED", "SCHEMA_SUFFIX", "Check", "build", "check", "generate"]

GENERATED: Final = Path(__file__).parent / "generated"
"""Folder of the committed documents."""
SCHEMA_SUFFIX: Final = ".schema.json"
ASYNCAPI_FILE: Final = "asyncapi.json"
CONTRACT_VERSION: Final = "1.0.0"
"""Version of the contract as a whole; a broken one takes the next major number."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_KAFKA_BINDING: Final = "0.5.0"
_EVENT: Final = "What a user did: one JSON object per event, keyed by `user_id`."
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")

Document = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """Outcome of a comparison.

    Attributes:
        breaks: incompatible changes, each `file: path: rule: why`.
        outdated: names of committed files that differ from the code, or are absent or extra.
    """

    breaks: tuple[str, ...]
    outdated: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the committed documents are what the code says."""
        return not self.breaks and not self.outdated


def build() -> dict[str, str]:
    """File name -> text of every generated document; the same code gives the same bytes."""
    documents = {f"{stem}{SCHEMA_SUFFIX}": _schema(stem) for stem in DOCUMENTS}
    documents[ASYNCAPI_FILE] = _asyncapi()
    return {name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}


def check(folder: Path = GENERATED) -> Check:
    """Compare what the code says with the documents in a folder.

    Raises:
        SchemaError: when the folder does not exist or a document in it is not JSON.
    """
    if not folder.is_dir():
        raise SchemaError(f"no folder {folder}: run `intentstream schemas generate` first")
    texts = build()
    outdated = [name for name, text in texts.items() if _read(folder / name) != text]
    extra = {path.name for path in folder.glob("*.json")} - texts.keys()
    return Check(tuple(_breaks(folder, texts)), tuple(sorted({*outdated, *extra})))


def generate(folder: Path = GENERATED, *, allow_breaking: bool = False) -> tuple[str, ...]:
    """Write every document and return the names of those that changed.

    Raises:
        IncompatibleSchema: when a change breaks readers or writers of the documents in the folder
            and `allow_breaking` is not set; nothing is written then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = check(folder)
    if found.breaks and not allow_breaking:
        raise IncompatibleSchema(
            "incompatible schema change; add an optional field or a new message instead: "
            + "; ".join(found.breaks)
        )
    texts = build()
    for name in found.outdated:
        if name in texts:
            (folder / name).write_text(texts[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return found.outdated


def _breaks(folder: Path, texts: dict[str, str]) -> Iterator[str]:
    for path in sorted(folder.glob(f"*{SCHEMA_SUFFIX}")):
        if path.name not in texts:
            yield f"{path.name}: the message was removed"
            continue
        try:
            committed = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            remedy = "restore it from version control"
            raise SchemaError(f"{path.name} is not a JSON document ({error}): {remedy}") from None
        for found in evolve.compare(committed, json.loads(texts[path.name])):
            yield f"{path.name}: {found}"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _schema(stem: str) -> Document:
    kind = DOCUMENTS[stem]
    schema: Document = msgspec.json.schema(kind)
    if "discriminator" in schema:
        schema, shown = merge_variants(schema, "Event", _EVENT), Purchase
    else:
        shown = kind
        schema = {"title": _title(kind.__name__), **schema}
    return {
        "$schema": _DIALECT,
        "$id": f"urn:intentstream:schema:{stem}",
        **without_unions(schema, schema),
        "examples": [_example(shown)],
    }


def _example(struct: type[msgspec.Struct]) -> Document:
    shown: Document = json.loads(encode(EXAMPLES[struct]))
    return shown


def _title(name: str) -> str:
    return _WORD.sub(" ", name)


def _asyncapi() -> Document:
    structs = [struct for channel in CHANNELS for struct in channel.messages]
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "id": "urn:intentstream",
        "info": {
            "title": "intentstream",
            "version": CONTRACT_VERSION,
            "description": "Purchase intent and churn alerts from a shop's behaviour events.",
        },
        "defaultContentType": "application/json",
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {
            f"{action}{_camel(channel.name)}": _operation(channel, action)
            for channel in CHANNELS
            for action in channel.actions
        },
        "components": {
            "messages": {
                struct.__name__: _message(channel, struct)
                for channel in CHANNELS
                for struct in channel.messages
            },
            "schemas": _plain_references(without_unions(schemas, {"$defs": schemas})),
        },
    }


def _channel(channel: Channel) -> Document:
    names = [struct.__name__ for struct in channel.messages]
    return {
        "address": channel.address,
        "title": channel.address,
        "description": channel.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": channel.address,
                "topicConfiguration": {"cleanup.policy": [channel.cleanup]},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _operation(channel: Channel, action: str) -> Document:
    base = f"#/channels/{channel.name}"
    return {
        "action": action,
        "channel": {"$ref": base},
        "summary": channel.description,
        "messages": [{"$ref": f"{base}/messages/{struct.__name__}"} for struct in channel.messages],
    }


def _message(channel: Channel, struct: type[msgspec.Struct]) -> Document:
    name = struct.__name__
    return {
        "name": name,
        "title": _title(name),
        "summary": (struct.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "examples": [{"name": "usual", "payload": _example(struct)}],
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": channel.key},
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _plain_references(node: Any) -> Any:
    """Move keywords beside a `$ref` out of it: AsyncAPI ignores a reference's siblings."""
    if isinstance(node, dict):
        inner = {key: _plain_references(value) for key, value in node.items()}
        if "$ref" in inner and len(inner) > 1:
            reference = inner.pop("$ref")
            return {**inner, "allOf": [{"$ref": reference}]}
        return inner
    if isinstance(node, list):
        return [_plain_references(value) for value in node]
    return node
