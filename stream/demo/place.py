"""Where a demo runs: its folder, its broker, and the settings that its processes share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream.broker import EmbeddedKafka, running_servers
from stream.config.loading import load_settings
from stream.config.settings import Settings
from stream.demo.errors import DemoError

__all__ = ["Place", "locked", "settings_text", "start_broker"]

_PREFIX: Final = "INTENTSTREAM_"
_SECRETS: Final = ("sasl_password", "ssl_key_password")


@dataclass(frozen=True)
class Place:
    """The demo's own folder."""

    root: Path

    @property
    def broker(self) -> Path:
        """Of the embedded broker: where `broker start --config` of these settings looks for it."""
        return self.state / "kafka"

    @property
    def state(self) -> Path:
        """Of the worker."""
        return self.root / "state"

    @property
    def models(self) -> Path:
        """Of published models."""
        return self.root / "models"

    @property
    def config(self) -> Path:
        """Settings of everything that belongs to this demo, for `--config`."""
        return self.root / "demo.toml"

    def log(self, name: str) -> Path:
        """What a process said."""
        return self.root / "logs" / f"{name}.log"

    def clear(self, *, broker: bool) -> None:
        """Forget the last demo, and its broker's data where `broker` says so."""
        kept = self.state.iterdir() if self.state.is_dir() else ()
        state = [path for path in kept if broker or path != self.broker]
        for path in [*state, self.models, self.root / "logs"]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        self.config.unlink(missing_ok=True)

    def write(self, settings: Settings) -> None:
        """Write the settings, without secrets, for the demo's processes and for the curious."""
        self.config.write_text(settings_text(settings), encoding="utf-8")

    def environment(self, settings: Settings) -> dict[str, str]:
        """Environment of a process that reads `config`: nothing in it overrides that file."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(_PREFIX)}
        for name in _SECRETS:
            secret = getattr(settings.kafka, name)
            if secret is not None:
                kept[f"{_PREFIX}KAFKA__{name.upper()}"] = secret.get_secret_value()
        return kept

    def settings(
        self, config: Path | None, servers: str, run: str, overrides: Mapping[str, Any]
    ) -> Settings:
        """The settings of this run.

        Args:
            config: the user's own file, for the cluster.
            servers: of the cluster.
            run: put before the names of all topics; empty on a broker of the demo's own.
            overrides: of the plan.
        """
        base = load_settings(config, {"kafka": {"bootstrap_servers": servers}})
        names = base.topics.model_dump()
        topics = {name: f"{run}{text}" for name, text in names.items() if isinstance(text, str)}
        own = {
            "app_id": f"{run}demo",
            "data_dir": str(self.state.absolute()),
            "models_dir": str(self.models.absolute()),
            "kafka": {"bootstrap_servers": servers},
            "topics": topics,
        }
        return load_settings(config, {**overrides, **own})


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """Keep a second demo out of the same folder.

    Raises:
        DemoError: one runs already.
    """
    place.root.mkdir(parents=True, exist_ok=True)
    with (place.root / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DemoError(
                f"another demo runs in {place.root}: wait for its end, or pass another --data-dir"
            ) from error
        yield


def start_broker(place: Place, say: Any) -> tuple[str, str, bool]:
    """Start the embedded broker on an empty folder, or find it running.

    Returns its servers, the prefix for this run's topics and whether it has to be stopped at the
    end: a broker that was there holds the topics of another run and stays.
    """
    found = running_servers(place.broker) is not None
    place.clear(broker=not found)
    info = EmbeddedKafka(place.broker).start(say)
    return info.bootstrap_servers, run_prefix() if info.found else "", not info.found


def run_prefix() -> str:
    """A prefix for topic names that no other run has."""
    return f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}."


def settings_text(settings: Settings) -> str:
    """The settings as TOML, without secrets."""
    tree = settings.model_dump(
        mode="json", exclude_none=True, exclude={"kafka": dict.fromkeys(_SECRETS, True)}
    )
    lines = [f"{name} = {_toml(value)}" for name, value in tree.items() if not _is_table(value)]
    for name, section in tree.items():
        if _is_table(section):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(v)}" for key, v in section.items())]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _toml(value: object) -> str:
    # JSON's strings, numbers and truth values are written alike in TOML.
    return json.dumps(value, ensure_ascii=False)
