"""The committed documents are what the code says, are well formed, and describe real messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given

from schemas import generate
from schemas.channels import CHANNELS, DOCUMENTS
from schemas.codec import decode, decode_event, encode
from schemas.errors import IncompatibleSchema, SchemaError
from schemas.outputs import ChurnAlert, Prediction
from schemas.refused import DeadLetter, LateEvent
from tests.schemas.strategies import events
from tests.schemas.test_codec import BAD
from tests.schemas.test_control import MESSAGES
from tests.schemas.test_outputs import alerts, predictions
from tests.schemas.test_refused import late_events


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "generated"
    shutil.copytree(generate.GENERATED, target)
    return target


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((generate.GENERATED / name).read_text(encoding="utf-8"))
    return document


def validator(stem: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(load(f"{stem}{generate.SCHEMA_SUFFIX}"))


VALIDATORS = {stem: validator(stem) for stem in DOCUMENTS}
STEMS = {kind: stem for stem, kind in DOCUMENTS.items() if isinstance(kind, type)}


def test_the_committed_documents_are_up_to_date():
    assert generate.check() == generate.Check((), ()), "run `intentstream schemas generate`"


@pytest.mark.parametrize("stem", DOCUMENTS)
def test_every_schema_is_valid_and_describes_its_fields(stem):
    document = load(f"{stem}{generate.SCHEMA_SUFFIX}")
    jsonschema.Draft202012Validator.check_schema(document)
    for name, struct in {"": document, **document.get("$defs", {})}.items():
        if "$ref" in struct:
            continue
        assert struct["description"], name
        for field, body in struct.get("properties", {}).items():
            assert field == "type" or body["description"], f"{name}.{field}"


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inner += [schema[name] for name in ("items", "additionalProperties") if name in schema]
    for child in inner:
        yield from parts(child)


@pytest.mark.parametrize("stem", DOCUMENTS)
def test_every_schema_keeps_to_ajvs_strict_mode(stem):
    """Its rules (ajv 8, `strict: true`): known keywords, no unions, types beside bounds."""
    document = load(f"{stem}{generate.SCHEMA_SUFFIX}")
    known = {
        *("$schema", "$id", "$defs", "$ref", "title", "description", "examples", "default"),
        *("type", "enum", "properties", "required", "additionalProperties", "items", "pattern"),
        *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "contentEncoding"),
    }
    kinds = {
        "string": {"minLength", "maxLength", "pattern"},
        "number": {"minimum", "maximum", "exclusiveMinimum"},
        "integer": {"minimum", "maximum", "exclusiveMinimum"},
        "object": {"properties", "required", "additionalProperties"},
        "array": {"items"},
    }
    assert document["title"]
    for node in parts(document):
        assert node.keys() <= known
        types = node.get("type", [])
        named = [kind for kind in ([types] if isinstance(types, str) else types) if kind != "null"]
        assert len(named) <= 1
        bounds = node.keys() & set().union(*kinds.values())
        assert bounds <= (kinds.get(named[0], set()) if named else set())


@pytest.mark.parametrize("stem", DOCUMENTS)
def test_the_example_is_valid_and_decodes(stem):
    (example,) = load(f"{stem}{generate.SCHEMA_SUFFIX}")["examples"]
    VALIDATORS[stem].validate(example)
    kind = DOCUMENTS[stem]
    payload = json.dumps(example).encode()
    message = decode_event(payload) if stem == "event" else decode(kind, payload)
    assert json.loads(encode(message)) == example


@pytest.mark.parametrize("stem", DOCUMENTS)
def test_an_error_in_one_field_gives_one_message(stem):
    (example,) = load(f"{stem}{generate.SCHEMA_SUFFIX}")["examples"]
    for field in example:
        for wrong in ([], "", {}, True):
            found = list(VALIDATORS[stem].iter_errors({**example, field: wrong}))
            assert len(found) <= 1 or wrong == {}, field
        absent = {name: value for name, value in example.items() if name != field}
        assert len(list(VALIDATORS[stem].iter_errors(absent))) <= 1


def test_every_message_has_an_example():
    messages = load(generate.ASYNCAPI_FILE)["components"]["messages"]
    schemas = load(generate.ASYNCAPI_FILE)["components"]
    for name, message in messages.items():
        (example,) = message["examples"]
        assert example["name"], name
        jsonschema.validate(example["payload"], {**message["payload"], "components": schemas})


@pytest.mark.slow
@given(events)
def test_valid_events_match_the_schema(event):
    VALIDATORS["event"].validate(json.loads(encode(event)))


@pytest.mark.slow
@given(predictions | alerts | late_events)
def test_outputs_match_their_schema(message):
    VALIDATORS[STEMS[type(message)]].validate(json.loads(encode(message)))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_control_messages_match_their_schema(message):
    VALIDATORS[STEMS[type(message)]].validate(json.loads(encode(message)))


SCHEMA_REASONS = {"missing_field", "wrong_type", "unknown_type", "null_value", "out_of_range"}


@pytest.mark.parametrize(
    "payload",
    [payload for payload, reason, _ in BAD.values() if reason in SCHEMA_REASONS and payload],
)
def test_what_the_decoder_refuses_the_schema_refuses(payload):
    # JSON Schema takes numbers of any length; the standard parser is bounded to 4,300 digits.
    if len(payload) < 4300:
        assert not VALIDATORS["event"].is_valid(json.loads(payload))


def test_asyncapi_is_whole():
    document = load(generate.ASYNCAPI_FILE)
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert len(document["channels"]) == len(CHANNELS)
    for reference, siblings in references(document):
        assert siblings == 1
        assert resolve(document, reference)
    used = set()
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        used.add(channel)
        assert all(message["$ref"].startswith(channel) for message in operation["messages"])
    assert used == {f"#/channels/{channel.name}" for channel in CHANNELS}
    for channel in document["channels"].values():
        assert channel["bindings"]["kafka"]["topic"] == channel["address"]
        assert channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"]
    for message in document["components"]["messages"].values():
        assert message["bindings"]["kafka"]["key"]["description"]
        assert message["payload"]["$ref"].startswith("#/components/schemas/")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_asyncapi_payloads_describe_real_messages():
    document = load(generate.ASYNCAPI_FILE)
    kinds = [Prediction, ChurnAlert, DeadLetter, LateEvent, *(type(one) for one in MESSAGES)]
    assert {kind.__name__ for kind in kinds} <= document["components"]["messages"].keys()
    for message in MESSAGES:
        payload = document["components"]["messages"][type(message).__name__]["payload"]
        schema = {**payload, "components": document["components"]}
        jsonschema.validate(json.loads(encode(message)), schema)


def references(node: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"], len(node)
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def resolve(document: dict[str, Any], reference: str) -> Any:
    target: Any = document
    for step in reference.removeprefix("#/").split("/"):
        target = target[step]
    return target


def edit(path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_generate_into_an_empty_folder_is_reproducible(tmp_path):
    assert set(generate.generate(tmp_path / "new")) == set(generate.build())
    assert generate.check(tmp_path / "new").ok
    assert generate.generate(tmp_path / "new") == ()


@pytest.mark.slow
def test_an_incompatible_change_is_refused_and_nothing_is_written(folder):
    # The committed contract has a field that the code no longer knows.
    schema = folder / "prediction.schema.json"
    document = json.loads(schema.read_text(encoding="utf-8"))
    document["$defs"]["Prediction"]["properties"]["gone"] = {"type": "string"}
    schema.write_text(json.dumps(document), encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(IncompatibleSchema, match=r"prediction\.schema\.json: gone: field removed"):
        generate.generate(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert generate.generate(folder, allow_breaking=True) == ("prediction.schema.json",)
    assert generate.check(folder).ok


@pytest.mark.slow
def test_a_compatible_difference_is_outdated_not_breaking(folder):
    edit(folder / "prediction.schema.json", "The user scored.", "Someone.")
    found = generate.check(folder)
    assert found.breaks == ()
    assert found.outdated == ("prediction.schema.json",)
    generate.generate(folder)
    assert generate.check(folder).ok


def test_a_removed_message_is_breaking(folder):
    (folder / "prediction.schema.json").rename(folder / "forecast.schema.json")
    assert any("forecast" in line and "removed" in line for line in generate.check(folder).breaks)


def test_unreadable_documents_are_named(folder, tmp_path):
    (folder / "prediction.schema.json").write_text("{", encoding="utf-8")
    with pytest.raises(SchemaError, match=r"prediction\.schema\.json is not a JSON document"):
        generate.check(folder)
    with pytest.raises(SchemaError, match="schemas generate"):
        generate.check(tmp_path / "nowhere")


def test_channels_carry_documented_messages_and_match_the_topic_settings():
    from stream.config.settings import TopicSettings  # noqa: PLC0415 - only this test knows the engine

    topics = TopicSettings()
    assert {channel.address: getattr(topics, channel.name) for channel in CHANNELS} == {
        channel.address: channel.address for channel in CHANNELS
    }
    carried = {struct for channel in CHANNELS for struct in channel.messages}
    documented = {
        struct
        for kind in DOCUMENTS.values()
        for struct in (kind.__args__ if hasattr(kind, "__args__") else (kind,))
    }
    assert carried == documented
    assert all(issubclass(struct, msgspec.Struct) for struct in carried)
