"""The files' own formats, read as events; what cannot be used says so."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.encoding import category_code, hash64, item_code
from models.errors import EvaluationError
from models.evaluation.sources import (
    DAY,
    ONLINE_RETAIL,
    TAOBAO_START,
    find,
    read_cdnow,
    read_online_retail,
    read_taobao,
)
from models.history import PURCHASE, REFUND
from models.log.eventlog import in_order

SECOND = 1000


def test_cdnow(tmp_path: Path) -> None:
    path = tmp_path / "CDNOW_master.txt"
    path.write_text(
        " id date n dollars\n 00001 19970101  1   11.77\n 00002 19970112  5   77.00\n\n"
    )
    log = read_cdnow(path)
    assert log.users.tolist() == [hash64("00001"), hash64("00002")]
    day = int(np.datetime64("1997-01-01", "ms").astype(np.int64))
    assert log.events.time.tolist() == [day, day + 11 * DAY]
    assert log.events.amount.tolist() == [117_700, 770_000]
    assert (log.events.type == PURCHASE).all()


def test_online_retail_leaves_out_what_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "retail.parquet"
    when = datetime(2011, 3, 1, 10)  # noqa: DTZ001  # the file has no zone
    rows = {
        "InvoiceNo": ["1", "C2", "3", "4", "5"],
        "StockCode": ["A", "A", "B", "B", "B"],
        "Quantity": [2.0, -1.0, 1.0, -3.0, 1.0],
        "InvoiceDate": [when] * 5,
        "UnitPrice": [1.5, 1.5, 0.0, 2.0, 2.0],
        "CustomerID": [17.0, 17.0, 17.0, 17.0, None],
    }
    pq.write_table(pa.table(rows), path)
    log = read_online_retail(path)
    assert log.events.type.tolist() == [PURCHASE, REFUND]
    assert log.events.amount.tolist() == [30_000, 15_000]
    assert log.events.item.tolist() == [item_code("A")] * 2


def test_taobao_leaves_out_strays_and_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "taobao.csv"
    start = TAOBAO_START // SECOND
    path.write_text(
        f"9,100,7,pv,{start}\n9,100,7,buy,{start + 60}\n9,101,7,pv,{start - 1}\n"
        f"9,101,7,cart,{start + 9 * 86_400}\n9,1"
    )
    log = read_taobao(path)
    assert log.events.time.tolist() == [TAOBAO_START, TAOBAO_START + 60 * SECOND]
    assert log.events.type.tolist() == [1, PURCHASE]
    assert log.events.category.tolist() == [category_code("7")] * 2


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"nowhere.csv is in none of .*--data"):
        find("nowhere.csv", [tmp_path])
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1 but not really")
    with pytest.raises(EvaluationError, match=r"x\.parquet: not the file that is meant"):
        read_online_retail(broken)
    empty = tmp_path / "CDNOW_master.txt"
    empty.write_text("id date n dollars\n")
    with pytest.raises(EvaluationError, match="no event in it"):
        read_cdnow(empty)


@pytest.mark.slow
def test_the_shipped_file_has_the_customers_of_its_protocol() -> None:
    log = read_online_retail(find(ONLINE_RETAIL, [Path(__file__).parents[3] / "data"]))
    cut = int(np.datetime64("2011-09-01", "ms").astype(np.int64))
    bought = log.where((log.events.time < cut) & (log.events.type == PURCHASE))
    assert len(in_order(bought, None).starts) == 3317
