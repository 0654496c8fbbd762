"""Options that commands share, and how they become settings."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.config.loading import load_settings
from stream.config.settings import Settings

if TYPE_CHECKING:
    from stream.replay.adapter import Wanted

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file of settings."),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        metavar="HOST:PORT,...",
        help="Kafka cluster; without it the local broker, where one runs.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder of local state. [default: var]"),
]


class DateOrder(StrEnum):
    """Order of day and month."""

    DMY = "dmy"
    MDY = "mdy"


class DecimalSign(StrEnum):
    """What stands in front of the decimals."""

    POINT = "."
    COMMA = ","


Dates = Annotated[
    DateOrder | None,
    typer.Option("--dates", help="Day or month first, where the file does not tell by itself."),
]
Decimals = Annotated[
    DecimalSign | None,
    typer.Option("--decimal", help="Decimal sign, where the file does not tell by itself."),
]


def wanted(dates: DateOrder | None, decimal: DecimalSign | None) -> "Wanted":
    """How the user says that a file is written."""
    from stream.replay.adapter import Wanted

    return Wanted(
        None if dates is None else dates.value, None if decimal is None else decimal.value
    )


def broker_folder(settings: Settings) -> Path:
    """Return the folder of the embedded broker that belongs to these settings."""
    return settings.data_dir / "kafka"


def read_settings(
    config: Path | None = None,
    bootstrap_servers: str | None = None,
    data_dir: Path | None = None,
    **sections: Any,
) -> Settings:
    """Read the settings; where no cluster is named, name the running embedded one.

    Args:
        config: TOML file.
        bootstrap_servers: as `kafka.bootstrap_servers`.
        data_dir: as `data_dir`.
        sections: further overrides, e.g. `worker={"device": "cpu"}`, `app_id="shop"`; None means
            "not given".

    Raises:
        SettingsError: a setting is wrong.
        BrokerError: the embedded broker's folder is damaged.
    """
    overrides = sections | {"data_dir": data_dir}
    kafka = dict(sections.get("kafka") or {})
    if bootstrap_servers is not None:
        kafka["bootstrap_servers"] = bootstrap_servers
    return with_local_broker(load_settings(config, overrides | {"kafka": kafka}))


def with_local_broker(settings: Settings) -> Settings:
    """The settings; where they name no cluster, with the running embedded one.

    Raises:
        BrokerError: the embedded broker's folder is damaged.
    """
    if settings.kafka.bootstrap_servers:
        return settings
    from stream.broker import running_servers

    servers = running_servers(broker_folder(settings))
    if servers is None:
        return settings
    local = settings.kafka.model_copy(update={"bootstrap_servers": servers})
    return settings.model_copy(update={"kafka": local})
