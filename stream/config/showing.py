"""The settings in effect as TOML or JSON, each with its source, without any secret."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stream.config.catalog import Setting, settings_of
from stream.config.durations import duration_text
from stream.config.loading import DEFAULT, Sources

HIDDEN: Final = "***"
_USER_IN_URL: Final = re.compile(r"(?<=://).*@", re.DOTALL)
_USER_AT_HOST: Final = re.compile(r"(?<![^,\s])(?!\w[\w+.-]*://)[^,@/\s]+:.*@", re.DOTALL)
_QUERY: Final = re.compile(
    r"([?&;#][^=&\s]*(?:token|key|secret|passw|pwd|auth|cred|sig)[^=&\s]*=)[^&\s#]*", re.IGNORECASE
)


@dataclass(frozen=True)
class Effective:
    """One setting in effect.

    Attributes:
        setting: which.
        value: as JSON has it; None: unset, or hidden.
        hidden: whether there is a value that is not shown.
        source: "default", "file", "environment", "command line" or "local broker".
        place: file and line, or the variable; "" for other sources.
    """

    setting: Setting
    value: Any
    hidden: bool
    source: str
    place: str


def effective(sources: Sources, found: Mapping[str, str] | None = None) -> Iterator[Effective]:
    """Every setting in effect, in the order of the models.

    Args:
        sources: where the settings were read.
        found: values by name that a program finds out where they are not set: the local broker.

    Raises:
        SettingsError: the settings are wrong.
    """
    tree = sources.settings().model_dump(mode="json")
    for setting in settings_of(sources.model):
        value: Any = tree
        for key in setting.path:
            value = value[key]
        layer = sources.layer(setting.path)
        source, place = (DEFAULT, "") if layer is None else (layer.kind, layer.place(setting.path))
        if found and setting.name in found:
            value, source, place = found[setting.name], "local broker", ""
        hidden = setting.secret and value is not None
        shown = None if hidden else without_credentials(value)
        yield Effective(setting, shown, hidden, source, place if place != source else "")


def as_toml(settings: Iterator[Effective]) -> str:
    """A file of settings that `--config` accepts; unset and hidden ones are comments."""
    lines: list[str] = []
    section: tuple[str, ...] = ()
    for one in settings:
        if one.setting.path[:-1] != section:
            section = one.setting.path[:-1]
            lines += ["", f"[{'.'.join(section)}]"]
        key = one.setting.path[-1]
        if one.hidden:
            shown = f"# {key} is set, and hidden"
        elif one.value is None:
            shown = f"# {key} is unset"
        else:
            shown = f"{key} = {_toml(one.value)}"
        lines.append(f"{shown}  # {_meaning(one)}{one.source}{one.place and f', {one.place}'}")
    return "\n".join(lines) + "\n"


def as_json(settings: Iterator[Effective]) -> str:
    """An object with a member per setting, named like `worker.batch_size`."""
    members = {
        one.setting.name: {
            "value": one.value,
            "hidden": one.hidden,
            "source": one.source,
            "place": one.place or None,
        }
        for one in settings
    }
    return json.dumps(members, ensure_ascii=False, indent=2)


def without_credentials(value: Any) -> Any:
    """The value without what gives access: user and password of a URL, tokens and keys in it."""
    if isinstance(value, str):
        text = _USER_IN_URL.sub(f"{HIDDEN}@", value)
        return _QUERY.sub(rf"\1{HIDDEN}", _USER_AT_HOST.sub(f"{HIDDEN}@", text))
    if isinstance(value, Mapping):
        return {key: without_credentials(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_credentials(inner) for inner in value]
    return value


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items())
        return f"{{{pairs}}}"
    # JSON's strings, numbers, lists and truth values are written alike in TOML, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _meaning(one: Effective) -> str:
    """A duration in words, before the source."""
    if one.setting.kind != "duration" or not one.value:
        return ""
    return f"{duration_text(one.value)}; "
