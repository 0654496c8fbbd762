"""What is wrong with a setting, in words, with the nearest name that exists."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from stream.config.catalog import ENV_PREFIX, Setting

_CUTOFF: Final = 0.65
"""Likeness of names, from 0 to 1, below which none is suggested."""
_STRICT: Final = 0.85
"""The same for names with a section, of which a part is often right by chance."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: section and key, or the section; empty: the settings as a whole.
        text: what is wrong and what to do, without the value: it may be a secret.
        place: file and line, or variable; "" where the source has none.
    """

    path: tuple[str, ...]
    text: str
    place: str = ""

    def __str__(self) -> str:
        """One line."""
        name = ".".join(self.path) or "settings"
        return f"{self.place}: {name}: {self.text}" if self.place else f"{name}: {self.text}"


def near_setting(path: tuple[str, ...], settings: Iterable[Setting]) -> tuple[str, ...]:
    """Names of known settings or sections that an unknown one may have been meant to be.

    Likely ones of the same section go first; then the same key in another section.
    """
    known = [setting.path for setting in settings]
    *section, key = path
    siblings = {other[-1]: other for other in known if list(other[:-1]) == section}
    if not section:
        siblings |= {other[0]: other[:1] for other in known if len(other) > 1}
    near = [siblings[name] for name in get_close_matches(key, siblings, 1, _CUTOFF)]
    if not near:
        near = [other for other in known if other[-1] == key]
    if not near:
        names = {".".join(other): other for other in known}
        near = [names[name] for name in get_close_matches(".".join(path), names, 1, _STRICT)]
    return tuple(".".join(other) for other in near)


def near_variable(name: str, settings: Iterable[Setting]) -> str:
    """Ending of a message about an unknown variable."""
    variables = [setting.variable.removeprefix(ENV_PREFIX) for setting in settings]
    near = get_close_matches(name.removeprefix(ENV_PREFIX), variables, 1, _CUTOFF)
    return did_you_mean(ENV_PREFIX + found for found in near)


def near_choice(value: object, setting: Setting) -> str:
    """Ending of a message about a value that is none of the setting's choices."""
    values = value if isinstance(value, list) else [value]
    wrong = [one for one in values if isinstance(one, str) and one not in setting.choices]
    near = [found for one in wrong for found in get_close_matches(one, setting.choices, 1)]
    return "" if setting.secret else did_you_mean(f'"{found}"' for found in near)


def did_you_mean(names: Iterable[str]) -> str:
    """Ending of a message that suggests names; "" where there are none."""
    found = " or ".join(names)
    return f"; did you mean {found}?" if found else ""
