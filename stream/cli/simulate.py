"""`intentstream simulate`: a synthetic shop with known truth, as load or as test data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

if TYPE_CHECKING:
    from stream.simulate import Delivery

app = typer.Typer()

_SHARE = "share of the events"


@app.command()
def simulate(
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 1_000,
    events: Annotated[int, typer.Option(min=1, help="Number of events.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal events.")] = 0,
    start: Annotated[
        str, typer.Option(help="Beginning: unix seconds, milliseconds or an ISO date.")
    ] = "2024-01-01",
    days: Annotated[float, typer.Option(help="Length of the simulated period.")] = 30.0,
    speed: Annotated[
        str, typer.Option(help="Seconds of simulated time per second, such as 3600, or max.")
    ] = "max",
    out: Annotated[
        Path | None, typer.Option(help="Write JSON Lines here instead of producing.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Write the users' true hazards here (Parquet).")
    ] = None,
    activity_sigma: Annotated[
        float, typer.Option(help="Sigma of the users' log-normal browsing.")
    ] = 1.5,
    purchase_share: Annotated[float, typer.Option(help=f"Purchases: expected {_SHARE}.")] = 0.03,
    lifetime_days: Annotated[
        float | None, typer.Option(help="Mean time a user stays. [default: --days]")
    ] = None,
    bots: Annotated[float, typer.Option(help="Share of users that are bots.")] = 0.0,
    duplicates: Annotated[float, typer.Option(help=f"Sent twice: {_SHARE}.")] = 0.0,
    disorder: Annotated[float, typer.Option(help=f"Up to 5 minutes delayed: {_SHARE}.")] = 0.0,
    late: Annotated[float, typer.Option(help=f"One to two hours delayed: {_SHARE}.")] = 0.0,
    poison: Annotated[float, typer.Option(help=f"Broken records in addition: {_SHARE}.")] = 0.0,
    topic: Annotated[str | None, typer.Option(help="Topic; default: the events topic.")] = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary here; - is standard output.")
    ] = None,
) -> None:
    """Simulate a shop onto the events topic, or to a file; every event says it is synthetic."""
    from stream.cli.replaying import run_production
    from stream.replay.pace import Pace, parse_speed
    from stream.replay.report import Report
    from stream.replay.source import parse_moment
    from stream.simulate import Faults, Plan, deliver, rows
    from stream.simulate import simulate as draw

    pace = Pace(parse_speed(speed))
    plan = Plan(
        users=users,
        events=events,
        start=parse_moment(start),
        days=days,
        seed=seed,
        purchase_share=purchase_share,
        activity_sigma=activity_sigma,
        lifetime_days=lifetime_days,
        bot_share=bots,
    )
    faults = Faults(duplicates=duplicates, disorder=disorder, late=late, poison=poison)
    settings = read_settings(config, bootstrap_servers, data_dir)
    if truth is not None:
        from stream.simulate.truth_file import save_truth
    delivery = deliver(draw(plan), faults, keyed=out is None)
    if truth is not None:
        save_truth(delivery.shop.truth, truth)
    report = Report(path="simulate", format="synthetic")
    if out is not None:
        from stream.simulate.wire import write_lines

        write_lines(delivery, out, report)
    else:
        total = len(delivery.time)
        run_production(settings, rows(delivery), report, topic=topic, pace=pace, total=total)
    _finish(delivery, report.to_json(), settings.state.grace_ms, json_out)
    if report.interrupted:
        typer.echo("interrupted: not everything was sent", err=True)
        raise typer.Exit(130)


def _finish(
    delivery: "Delivery", sent: dict[str, Any], grace_ms: int, json_out: Path | None
) -> None:
    from stream.cli.replaying import show_figures, write_json

    poison = delivery.poisoned()
    values = {
        "synthetic": True,
        "records": len(delivery.time),
        "sent": sent["sent"],
        "events": len(delivery.shop.time),
        "duplicates": delivery.duplicates,
        "late": delivery.late(grace_ms),
        "poison": sum(poison.values()),
        "poison_kinds": poison,
        "seconds": sent["seconds"],
        "events_per_second": sent["events_per_second"],
        "interrupted": sent["interrupted"],
    }
    if str(json_out) != "-":
        show_figures("synthetic shop", values)
    if json_out is not None:
        write_json(json_out, values)
