"""The settings reference, docs/settings.md, written from the settings models."""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from stream.config.catalog import Setting, sections_of, settings_of
from stream.config.durations import duration_text
from stream.config.settings import Settings

WIDTH: Final = 120
"""Characters a line."""

_HEAD: Final = """\
# Settings

This page is generated from the settings models: change `stream/config`, then run
`intentstream config reference --out docs/settings.md`.
A test compares the two.

A setting comes from the command line, or else from the environment, or else from a TOML file (`--config FILE`), or else
it has its default.
`intentstream config show` prints every setting in effect with its source.
`intentstream config check FILE` finds everything that is wrong with a file.

- In a file a setting stands under its section: `[worker]`, then `batch_size = 1000`.
- In the environment its name begins with `INTENTSTREAM_`, and two underscores part section and key:
  `INTENTSTREAM_WORKER__BATCH_SIZE=1000`.
  Lists and tables are written as JSON: `INTENTSTREAM_TRAIN__INTENT='["purchase"]'`.
- A duration is a whole number of milliseconds, or text such as `250ms`, `90s`, `15m`, `12h` or `7d`.
- A path is relative to the folder in which the program starts.
- Unset means that the file has no line for it: TOML has no word for "nothing".

## Unknown names

A setting that does not exist is refused, in a file and in the environment, and the message suggests the nearest name.
So a typing error never leaves a default in effect unseen.

Two kinds of variables with the prefix are no settings and are left alone:

- `INTENTSTREAM_FAULT`, by which tests break a worker.
- What Kubernetes sets in every container for a service whose name begins with `intentstream`, such as
  `INTENTSTREAM_WORKER_SERVICE_HOST`, `INTENTSTREAM_WORKER_SERVICE_PORT` and `INTENTSTREAM_WORKER_PORT_8600_TCP`.
  They are recognised by their form and by the service's `..._SERVICE_HOST` (an address) and `..._SERVICE_PORT` (a
  number).
  `enableServiceLinks: false` in the pod's specification turns them off.

Any other variable with the prefix ends a command with an error: unset it, or give it another name.
"""


def reference(model: type[Settings] = Settings) -> str:
    """The page as Markdown: one sentence a line, no line over 120 characters."""
    settings = list(settings_of(model))
    names = {setting.name for setting in settings}
    parts = [_HEAD]
    top = [setting for setting in settings if len(setting.path) == 1]
    parts += ["## Without a section\n", *(_entry(setting, names) for setting in top)]
    for section, kind in sections_of(model).items():
        parts.append(f"## `[{section}]`\n\n{_prose(_first_paragraph(kind), names)}")
        members = [setting for setting in settings if setting.path[0] == section]
        parts += [_entry(setting, names) for setting in members if len(setting.path) > 1]
    return "\n".join(parts)


def write_reference(file: Path, model: type[Settings] = Settings) -> bool:
    """Write the page; whether that changed the file."""
    text = reference(model)
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    file.write_text(text, encoding="utf-8")
    return True


def _first_paragraph(section: type[BaseModel]) -> str:
    return " ".join(inspect.cleandoc(section.__doc__ or "").split())


def _entry(setting: Setting, names: set[str]) -> str:
    facts = {
        "Type": setting.kind,
        "Unit": setting.unit,
        "Allowed": _allowed(setting),
        "Default": _default(setting),
        "Environment": f"`{setting.variable}`",
    }
    lines = [
        line
        for name, text in facts.items()
        if text
        for line in textwrap.wrap(f"- {name}: {text}", WIDTH, subsequent_indent="  ")
    ]
    text = _prose(setting.description, names)
    return f"### `{setting.name}`\n\n{text}\n" + "\n".join(lines) + "\n"


def _allowed(setting: Setting) -> str:
    """The limits, with values and patterns as code."""
    text = re.sub(r'("[^"]*")', r"`\1`", setting.allowed)
    return re.sub(r"(?<=that matches )(\S+)", r"`\1`", text)


def _default(setting: Setting) -> str:
    value: Any = setting.default
    if value is None:
        return "unset"
    if setting.kind == "duration":
        return f"`{value}` ({duration_text(value)})" if value else "`0`"
    text = json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
    return f"`{text}`"


def _prose(text: str, names: set[str]) -> str:
    """One sentence a line, with the names of settings as code."""
    return "".join(
        f"{line}\n" for sentence in _sentences(text) for line in _wrapped(sentence, names)
    )


def _sentences(text: str) -> list[str]:
    return re.split(r'(?<=[.!?]) (?=[A-Z0-9"`])', text)


def _wrapped(sentence: str, names: set[str]) -> Iterator[str]:
    def code(match: re.Match[str]) -> str:
        word = match[0]
        return f"`{word}`" if "_" in word or word in names else word

    # What is code already, and what stands in quotes, is left as it is.
    parts = re.split(r'(`[^`]*`|"[^"]*")', sentence)
    parts[::2] = [re.sub(r"[A-Za-z_]\w*(?:\.\w+)*", code, part) for part in parts[::2]]
    yield from textwrap.wrap("".join(parts), WIDTH, break_long_words=False, break_on_hyphens=False)
