"""`intentstream evaluate`: the models and their baselines on real data, by fixed protocols."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.evaluation.results import TaskResult
    from models.evaluation.simulated_shop import SimulatedShop
    from models.log.eventlog import EventLog
    from stream.simulate.plan import Plan
    from stream.simulate.shop import Shop

app = typer.Typer()

_START = 1_700_000_000_000 // 86_400_000 * 86_400_000
_USERS, _DAYS, _EVENTS_PER_USER = 5_000, 90, 400


@app.command()
def evaluate(
    task: Annotated[
        str,
        typer.Argument(
            help="all, or cdnow_return, online_retail_return, online_retail_spend, "
            "taobao_purchase_24h, taobao_interest_24h, taobao_next, published, simulated_shop, "
            "simulated_return, sessions_simulated, sessions_taobao, live_online_retail, "
            "live_drifting_shop, alerts_online_retail, alerts_simulated_shop; "
            "recsys2025 (docs/recsys2025.md), "
            "sessions_rees46, sessions_retailrocket: in all where --data has their files."
        ),
    ] = "all",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Folder of the public files; may be given several times."),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here; - is standard output.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, each with its own seed.")] = 5,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes at a time. [default: one per core]")
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(help="Architectures that take part, separated by commas. [default: all]"),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the pictures into this folder and a page beside it."),
    ] = None,
) -> None:
    """Evaluate the architectures and baselines; nothing is published."""
    from schemas.extras import need

    need("evaluate", "`intentstream evaluate`")
    import torch

    from models.evaluation.contest import NETWORKS, ContestConfig
    from models.evaluation.pool import IncompleteEvaluation
    from models.evaluation.tasks import Sources, run

    torch.set_num_threads(1)
    folders = tuple(data or (Path("../shared/data"), Path("data")))
    config = ContestConfig(
        seeds=tuple(range(seeds)),
        networks=NETWORKS if networks is None else tuple(networks.split(",")),
    )
    sources = Sources(folders, _simulated, _leaving)
    jobs = jobs or os.cpu_count() or 1
    failed: IncompleteEvaluation | None = None
    try:
        results = run(task, sources, config, lambda line: typer.echo(line, err=True), jobs)
    except IncompleteEvaluation as error:
        results, failed = error.results, error
    if str(json_out) != "-":
        _show(results)
    if json_out is not None:
        from models.evaluation.results import to_json
        from stream.cli.replaying import write_json

        write_json(json_out, to_json(results))
    if report is not None:
        from models.evaluation.page import write_report

        chosen = "" if networks is None else f" --networks {networks}"
        command = f"intentstream evaluate {task} --seeds {seeds}{chosen} --report {report}"
        typer.echo(f"report: {write_report(results, report, command)}", err=True)
    if failed is not None:
        raise failed


def _show(results: list[TaskResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    from models.evaluation.page import table

    console = Console()
    for result in results:
        shown = Table(title=result.title)
        for column in ("model", "kind", *result.models[result.default].names):
            shown.add_column(column)
        for row in table(result):
            shown.add_row(*row)
        console.print(shown)


def _simulated() -> SimulatedShop:
    """A shop with many purchases per user, so that their own hazards can be known from them."""
    import numpy as np

    from models.evaluation.simulated_shop import SimulatedShop
    from stream.simulate import Plan, simulate

    plan = Plan(
        users=_USERS,
        events=_USERS * _EVENTS_PER_USER,
        start=_START,
        days=_DAYS,
        seed=1,
        purchase_share=0.14,
        lifetime_days=100_000,
    )
    shop = simulate(plan)
    log, names = _log_of(plan, shop)
    order = np.argsort(names)

    def probability(users: Any, times: Any, horizon_ms: int) -> Any:
        index = order[np.searchsorted(names[order], users)]
        return shop.truth.true_probability(index, times, horizon_ms)

    return SimulatedShop(log, probability, _START, _DAYS)


def _leaving() -> EventLog:
    """A shop that users leave."""
    from stream.simulate import simulate
    from stream.simulate.plan import LEAVERS

    return _log_of(LEAVERS, simulate(LEAVERS))[0]


def _log_of(plan: Plan, shop: Shop) -> tuple[EventLog, NDArray[np.uint64]]:
    """The events of a simulated shop, and the hash of each of its users."""
    import numpy as np

    from models.encoding import hash64, item_code
    from models.history import AMOUNT_UNIT, Events
    from models.log.eventlog import EventLog
    from stream.simulate.truth import user_id

    names = np.array([hash64(user_id(index)) for index in range(plan.users)], np.uint64)
    items = np.array([item_code(str(index)) for index in range(plan.items)], np.uint32)
    events = Events(
        time=shop.time,
        id=np.arange(1, len(shop.time) + 1, dtype=np.uint64),
        type=shop.kind.astype(np.uint8),
        item=items[shop.item],
        category=(shop.item % plan.categories + 1).astype(np.uint16),
        amount=np.round(shop.prices[shop.item] * shop.quantity * AMOUNT_UNIT).astype(np.int64),
        order=np.zeros(len(shop.time), np.uint32),
        quantity=shop.quantity.astype(np.uint32),
    )
    return EventLog(names[shop.user], events), names
