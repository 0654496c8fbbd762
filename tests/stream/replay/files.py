"""Files for replay tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from schemas.codec import decode_event
from schemas.events import Event
from stream.replay.order import Row
from stream.replay.report import Report
from stream.replay.source import read_rows

ROOT = Path(__file__).resolve().parents[3]
TAOBAO = ROOT.parent / "shared" / "data" / "taobao_userbehavior_815users.csv"
ONLINE_RETAIL = ROOT / "data" / "online_retail_uci.parquet"

needs_taobao = pytest.mark.skipif(
    not TAOBAO.exists(), reason="the Taobao sample may not ship; expected at ../shared/data"
)


def replayed(path: Path, name: str, **options) -> tuple[list[Event], Report]:
    """All events of a file, and the report, which must account for every entry."""
    report = Report()
    rows = list(read_rows(path, name, report, **options))
    assert report.ready == len(rows) + report.beyond_limit
    report.sent = len(rows)
    assert report.unaccounted == 0
    return [decode_event(row.value) for row in rows], report


def reasons(report: Report) -> Counter[str]:
    return Counter(
        {
            f"{kind}: {reason}": tally.count
            for kind, tallies in (("unparsed", report.unparsed), ("invalid", report.invalid))
            for reason, tally in tallies.items()
        }
    )


def row(time: int, sequence: int, value: bytes = b"{}") -> Row:
    return Row(time, sequence, b"u", value)
