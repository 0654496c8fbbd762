"""Reads rights.toml; run as a program it prints the commands that give a component its rights.

    python deploy/acls/rights.py worker User:intentstream-worker [--config settings.toml]

The commands are for the tools of Kafka itself; put --bootstrap-server and --command-config of an
administrator into KAFKA_ACLS.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream.config.loading import load_settings
from stream.config.settings import Settings

RIGHTS = Path(__file__).with_name("rights.toml")
OPTIONS = {"topic": "--topic", "group": "--group", "transactional_id": "--transactional-id"}


@dataclass(frozen=True, order=True)
class Right:
    """An operation on a resource."""

    kind: str
    """topic, group or transactional_id."""
    name: str
    operation: str
    """As kafka-acls names it: Read, Write, Describe, ..."""
    prefixed: bool = False
    """Whether `name` is the beginning of many names."""


def components() -> list[str]:
    """Names of the components."""
    return list(tomllib.loads(RIGHTS.read_text(encoding="utf-8")))


def rights(component: str, settings: Settings) -> Iterator[Right]:
    """The rights of a component, with the names of these settings."""
    names = settings.topics.model_dump() | {
        "app_id": settings.app_id,
        "changelog": settings.changelog,
        "replayed": settings.replayed,
    }
    chosen = tomllib.loads(RIGHTS.read_text(encoding="utf-8"))[component]
    for kind in OPTIONS:
        for template, operations in chosen.get(kind, {}).items():
            name = template.format_map(names)
            for operation in operations:
                yield Right(kind, name.removesuffix("*"), operation, name.endswith("*"))


def command(right: Right, principal: str) -> str:
    """The kafka-acls command that gives a right."""
    pattern = ["--resource-pattern-type", "prefixed"] if right.prefixed else []
    resource = [OPTIONS[right.kind], right.name, *pattern]
    words = ["--add", "--allow-principal", principal, "--operation", right.operation, *resource]
    return f"$KAFKA_ACLS {shlex.join(words)}"


def main() -> None:
    """Print the commands of a component."""
    parser = argparse.ArgumentParser(description="Print the commands that give a component rights.")
    parser.add_argument("component", choices=components())
    parser.add_argument("principal", help="as Kafka sees it, e.g. User:intentstream-worker")
    parser.add_argument("--config", type=Path, help="settings file, for the names of the topics")
    chosen = parser.parse_args()
    for right in rights(chosen.component, load_settings(chosen.config)):
        sys.stdout.write(f"{command(right, chosen.principal)}\n")


if __name__ == "__main__":
    main()
