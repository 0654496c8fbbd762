import json
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.encoding import hash64
from models.errors import DatasetError
from schemas.events import Purchase, Refund
from stream.replay.adapter import Wanted
from stream.replay.errors import ReplayError
from tests.stream.replay.files import ONLINE_RETAIL, reasons, replayed

CSV = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,WHITE HOLDER,6,12/1/2010 8:26,2.55,17850,United Kingdom
C536379,D,\xa3 Discount,-1,2010-12-01 09:41:00,27.5,14527.0,United Kingdom
536366,X,"a, b",-5,12/13/2010 8:28,2.55,17850,United Kingdom
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
        "invalid: quantity is not a whole number": 1,
        "unparsed: quantity is not a number": 2,
        "unparsed: time is not a date": 1,
    }


@pytest.mark.full
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


@pytest.mark.slow
def test_odd_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    table = pq.read_table(ONLINE_RETAIL).slice(0, 3)
    pq.write_table(table.drop_columns(["CustomerID", "Country"]), path)
    with pytest.raises(DatasetError, match="no column CustomerID, Country; choose"):
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


# Invoice, item, units, time from day to minute, price and customer.
INVOICES = [
    ("536365", "85123A", 6, (1, 12, 2010, 8, 26), 2.55, "17850"),
    ("536366", "10/12", 2, (13, 1, 2011, 13, 5), 1234.5, "17851"),
    ("C536367", "1E5", -1, (4, 2, 2011, 23, 59), 7.0, "17850"),
]
TIMES = [1_291_191_960_000, 1_294_923_900_000, 1_296_863_940_000]
SECOND = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID"]


def shop_file(path, date, *, number=str, separator=",", encoding="utf-8", header=SECOND):
    """The invoices as a shop's own export; dates and numbers as it writes them."""
    lines = [separator.join([*header, "Country"])]
    for invoice, item, units, when, price, customer in INVOICES:
        day, month, year, hour, minute = when
        moment = date.format(d=day, m=month, Y=year, y=year % 100, H=hour, M=minute)
        fields = [invoice, item, "", str(units), moment, number(price), customer, "Spain"]
        quoted = (f'"{each}"' if separator in each else each for each in fields)
        lines.append(separator.join(quoted))
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


def check_invoices(path, **options):
    events, report = replayed(path, "online-retail", order="file", **options)
    assert reasons(report) == {}
    assert [event.event_time for event in events] == TIMES
    assert [event.price for event in events] == [2.55, 1234.5, 7.0]
    assert [event.item_id for event in events] == ["85123A", "10/12", "1E5"]
    assert [event.user_id for event in events] == ["17850", "17851", "17850"]


@pytest.mark.parametrize(
    "date",
    [
        "{d}/{m}/{Y} {H}:{M:02}",
        "{m}/{d}/{Y} {H}:{M:02}",
        "{d:02}-{m:02}-{Y} {H:02}:{M:02}",
        "{d}.{m}.{Y} {H}:{M:02}:00",
        "{d}.{m}.{y:02} {H}:{M:02}",
        "{m}/{d}/{y:02} {H}:{M:02}",
        "{Y}/{m:02}/{d:02} {H:02}:{M:02}",
        "{Y}-{m:02}-{d:02}T{H:02}:{M:02}:00.000Z",
    ],
)
def test_dates_are_read_as_the_whole_file_has_them(tmp_path, date):
    check_invoices(shop_file(tmp_path / "x.csv", date))


def test_dates_without_a_clock_and_with_am_and_pm(tmp_path):
    path = shop_file(tmp_path / "x.csv", "{d}/{m}/{Y}")
    events, _ = replayed(path, "online-retail", order="file")
    assert [event.event_time for event in events] == [t - t % 86_400_000 for t in TIMES]
    text = path.read_text().replace("1/12/2010", "1/12/2010 12:30 AM")
    path.write_text(text.replace("13/1/2011", "13/1/2011 12:30:15 pm"))
    first, second, _ = replayed(path, "online-retail", order="file")[0]
    assert first.event_time % 86_400_000 == 1_800_000
    assert second.event_time % 86_400_000 == 45_015_000


def german(price):
    return f"{price:,.2f}".translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize(
    ("number", "separator", "encoding"),
    [
        (german, ";", "utf-16"),
        (german, "\t", "utf-8-sig"),
        (lambda price: f"{price:,.2f}", ",", "latin-1"),
        (lambda price: f"{price:,.2f}".replace(",", "\u202f").replace(".", ","), ";", "utf-8"),
        (lambda price: f"{price:.2f}".replace(".", ","), ",", "utf-16-le"),
    ],
)
def test_numbers_and_encodings_of_the_world(tmp_path, number, separator, encoding):
    path = tmp_path / "x.csv"
    options = {"number": number, "separator": separator, "encoding": encoding}
    check_invoices(shop_file(path, "{d}.{m}.{Y} {H}:{M:02}", **options))


def test_an_ambiguous_order_of_dates_is_asked_for(tmp_path):
    path = shop_file(tmp_path / "x.csv", "{d}/{m}/{Y} {H}:{M:02}")
    path.write_text(path.read_text().replace("13/1/2011", "12/1/2011"))
    with pytest.raises(ReplayError, match="say which with --dates dmy or --dates mdy"):
        replayed(path, "online-retail")
    days = {}
    for dates in ("dmy", "mdy"):
        events, _ = replayed(path, "online-retail", order="file", wanted=Wanted(dates=dates))
        days[dates] = events[0].event_time
    assert days == {"dmy": TIMES[0], "mdy": 1_263_284_760_000}


def test_mixed_orders_of_dates_name_both_lines(tmp_path):
    path = shop_file(tmp_path / "x.csv", "{d}/{m}/{Y} {H}:{M:02}")
    path.write_text(path.read_text().replace("4/2/2011", "4/22/2011"))
    with pytest.raises(ReplayError, match="day stands first in line 3 and the month first in line"):
        replayed(path, "online-retail")


def test_ambiguous_decimals_are_asked_for(tmp_path):
    path = shop_file(tmp_path / "x.csv", "{Y}-{m}-{d}", separator=";", number=lambda _: "1,234")
    with pytest.raises(ReplayError, match="with --decimal"):
        replayed(path, "online-retail")
    for sign, price in ((",", 1.234), (".", 1234.0)):
        events, _ = replayed(path, "online-retail", wanted=Wanted(decimal=sign))
        assert {event.price for event in events} == {price}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("CustomerID", [5.4e18] * 3, "column CustomerID of type double .*lost digits"),
        ("CustomerID", [1.5] * 3, "column CustomerID of type double .*fractions"),
        ("InvoiceDate", [[1]] * 3, "column InvoiceDate of type list"),
        ("UnitPrice", ["cheap"] * 3, "column UnitPrice of type string"),
    ],
)
def test_parquet_columns_that_cannot_be_are_named(tmp_path, name, values, message):
    path = tmp_path / "x.parquet"
    table = pq.read_table(ONLINE_RETAIL).slice(0, 3)
    table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match=message):
        replayed(path, "online-retail")


def test_version_ii_as_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    names = {"InvoiceNo": "Invoice", "UnitPrice": "Price", "CustomerID": "Customer ID"}
    table = pq.read_table(ONLINE_RETAIL).slice(0, 3)
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    texts = table["InvoiceDate"].cast(pa.string())
    table = table.set_column(table.column_names.index("InvoiceDate"), "InvoiceDate", texts)
    pq.write_table(table, path)
    events, report = replayed(path, "online-retail")
    assert reasons(report) == {}
    assert {event.event_time for event in events} == {1_291_191_960_000}
