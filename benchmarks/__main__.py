"""Measure the parts that bound the whole; writes bench.json and prints it as a table.

The pipeline's figures are for one partition in one process without Kafka: decoding, state, scoring
and the encoding of outputs and changelog, over a store in memory. They are an upper bound of what a
worker does, not its throughput. They run on the wall clock, as a worker does that catches up; on
the event clock a replay of long sparse histories has a step per timer tick, and is much slower.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from models.artifact import script_bytes
from models.features import PROFILE_FEATURES
from models.networks import build
from models.scorer import Scorer, manifest_of, network_spec
from models.targets import shop_targets
from schemas.events import EventType
from stream.broker import EmbeddedKafka
from stream.broker.jars import classpath
from stream.settings import DAY_MS, Settings
from stream.simulate import Faults, Plan, deliver, rows, simulate
from stream.testing import PipelineDriver

START_MS = 1_700_000_000_000
HELP_TARGET_S = 1.0
BROKER_TARGET_S = 10.0

Records = list[tuple[bytes | None, bytes | None, int]]


def gru() -> Scorer:
    """Return an untrained GRU: it costs what a trained one does."""
    torch.manual_seed(0)
    targets = shop_targets(EventType.PURCHASE.value, DAY_MS, 30 * DAY_MS)
    network = build("gru", network_spec(targets)).eval()
    manifest = manifest_of(
        network,
        "gru-untrained",
        "gru",
        history_length=32,
        targets=targets,
        reference_profile=(0.0,) * len(PROFILE_FEATURES),
        created_at=0,
    )
    return Scorer.of_script(script_bytes(network), manifest)


def events_per_second(scorer: Scorer, records: Records, batch: int) -> float:
    """Run the records through a new pipeline; what it decides is part of the work."""
    driver = PipelineDriver(scorer, Settings(worker={"clock": "wall"}))
    begun = time.perf_counter()
    driver.pipe_raw(records, batch)
    took = time.perf_counter() - begun
    if driver.pipeline.counters.accepted != len(records):
        raise SystemExit(f"the pipeline refused events: {driver.pipeline.counters}")
    return len(records) / took


def help_seconds() -> float:
    """Start the program as a user does."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "--help"], check=True, capture_output=True
    )
    return time.perf_counter() - begun


def broker_ready_seconds() -> float:
    """Start a new broker from cached jars until it serves."""
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedKafka(Path(folder) / "kafka")
        begun = time.perf_counter()
        broker.start()
        took = time.perf_counter() - begun
        broker.stop()
    return took


def median_of(runs: int, measure: Callable[[], float]) -> dict[str, Any]:
    """Measure `runs` times; keeps every run."""
    values = [round(measure(), 3) for _ in range(runs)]
    return {"runs": values, "median": statistics.median(values)}


def main(
    events: Annotated[int, typer.Option(min=1000, help="Simulated events.")] = 200_000,
    users: Annotated[int, typer.Option(min=1, help="Simulated users.")] = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="Records of a micro-batch.")] = 4096,
    runs: Annotated[int, typer.Option(min=1, help="Repetitions.")] = 3,
    out: Annotated[Path, typer.Option("--json", help="Where to write.")] = Path("bench.json"),
) -> None:
    """Measure, print, write; exit status 1 when a target is missed."""
    classpath(print)
    delivery = deliver(simulate(Plan(users, events, START_MS, bot_share=0.001)), Faults())
    now = int(time.time() * 1000)
    records: Records = [(row.key, row.value, now) for row in rows(delivery)]
    targets = shop_targets(EventType.PURCHASE.value, DAY_MS, 30 * DAY_MS)
    contestants = {}
    for name, scorer in {"rhythm": Scorer.rhythm(targets), "gru": gru()}.items():
        figures = median_of(runs, lambda s=scorer: events_per_second(s, records, batch))
        contestants[f"pipeline without Kafka, {name}"] = {
            "events_per_second": figures["runs"],
            "median": figures["median"],
        }
        print(f"pipeline without Kafka, {name}: {figures['median']:,.0f} events/s")
    measures = []
    for name, measure, target in (
        ("help_seconds", help_seconds, HELP_TARGET_S),
        ("broker_ready_seconds", broker_ready_seconds, BROKER_TARGET_S),
    ):
        figures = median_of(runs, measure)
        good = figures["median"] < target
        measures.append({"name": name, "value": figures["median"], "target": target, "ok": good})
        print(f"{name}: {figures['median']} (target < {target}){'' if good else ' MISSED'}")
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "events": events,
        "users": users,
        "batch": batch,
    }
    result = {"machine": machine, "contestants": contestants, "measures": measures}
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {out}")
    if not all(measure["ok"] for measure in measures):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
