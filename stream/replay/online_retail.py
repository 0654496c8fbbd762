"""UCI "Online Retail": one event per invoice line, from Parquet or CSV.

A purchase, or a refund where the invoice number starts with `C`; the invoice is the session. Times
are the shop's local times without a zone; they are taken as UTC. In a Parquet file a line is a row,
counted from 1; in a CSV file it is a line of text, the header being line 1.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.events import Event, Purchase, Refund
from stream.replay.adapter import LineError, ParsedLine, Rejected, milliseconds, price_of
from stream.replay.errors import ReplayError
from stream.replay.lines import check_header, read_table

_COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_NEEDED: Final = [name for name in _COLUMNS if name != "Description"]
_ROWS: Final = 16_384


class OnlineRetail:
    """The adapter. Lines without a customer, price or plausible quantity give no event."""

    name = "online-retail"

    def read(self, path: Path) -> Iterator[ParsedLine]:
        """Yield every row of the file, in file order."""
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path)
        check_header(path, _COLUMNS)
        # The file in circulation is not UTF-8; only the unused description leaves ASCII.
        return read_table(path, len(_COLUMNS), _csv_event, header=True, encoding="latin-1")


def _csv_event(line: int, fields: list[str]) -> Event:
    invoice, item, _, quantity, time, price, customer, country = fields
    try:
        units = float(quantity)
    except ValueError:
        raise LineError("quantity is not a number") from None
    return _event(
        line, invoice, item, units, _milliseconds(time), price_of(price), customer, country
    )


def _milliseconds(text: str) -> int:
    try:
        return milliseconds(text)
    except LineError:
        pass
    try:
        moment = datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=UTC)
    except ValueError:
        raise LineError("time is not a date") from None
    return round(moment.timestamp() * 1000)


def _read_parquet(path: Path) -> Iterator[ParsedLine]:
    line = 0
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in _NEEDED if name not in file.schema_arrow.names]
            if missing:
                raise ReplayError(
                    f"{path}: no column {', '.join(missing)}; choose another --format"
                )
            for batch in file.iter_batches(_ROWS, columns=_NEEDED):
                for row in zip(*_columns(batch), strict=True):
                    line += 1
                    yield line, _row_event(line, row)
    except (OSError, pa.ArrowException) as error:
        raise ReplayError(f"cannot read {path}, row {line + 1}: {error}") from error


def _columns(batch: pa.RecordBatch) -> list[list[Any]]:
    types = {"InvoiceDate": pa.timestamp("ms"), "Quantity": pa.float64(), "UnitPrice": pa.float64()}
    columns = []
    for name in _NEEDED:
        column = batch.column(name)
        if name in types:
            column = column.cast(types[name], safe=False)
        if name == "InvoiceDate":
            column = column.cast(pa.int64())
        columns.append(column.to_pylist())
    return columns


def _row_event(line: int, row: tuple[Any, ...]) -> Event | Rejected:
    invoice, item, units, time, price, customer, country = row
    if None in (invoice, units, time):
        return Rejected(line, "empty invoice, quantity or date")
    user = "" if customer is None or str(customer) == "nan" else str(customer)
    try:
        return _event(line, str(invoice), item or "", units, time, price, user, country or "")
    except LineError as error:
        return Rejected(line, error.reason, error.kind)


def _event(
    line: int,
    invoice: str,
    item: str,
    units: float,
    time: int,
    price: float | None,
    user: str,
    country: str,
) -> Event:
    cancelled = invoice.startswith("C")
    quantity = -units if cancelled else units
    if not user:
        raise LineError("no user", "invalid")
    if not quantity > 0:
        raise LineError("quantity has the wrong sign for the invoice", "invalid")
    if not quantity.is_integer():
        raise LineError("quantity is not a whole number", "invalid")
    if price is None or not price > 0:
        raise LineError("price is not positive", "invalid")
    return (Refund if cancelled else Purchase)(
        event_id=f"online-retail-{line}",
        user_id=user.removesuffix(".0"),
        event_time=time,
        session_id=invoice,
        item_id=item or None,
        price=price,
        quantity=int(quantity),
        currency="GBP",
        properties={"country": msgspec.Raw(_country(country))} if country else None,
    )


@lru_cache(maxsize=1024)
def _country(name: str) -> bytes:
    return msgspec.json.encode(name)
