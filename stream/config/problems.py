"""Everything that is wrong with settings, found at once."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from stream.config.catalog import Setting, settings_of
from stream.config.names import Problem, did_you_mean, near_choice, near_setting

Keys = tuple[str, ...]

_ALL: Final = "`intentstream config reference` lists all settings"


def problems_of(
    model: type[BaseModel], tree: Mapping[str, Any], place: Callable[[Keys], str]
) -> list[Problem]:
    """What is wrong with the settings of `tree`, single ones first; empty: nothing.

    A section whose settings contradict each other is reported even where other settings are wrong
    as well, unless the contradiction is about one that is wrong.

    Args:
        model: of the settings.
        tree: nested like the model.
        place: where the setting of a path comes from, for the message.
    """
    known = {setting.path: setting for setting in settings_of(model)}
    found: dict[Keys, Problem] = {}
    for error in _errors(model, tree):
        path = _path_of(error["loc"], known)
        if path not in found:
            found[path] = Problem(path, _text_of(error, path, tree, known), place(path))
    if any(len(path) > 1 for path in found):
        rest = _without(tree, found)
        for error in _errors(model, rest):
            path = _path_of(error["loc"], known)
            text = _text_of(error, path, rest, known)
            if path not in found and not _is_about(text, found.values()):
                found[path] = Problem(path, text, place(path))
    return list(found.values())


def _errors(model: type[BaseModel], tree: Mapping[str, Any]) -> list[Any]:
    try:
        model(**tree)
    except ValidationError as error:
        # The input is left out of the messages: it may be a secret.
        return list(error.errors(include_input=False, include_url=False))
    return []


def _path_of(location: tuple[int | str, ...], known: Mapping[Keys, Setting]) -> Keys:
    """Section and key of an error; within a setting, also the key of a table."""
    names = tuple(str(part) for part in location)
    for end in range(1, len(names) + 1):
        setting = known.get(names[:end])
        if setting is not None:
            return names[: end + 1] if setting.kind.startswith("table") else names[:end]
    return names


def _text_of(error: Any, path: Keys, tree: Mapping[str, Any], known: Mapping[Keys, Setting]) -> str:
    text: str = error["msg"].removeprefix("Value error, ")
    setting = known.get(path) or known.get(path[:-1])
    if error["type"] == "extra_forbidden":
        return f"unknown setting{did_you_mean(near_setting(path, known.values())) or f'; {_ALL}'}"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"this is a section of settings: write [{'.'.join(path)}], and its settings below"
    if setting is None:
        return text
    if setting.kind == "list of texts or durations":
        text = "this is none of the values that are accepted"  # not only what the first type says
    if not setting.choices or not all(f"'{choice}'" in text for choice in setting.choices):
        words = [setting.allowed] if setting.kind == "text" else [setting.kind, setting.allowed]
        text += f"; allowed: {', '.join(filter(None, words)) or setting.kind}"
    return text + near_choice(_value_at(tree, path), setting)


def _value_at(tree: Mapping[str, Any], path: Keys) -> object:
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _without(tree: Mapping[str, Any], paths: Mapping[Keys, Problem]) -> dict[str, Any]:
    """The tree without the settings at the paths."""
    rest: dict[str, Any] = {}
    for key, value in tree.items():
        below = {path[1:]: problem for path, problem in paths.items() if path[:1] == (key,)}
        if () not in below:
            inner = isinstance(value, Mapping) and below
            rest[key] = _without(value, below) if inner else value
    return rest


def _is_about(text: str, problems: Any) -> bool:
    """Whether the text names a setting that is wrong, or what it may have been meant to be."""
    words = set(re.findall(r"\w+", text))
    for problem in problems:
        suggested = re.findall(r"[\w.]+", problem.text.partition("did you mean")[2])
        if words & {problem.path[-1], *(name.rpartition(".")[2] for name in suggested)} - {
            "",
            "or",
        }:
            return True
    return False
