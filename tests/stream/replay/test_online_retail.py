import json
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.encoding import hash64
from schemas.events import Purchase, Refund
from stream.replay.errors import ReplayError
from tests.stream.replay.files import ONLINE_RETAIL, reasons, replayed

CSV = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom
C536379,D,\xa3 Discount,-1,2010-12-01 09:41:00,27.5,14527.0,United Kingdom
536366,X,"a, b",-5,12/1/2010 8:28,2.55,17850,United Kingdom
C536367,X,refund of plus,5,12/1/2010 8:28,2.55,17850,United Kingdom
536368,X,,1,12/1/2010 8:28,0,17850,United Kingdom
536369,X,,1,12/1/2010 8:28,1,,United Kingdom
536370,X,,1.5,12/1/2010 8:28,1,17850,
536371,X,,inf,12/1/2010 8:28,1,17850,
536372,X,,many,12/1/2010 8:28,1,17850,
536373,X,,1,31/31/2010 8:28,1,17850,
"""


def test_csv_lines_become_events(tmp_path):
    path = tmp_path / "online_retail.csv"
    path.write_text(CSV, encoding="latin-1")
    (bought, cancelled), report = replayed(path, "online-retail")
    assert isinstance(bought, Purchase)
    assert bought.event_id == "online-retail-2"
    assert bought.event_time == 1_291_191_960_000
    assert (bought.user_id, bought.session_id, bought.item_id) == ("17850", "536365", "85123A")
    assert (bought.price, bought.quantity, bought.currency) == (2.55, 6, "GBP")
    assert json.loads(bytes(bought.properties["country"])) == "United Kingdom"
    assert isinstance(cancelled, Refund)
    assert (cancelled.user_id, cancelled.quantity, cancelled.price) == ("14527", 1, 27.5)
    assert reasons(report) == {
        "invalid: quantity has the wrong sign for the invoice": 2,
        "invalid: price is not positive": 1,
        "invalid: no user": 1,
        "invalid: quantity is not a whole number": 2,
        "unparsed: quantity is not a number": 1,
        "unparsed: time is not a date": 1,
    }


def test_shipped_file_is_accounted_for_to_the_line():
    events, report = replayed(ONLINE_RETAIL, "online-retail")
    assert Counter(type(event) for event in events) == {Purchase: 397_884, Refund: 8_905}
    assert report.lines == 541_909
    assert reasons(report) == {"invalid: no user": 135_080, "invalid: price is not positive": 40}
    assert report.invalid["no user"].lines[0] == 623
    assert len({event.user_id for event in events}) == 4_371
    first, last = events[0], events[-1]
    # The seven lines of the first invoice share one minute.
    assert first.event_id in {f"online-retail-{line}" for line in range(1, 8)}
    assert first.event_time == 1_291_191_960_000  # 2010-12-01 08:26, taken as UTC
    assert last.event_time == 1_323_435_000_000  # 2011-12-09 12:50
    order = [(event.event_time, hash64(event.event_id)) for event in events]
    assert all(a < b for a, b in pairwise(order))


def test_odd_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    table = pq.read_table(ONLINE_RETAIL).slice(0, 3)
    pq.write_table(table.drop_columns(["CustomerID", "Country"]), path)
    with pytest.raises(ReplayError, match="no column CustomerID, Country"):
        replayed(path, "online-retail")
    nothing = {
        "Quantity": pa.array([None, 1.0, 1.0]),
        "UnitPrice": pa.array([1.0, float("nan"), None]),
    }
    for name, values in nothing.items():
        table = table.set_column(table.column_names.index(name), name, values.cast(pa.float64()))
    pq.write_table(table, path)
    _, report = replayed(path, "online-retail")
    assert reasons(report) == {
        "unparsed: empty invoice, quantity or date": 1,
        "invalid: price is not positive": 2,
    }
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ReplayError, match=r"cannot read .*row 1"):
        replayed(path, "online-retail")
