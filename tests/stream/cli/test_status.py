"""`intentstream status` in a narrow terminal, and beside a broker on another data folder."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from schemas.control import WorkerStatus
from schemas.examples import EXAMPLES
from schemas.monitoring import ModelMetrics, RankingMetrics
from stream.broker.elsewhere import running_brokers
from stream.cli.status import _tables
from stream.operations.status_report import COUNTERS, PartitionReport, StatusReport
from tests.e2e.world import run_program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Kafka

NOW = 1_750_000_000_000
VERSION = "20250615T150640Z-transformer-0f3a9b7c"


def report(partitions: int = 3) -> StatusReport:
    """Of a shop with long numbers and names."""
    beat = EXAMPLES[WorkerStatus]
    model = msgspec.structs.replace(
        EXAMPLES[ModelMetrics],
        model_version=VERSION,
        rankings={
            "category": RankingMetrics(total=5, judged=5, hit_rate=0.5, ndcg=0.4, last_hit_rate=0.3)
        },
    )
    return StatusReport(
        app_id="intentstream",
        topic="shop.events",
        at=NOW,
        partitions=[
            PartitionReport(
                partition=n,
                committed=1_234_567_890,
                end=1_334_567_890,
                lag=100_000_000,
                alive=True,
                events_per_second=123_456.0,
                predictions_per_second=123_456.0,
                heartbeat=msgspec.structs.replace(beat, partition=n, watermark=NOW, updated_at=NOW),
            )
            for n in range(partitions)
        ],
        lag=300_000_000,
        events_per_second=370_368.0,
        predictions_per_second=370_368.0,
        lost=12,
        totals=dict.fromkeys(COUNTERS, 1_234_567_890),
        dead_letters=1_234,
        workers=["worker-aaaaaaaa-1111", "worker-bbbbbbbb-2222"],
        model_versions=[VERSION],
        published=VERSION,
        timers_due_at=NOW,
        canaries=[VERSION],
        shadows=[],
        models=[model],
        misplaced=0,
        clients=[],
        alarms=["an alarm of many words, " * 6],
        raise_at=[
            "from a risk of 0.6123 on, by budget; 1234.5 a day expected in the treatment arm"
        ],
    )


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_too_long_and_no_cell_is_cut(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    console.print(_tables(report()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    for cell in ("1,234,567,890", "1,334,567,890", "100,000,000", "123,456", VERSION, "0.4100"):
        assert cell in text
    assert text.count("2025-06-15 15:06:40") == 4
    assert "watermark" in text
    assert text.count(" ago") == 3


@pytest.mark.kafka
def test_a_broker_on_another_data_folder_is_named(kafka: Kafka, tmp_path: Path) -> None:
    assert (kafka.bootstrap_servers, kafka.folder) in running_brokers()
    nowhere = str(tmp_path / "nowhere")
    environment = {name: "" for name in os.environ if name.startswith("INTENTSTREAM_")}
    done = run_program("status", "--data-dir", nowhere, **environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "no Kafka broker: pass --bootstrap-servers" in line
    assert f"{kafka.folder}: pass --bootstrap-servers {kafka.bootstrap_servers}" in line
    done = run_program("broker", "status", "--data-dir", nowhere, **environment)
    assert f"{kafka.bootstrap_servers} has its data in {kafka.folder}" in done.stderr
