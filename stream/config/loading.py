"""Read the settings: the command line before the environment before a TOML file before defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stream.config.layers import Layer, read_environment, read_file
from stream.config.names import Problem
from stream.config.problems import problems_of
from stream.config.settings import Settings
from stream.errors import SettingsError

DEFAULT = "default"


@dataclass(frozen=True)
class Sources:
    """All sources of the settings, the weakest first.

    Attributes:
        layers: one per source.
        model: of the settings.
    """

    layers: tuple[Layer, ...]
    model: type[Settings] = Settings

    @classmethod
    def read(
        cls,
        config: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        model: type[Settings] = Settings,
    ) -> Self:
        """Read the file, where there is one, and the environment.

        Raises:
            SettingsError: the file cannot be read.
        """
        layers = [] if config is None else [read_file(config)]
        given = {
            key: value
            for key, value in merged({}, overrides or {}).items()
            if value or not isinstance(value, Mapping)  # a section of which nothing is given
        }
        above = Layer("command line", given)
        return cls((*layers, read_environment(model), above), model)

    def tree(self) -> dict[str, Any]:
        """What is set, nested like the settings; the strongest source of a setting wins."""
        tree: dict[str, Any] = {}
        for layer in self.layers:
            tree = merged(tree, layer.tree)
        return tree

    def layer(self, path: tuple[str, ...]) -> Layer | None:
        """The source that a setting's value is from; None: its default is in effect."""
        return next((layer for layer in reversed(self.layers) if layer.has(path)), None)

    def place(self, path: tuple[str, ...]) -> str:
        """Where a setting stands, for a message; "" where it is not set."""
        layer = self.layer(path)
        return "" if layer is None else layer.place(path)

    def problems(self) -> list[Problem]:
        """Everything that is wrong; empty: the settings can be used."""
        unread = [problem for layer in self.layers for problem in layer.problems]
        return [*unread, *problems_of(self.model, self.tree(), self.place)]

    def settings(self) -> Settings:
        """The settings.

        Raises:
            SettingsError: names every setting that is wrong, with its place.
        """
        problems = self.problems()
        if problems:
            raise SettingsError(f"wrong settings: {'; '.join(map(str, problems))}")
        return self.model(**self.tree())


def load_settings(
    config: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read the settings: overrides before the environment before the TOML file `config`.

    Args:
        config: TOML file with the tree of `Settings`; none: no file.
        overrides: nested like `Settings`, e.g. `{"kafka": {"bootstrap_servers": "..."}}`; a value
            of None means "not given".

    Raises:
        SettingsError: names every setting that is wrong, and the file when it cannot be read.
    """
    return Sources.read(config, overrides).settings()


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of settings in one; where both have a value, that of `above`, unless it is None."""
    tree = dict(below)
    for key, value in above.items():
        current = tree.get(key)
        if isinstance(value, Mapping):
            tree[key] = merged(current if isinstance(current, Mapping) else {}, value)
        elif value is not None:
            tree[key] = value
    return tree
