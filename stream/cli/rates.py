"""`intentstream rates`: put rates of currencies onto their topic, or list those that lie there."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

app = typer.Typer(no_args_is_help=True)

Currency = Annotated[
    str | None, typer.Option("--currency", help="The shop's; default: money.currency.")
]


@app.command()
def publish(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or TOML, as for money.rates.", exists=True)
    ],
    currency: Currency = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Send the rates of FILE to the topic; one that is there already is replaced.

    Workers with money.rates_topic convert by them the events that Kafka takes in from one to two
    minutes later (money.rates_settle_ms), and those alone.
    """
    from stream.config.rates import read_rates
    from stream.errors import SettingsError
    from stream.kafka.rates import publish_rates

    money = {"currency": currency}
    settings = read_settings(config, bootstrap_servers, data_dir, money=money)
    if settings.money.currency is None:
        raise SettingsError("rates need the currency that they are in: pass --currency, as EUR")
    rates = read_rates(file, settings.money.currency)
    if not rates:
        raise SettingsError(f"{file} holds no rate: nothing was sent")
    sent = asyncio.run(publish_rates(settings, rates))
    typer.echo(f"{settings.topics.rates}: {sent} rates into {settings.money.currency} sent")


@app.command()
def show(
    currency: Currency = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """List the rates of the topic as CSV, with the time (UTC) from which events are converted."""
    from math import isnan

    from stream.errors import SettingsError
    from stream.kafka.rates import current_rates
    from stream.operations.watch import moment

    settings = read_settings(config, bootstrap_servers, data_dir, money={"currency": currency})
    if settings.money.currency is None:
        raise SettingsError("which rates? pass --currency, as EUR, or set money.currency")
    money = settings.money.model_copy(update={"rates": None, "rates_topic": True})
    rates = asyncio.run(current_rates(settings.model_copy(update={"money": money})))
    typer.echo("date,currency,rate,for events from")
    for rate in rates.rows():
        worth = "withdrawn" if isnan(rate.rate) else f"{rate.rate:g}"
        typer.echo(f"{rate.day},{rate.currency},{worth},{moment(rate.since)}")
