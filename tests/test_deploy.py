"""The compose file and the image, as far as they can be checked without a container engine."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from stream.cli.program import command_modules
from stream.config.loading import load_settings

ROOT = Path(__file__).parent.parent

DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
ENVIRONMENT = {
    "type": "object",
    # A bare true or null is read by YAML, and reaches the container as something else.
    "additionalProperties": {"type": ["string", "integer"]},
    "propertyNames": {"pattern": "^[A-Z][A-Z0-9_]*$"},
}
VOLUMES = STRINGS | {"items": {"type": "string", "pattern": r"^[a-z]+:/[a-z/]+(:ro)?$"}}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z/-]+:\d+\.\d+\.\d+$"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {
                "context": {"type": "string"},
                "dockerfile": {"type": "string"},
                "target": {"enum": ["worker", "trainer", "outcomes"]},
            },
        },
        "command": STRINGS,
        "environment": ENVIRONMENT,
        "init": {"type": "boolean"},
        "cap_drop": STRINGS,
        "security_opt": STRINGS,
        "ports": STRINGS | {"items": {"pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": DURATION,
        "volumes": VOLUMES,
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test"],
            "properties": {
                "test": {"type": "string"},
                "interval": DURATION,
                "timeout": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
        },
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {
                    "condition": {
                        "enum": [
                            "service_started",
                            "service_healthy",
                            "service_completed_successfully",
                        ]
                    }
                },
            },
        },
    },
}
# What of the Compose specification this project uses, and its own rules on top: images with exact
# versions, ports on loopback alone.
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE, "minProperties": 1},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recipe() -> list[dict[str, Any]]:
    return DockerfileParser(path=str(ROOT / "deploy")).structure


def test_the_compose_file_follows_the_schema(compose):
    jsonschema.Draft202012Validator.check_schema(COMPOSE)
    jsonschema.validate(compose, COMPOSE)
    assert {"kafka", "worker", "trainer"} <= set(compose["services"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda services: services["worker"].update(comand=["worker"]),
        lambda services: services["kafka"].update(ports=["9092:9092"]),
        lambda services: services["kafka"].update(image="apache/kafka:latest"),
        lambda services: services["kafka"]["environment"].update(KAFKA_X=True),
        lambda services: services["worker"].update(depends_on={"topics": {"condition": "ready"}}),
    ],
)
def test_the_schema_refuses_mistakes(compose, spoil):
    copy = json.loads(json.dumps(compose))
    spoil(copy["services"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(copy, COMPOSE)


def test_services_refer_to_what_exists(compose):
    services = compose["services"]
    used = set()
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            healthy = wait["condition"] == "service_healthy"
            assert "healthcheck" in services[name] or not healthy
        used |= {volume.split(":")[0] for volume in service.get("volumes", [])}
        if "build" in service:
            assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert used == set(compose["volumes"])


def test_services_run_commands_and_settings_that_exist(compose, monkeypatch):
    environments = []
    for service in compose["services"].values():
        if "build" not in service:
            continue
        assert service["command"][0] in command_modules()
        environments.append(service["environment"])
    assert len(environments) == 3
    assert all(environment == environments[0] for environment in environments)
    for name, value in environments[0].items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "kafka:19092"
    assert str(settings.models_dir) == "/var/lib/intentstream/models"
    mounts = compose["services"]["trainer"]["volumes"]
    assert mounts == [f"models:{settings.models_dir}"]


def test_kafka_advertises_the_listener_that_clients_are_told(compose):
    kafka = compose["services"]["kafka"]
    environment = kafka["environment"]
    assert "INSIDE://kafka:19092" in environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
    listeners = re.findall(r"(\w+)://:(\d+)", environment["KAFKA_LISTENERS"])
    mapped = dict(
        pair.split(":") for pair in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    )
    assert {name for name, _ in listeners} == set(mapped)
    assert kafka["volumes"] == [f"kafka:{environment['KAFKA_LOG_DIRS']}"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_image_installs_by_hash_and_does_not_run_as_root(recipe):
    commands = [(step["instruction"], step["value"]) for step in recipe]
    installs = [value for name, value in commands if name == "RUN" and "pip install" in value]
    assert all("--require-hashes -r" in value or "--no-deps" in value for value in installs)
    assert "--require-hashes -r requirements/base.txt" in installs[0]
    users = [value for name, value in commands if name == "USER"]
    assert users == ["10001"]
    assert all(name not in {"ADD", "ARG"} for name, _ in commands)
    (entry,) = (value for name, value in commands if name == "ENTRYPOINT")
    assert json.loads(entry) == ["intentstream"]


def stages(recipe: list[dict[str, Any]]) -> dict[str, list[tuple[str, str]]]:
    """Stage of the image -> its instructions, each with what it says."""
    found: dict[str, list[tuple[str, str]]] = {}
    for step in recipe:
        if step["instruction"] == "FROM":
            found[step["value"].split()[-1]] = []
        elif found:
            list(found.values())[-1].append((step["instruction"], step["value"]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "command", "installed"),
    [
        ("worker", "worker", []),
        ("trainer", "train", ["requirements/train.txt"]),
        ("outcomes", "outcomes", ["requirements/outcomes.txt"]),
    ],
)
def test_each_image_installs_what_its_command_needs(recipe, image, command, installed):
    found = stages(recipe)
    (default,) = (value for name, value in found[image] if name == "CMD")
    assert json.loads(default)[0] == command
    assert command in command_modules()
    (copied,) = (value for name, value in found[image] if name == "COPY")
    packages = found[copied.split()[0].removeprefix("--from=")]
    runs = [value for name, value in packages if name == "RUN"]
    assert [r.rpartition("-r ")[2] for r in runs if "--require-hashes" in r] == installed
    assert "--no-deps /wheels/*.whl" in runs[-1]


def test_the_image_of_a_worker_is_made_by_default(recipe):
    assert list(stages(recipe))[-1] == "worker"


def test_services_run_in_the_image_of_their_command(compose):
    targets = {
        name: service["build"]["target"]
        for name, service in compose["services"].items()
        if "build" in service
    }
    assert targets == {"topics": "worker", "worker": "worker", "trainer": "trainer"}


def test_the_images_python_is_supported(recipe):
    origins = [step["value"].split() for step in recipe if step["instruction"] == "FROM"]
    stages = {name for *_, name in origins}
    (base,) = {origin for origin, *_ in origins} - stages
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert version is not None
    assert 11 <= int(version[1]) < 14


def test_what_the_image_copies_exists_and_is_sent_to_the_engine(recipe):
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for step in recipe:
        if step["instruction"] == "COPY" and "--from" not in step["value"]:
            *sources, _ = step["value"].split()
            for source in sources:
                assert (ROOT / source).exists()
                assert any(fnmatch(source, pattern) for pattern in sent), source
