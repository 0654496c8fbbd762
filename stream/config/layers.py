"""Sources of settings: a TOML file, the environment, the command line; each knows its places."""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from pydantic_settings import BaseSettings, EnvSettingsSource

from stream.config.catalog import ENV_DELIMITER, ENV_PREFIX, Setting, sections_of, settings_of
from stream.config.names import Problem, near_variable
from stream.errors import SettingsError

Keys = tuple[str, ...]
"""Section and key."""

NOT_SETTINGS: Final = frozenset({"INTENTSTREAM_FAULT"})
"""Variables with the prefix that others than the settings read: `stream.faults`."""
_TOO_DEEP: Final = "its values are nested too deeply"
_SERVICE: Final = "_SERVICE_HOST"
_OF_A_SERVICE: Final = re.compile(
    r"_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


@dataclass
class Layer:
    """Settings from one source.

    Attributes:
        kind: of the source.
        tree: nested like the settings; what is absent is not set here.
        problems: variables that are no settings or cannot be read.
    """

    kind: Literal["file", "environment", "command line"]
    tree: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def has(self, path: Keys) -> bool:
        """Whether something is set at the path or below it."""
        place: Any = self.tree
        for key in path:
            if not isinstance(place, Mapping) or place.get(key) is None:
                return False
            place = place[key]
        return True

    def place(self, path: Keys) -> str:
        """Where a setting stands in this source."""
        del path
        return self.kind


@dataclass
class FileLayer(Layer):
    """Settings from a TOML file."""

    file: Path = Path()
    text: str = ""

    def place(self, path: Keys) -> str:
        """File and line, e.g. `shop.toml:7`."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._lines:
                return f"{self.file}:{self._lines[path[:end]]}"
        return str(self.file)

    @cached_property
    def _lines(self) -> dict[Keys, int]:
        return lines_of(self.text)


@dataclass
class EnvironmentLayer(Layer):
    """Settings from environment variables."""

    names: Mapping[Keys, str] = field(default_factory=dict)

    def place(self, path: Keys) -> str:
        """Name of the variable, as it is written in the environment."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.names:
                return self.names[path[:end]]
        return self.kind


def read_file(file: Path) -> FileLayer:
    """Read a TOML file of settings.

    Raises:
        SettingsError: it cannot be read, or is no TOML.
    """
    try:
        # Editors on Windows put a mark of the encoding in front.
        text = file.read_text(encoding="utf-8-sig")
        tree = tomllib.loads(text)
        if _is_flat(tree):
            return FileLayer("file", tree, file=file, text=text)
        why = _TOO_DEEP
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is no UTF-8: save the file as UTF-8"
    except RecursionError:
        why = _TOO_DEEP
    except tomllib.TOMLDecodeError as error:
        why = str(error)
    except ValueError:
        why = "a number has too many digits"
    raise SettingsError(f"cannot read the settings file {file}: {why}")


def lines_of(text: str) -> dict[Keys, int]:
    """The line, from 1, on which each table and key of a TOML document begins.

    Statements are told apart by the TOML parser itself: a statement ends where the lines since the
    last one can be parsed.
    """
    lines: dict[Keys, int] = {}
    header, statement, begin = "", "", 1
    for number, line in enumerate(text.split("\n"), 1):
        statement += line.removesuffix("\r") + "\n"
        try:
            tree = tomllib.loads(header + statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.startswith("[", len(statement) - len(statement.lstrip())):
            header = statement
        for path in _paths(tree):
            lines.setdefault(path, begin)
        statement, begin = "", number + 1
    return lines


def _paths(tree: Mapping[str, Any], prefix: Keys = ()) -> Iterator[Keys]:
    for key, value in tree.items():
        yield (*prefix, key)
        if isinstance(value, Mapping):
            yield from _paths(value, (*prefix, key))


def read_environment(model: type[BaseSettings]) -> EnvironmentLayer:
    """Read the variables with the settings' prefix; those that cannot be settings are problems."""
    known = {setting.path: setting for setting in settings_of(model)}
    tables = {(section,) for section in sections_of(model)}
    names: dict[Keys, str] = {}
    problems = []
    services = _services()
    for name in sorted(os.environ):
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in NOT_SETTINGS or _is_link(name, services):
            continue
        path = tuple(upper.removeprefix(ENV_PREFIX).lower().split(ENV_DELIMITER))
        setting = _setting_at(path, known)
        if setting is None and path not in tables:
            text = f"unknown setting{near_variable(upper, known.values())}"
            problems.append(Problem(path, text, name))
        elif (path in tables or (setting and setting.json and path == setting.path)) and not (
            _is_json(os.environ[name])
        ):
            problems.append(Problem(path, 'no JSON: write ["a", "b"], or {"key": "value"}', name))
        else:
            names[path] = name
    source = EnvSettingsSource(model)
    wanted = {name.lower() for name in names.values()}
    source.env_vars = {name: text for name, text in source.env_vars.items() if name in wanted}
    return EnvironmentLayer("environment", source(), problems, names)


def _setting_at(path: Keys, known: Mapping[Keys, Setting]) -> Setting | None:
    """The setting of a path, or the table of values that the path leads into."""
    if path in known:
        return known[path]
    setting = known.get(path[:-1])
    return setting if setting is not None and setting.kind.startswith("table") else None


def _is_json(text: str) -> bool:
    try:
        return _is_flat(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _is_flat(value: object, levels: int = 16) -> bool:
    """Whether no value lies deeper: what is further down is no setting, and walks would not end."""
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(inner, Iterable) or isinstance(inner, str):
        return True
    return levels > 0 and all(_is_flat(part, levels - 1) for part in inner)


def _services() -> list[str]:
    """Names of services for which Kubernetes has set variables here (`enableServiceLinks`).

    A service `intentstream-worker` in a pod's namespace gives each of its containers
    `INTENTSTREAM_WORKER_SERVICE_HOST`, `INTENTSTREAM_WORKER_PORT` and more, which nobody chose.
    """
    found = []
    for name, value in os.environ.items():
        service = name.removesuffix(_SERVICE)
        if service != name and os.environ.get(f"{service}_SERVICE_PORT", "").isdecimal():
            try:
                ip_address(value)
            except ValueError:
                continue
            found.append(service)
    return found


def _is_link(name: str, services: list[str]) -> bool:
    return any(
        name.startswith(service) and _OF_A_SERVICE.fullmatch(name, len(service))
        for service in services
    )
