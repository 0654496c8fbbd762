"""UCI "Online Retail" and "Online Retail II": one event per invoice line, from Parquet or CSV.

A purchase, or a refund where the invoice number starts with `C`; the invoice is the session. Times
are the shop's local times without a zone; they are taken as UTC. In a Parquet file a line is a row,
counted from 1; in a CSV file it is a line of text, the header being line 1.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.events import Event, Purchase, Refund
from stream.replay.adapter import AS_FOUND, LineError, ParsedLine, Rejected, Wanted, identifier
from stream.replay.conventions import Cells, Conventions
from stream.replay.tables import Columns, fits, open_table, read_fields, read_table

_COLUMNS: Final[Columns] = {
    "InvoiceNo": ("Invoice",),
    "StockCode": (),
    "Quantity": (),
    "InvoiceDate": (),
    "UnitPrice": ("Price",),
    "CustomerID": ("Customer ID",),
    "Country": (),
}
"""In the order in which an event is made of them; version II has other names."""


class OnlineRetail:
    """The adapter. Lines without a customer, price or plausible quantity give no event."""

    name = "online-retail"

    def fits(self, line: bytes) -> bool:
        """Whether a file that begins with this line may be one of this format."""
        return fits(line, _COLUMNS)

    def read(self, path: Path, wanted: Wanted = AS_FOUND) -> Iterator[ParsedLine]:
        """Yield every row of the file, in file order."""
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path)
        # The file in circulation is not UTF-8; only the unused description leaves ASCII.
        table = open_table(path, _COLUMNS, fallback="latin-1")

        def cells() -> Cells:
            return (
                (line, [time], [quantity, price])
                for line, (_, _, quantity, time, price, *_) in read_fields(table)
            )

        return read_table(table, partial(_csv_event, Conventions(path, wanted, cells)))


def _csv_event(conventions: Conventions, line: int, fields: list[str]) -> Event:
    invoice, item, quantity, time, price, customer, country = fields
    return _event(
        line,
        invoice.strip(),
        identifier(item),
        conventions.number(quantity, "quantity"),
        conventions.milliseconds(time),
        conventions.price(price),
        identifier(customer),
        country,
    )


def _read_parquet(path: Path) -> Iterator[ParsedLine]:
    # pyarrow is of an extra, which CSV files do not need.
    from stream.replay.invoice_rows import read_rows  # noqa: PLC0415

    for line, row in enumerate(read_rows(path, _COLUMNS), 1):
        yield line, _row_event(line, row)


def _row_event(line: int, row: tuple[Any, ...]) -> Event | Rejected:
    invoice, item, units, time, price, user, country = row
    if invoice is None or units != units or not time:  # noqa: PLR0124  # NaN
        return Rejected(line, "empty invoice, quantity or date")
    try:
        return _event(line, invoice, item, units, time, price, user, country or "")
    except LineError as error:
        return Rejected(line, error.reason, error.kind)


def _event(
    line: int,
    invoice: str,
    item: str | None,
    units: float,
    time: int,
    price: float | None,
    user: str | None,
    country: str,
) -> Event:
    cancelled = invoice.startswith("C")
    quantity = -units if cancelled else units
    if user is None:
        raise LineError("no user", "invalid")
    if not quantity > 0:
        raise LineError("quantity has the wrong sign for the invoice", "invalid")
    if not quantity.is_integer():
        raise LineError("quantity is not a whole number", "invalid")
    if price is None or not price > 0:
        raise LineError("price is not positive", "invalid")
    return (Refund if cancelled else Purchase)(
        event_id=f"online-retail-{line}",
        user_id=user,
        event_time=time,
        session_id=invoice,
        item_id=item,
        price=price,
        quantity=int(quantity),
        currency="GBP",
        properties={"country": msgspec.Raw(_country(country))} if country else None,
        # A cancellation has a number of its own, which is that of no order.
        order_id=None if cancelled else invoice,
    )


@lru_cache(maxsize=1024)
def _country(name: str) -> bytes:
    return msgspec.json.encode(name)
