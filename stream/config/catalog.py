"""Every setting, described from the settings models: name, type, unit, allowed values, default.

The reference (docs/settings.md), `intentstream config` and the messages about wrong settings all
read this description, so a setting that is added to a model needs no second entry.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from stream.config.durations import DURATION, duration_text
from stream.config.units import Unit

ENV_PREFIX: Final = "INTENTSTREAM_"
ENV_DELIMITER: Final = "__"

_PLAIN: Final[Mapping[object, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
}
_LIMITS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        path: its section, where it has one, and its key.
        kind: type in words, e.g. "whole number".
        unit: what a number counts; "" for other types.
        allowed: the values that are accepted, in words; "" where the type says it all.
        choices: the values, where only these are accepted.
        default: value; None: unset.
        description: what it does.
        secret: whether its value is never shown.
        json: whether the environment gives its value as JSON.
    """

    path: tuple[str, ...]
    kind: str
    unit: str
    allowed: str
    choices: tuple[str, ...]
    default: Any
    description: str
    secret: bool
    json: bool

    @property
    def name(self) -> str:
        """Section and key, e.g. `worker.batch_size`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Environment variable that sets it."""
        return variable_of(self.path)


def variable_of(path: tuple[str, ...]) -> str:
    """Environment variable of a path of section and key."""
    return ENV_PREFIX + ENV_DELIMITER.join(path).upper()


def settings_of(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting of the model and its sections, in their order."""
    for key, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            yield from settings_of(section, (*prefix, key))
        else:
            yield _described((*prefix, key), field)


def sections_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The sections by name, in their order."""
    found = {key: section_of(field) for key, field in model.model_fields.items()}
    return {key: section for key, section in found.items() if section is not None}


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section, None where it is a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _described(path: tuple[str, ...], field: FieldInfo) -> Setting:
    metadata = _flat(field.metadata)
    kind, choices, limits = _type_of(field.annotation, metadata)
    units = [part.name for part in _everything(field.annotation, metadata) if type(part) is Unit]
    types = list(_everything(field.annotation, ()))
    decoded = NoDecode not in metadata and any(part in (tuple, dict) for part in types)
    return Setting(
        path=path,
        kind=kind,
        unit=units[0] if units else "",
        allowed=limits,
        choices=choices,
        default=field.get_default(call_default_factory=True, validated_data={}),
        description=" ".join((field.description or "").split()),
        secret=SecretStr in types,
        json=decoded,
    )


def _flat(metadata: Any) -> list[Any]:
    """What is known of a value, with what nested field descriptions hold."""
    flat: list[Any] = []
    for part in metadata:
        flat += _flat(part.metadata) if isinstance(part, FieldInfo) else [part]
    return flat


def _everything(annotation: Any, metadata: Any) -> Iterator[Any]:
    """Each type and each piece of metadata within an annotation, the outermost first."""
    yield from metadata
    yield get_origin(annotation) or annotation
    if hasattr(annotation, "__metadata__"):
        yield from _everything(annotation.__origin__, _flat(annotation.__metadata__))
    elif get_origin(annotation) is not Literal:
        for inner in get_args(annotation):
            yield from _everything(inner, ())


def _type_of(annotation: Any, metadata: list[Any]) -> tuple[str, tuple[str, ...], str]:
    """A type in words, its choices, and its limits in words."""
    if hasattr(annotation, "__metadata__"):
        return _type_of(annotation.__origin__, [*_flat(annotation.__metadata__), *metadata])
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        choices = tuple(map(str, inner))
        return "text", choices, "one of " + ", ".join(f'"{choice}"' for choice in choices)
    if origin in (Union, UnionType):
        return _union([part for part in inner if part is not NoneType], metadata)
    if origin is tuple:
        kind, choices, limits = _type_of(inner[0], [])
        limits = ", ".join(filter(None, [limits and f"each {limits}", _length(metadata)]))
        return f"list of {_plural(kind)}", choices, limits
    if origin is dict:
        (_, choices, keys), (kind, _, limits) = (_type_of(part, []) for part in inner)
        return f"table of {_plural(kind)}", choices, f"keys {keys}; each {limits}"
    kind = "duration" if DURATION in metadata else _PLAIN.get(annotation, str(annotation))
    return kind, (), _limits(metadata, kind)


def _union(parts: list[Any], metadata: list[Any]) -> tuple[str, tuple[str, ...], str]:
    described = [_type_of(part, metadata) for part in parts]
    kinds = dict.fromkeys(kind for kind, _, _ in described)
    choices = described[0][1] if len(described) == 1 else ()
    return (
        " or ".join(kinds),
        choices,
        " or ".join(filter(None, (text for _, _, text in described))),
    )


def _plural(kind: str) -> str:
    words = {"text": "texts", "text or duration": "texts or durations"}
    return words.get(kind, f"{kind}s")


def _length(metadata: list[Any]) -> str:
    least, most = _sharpest(metadata, "min_length", max), _sharpest(metadata, "max_length", min)
    words = [f"at least {least}" * (least is not None), f"at most {most}" * (most is not None)]
    said = " and ".join(filter(None, words))
    return f"{said} of them" if said else ""


def _limits(metadata: list[Any], kind: str) -> str:
    words = []
    for bound, word in _LIMITS.items():
        limit = _sharpest(metadata, bound, max if bound[0] == "g" else min)
        if limit is not None:
            shown = duration_text(limit) if kind == "duration" else f"{limit:.15g}"
            words.append(f"{word} {shown}")
    patterns = [part.pattern for part in metadata if getattr(part, "pattern", None)]
    return " and ".join([*words, *(f"text that matches {pattern}" for pattern in patterns)])


def _sharpest(metadata: list[Any], bound: str, choose: Any) -> Any:
    limits = [getattr(part, bound, None) for part in metadata]
    return choose((limit for limit in limits if limit is not None), default=None)
