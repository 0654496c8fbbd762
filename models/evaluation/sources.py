"""Public files -> event logs, as the evaluation reads them. Times are ms; users are hashed ids.

The protocols name these very files; `stream/replay` has adapters for more, which go through the
message contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from models.encoding import category_code, hash64, item_code, order_code
from models.errors import EvaluationError
from models.history import AMOUNT_UNIT, PURCHASE, REFUND, Events
from models.log.eventlog import EventLog
from schemas.events import TYPE_CODES

SECOND: Final = 1000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR

CDNOW: Final = "CDNOW_master.txt"
ONLINE_RETAIL: Final = "online_retail_uci.parquet"
TAOBAO: Final = "taobao_userbehavior_815users.csv"

TAOBAO_START: Final = 1_511_539_200 * SECOND
"""Midnight of the first day in the shop's zone, UTC+8."""
TAOBAO_DAYS: Final = 9
TAOBAO_TYPES: Final = {"pv": "view", "cart": "cart_add", "fav": "favourite", "buy": "purchase"}


def find(name: str, folders: Sequence[Path]) -> Path:
    """The file in the first of the folders that has it.

    Raises:
        EvaluationError: none has.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    places = ", ".join(str(folder) for folder in folders)
    raise EvaluationError(f"{name} is in none of {places}; name its folder with --data")


def read_cdnow(path: Path) -> EventLog:
    """CDNOW: one purchase per line, of customer, date, CDs, dollars."""
    rows = query(
        path,
        """
        select parts[1] as customer, strptime(parts[2], '%Y%m%d') as day,
               parts[4]::double as spent
        from (
            select string_split_regex(trim(line), '\\s+') as parts
            from read_csv(?, header = false, delim = '\x01', quote = '', escape = '',
                          columns = {'line': 'varchar'}, skip = 1)
        )
        where len(parts) = 4
        """,
    )
    time = rows["day"].astype("datetime64[ms]").astype(np.int64)
    kind = np.full(len(time), PURCHASE, np.uint8)
    return log_of_columns(rows["customer"], time, kind, amount=rows["spent"])


def read_online_retail(path: Path) -> EventLog:
    """UCI Online Retail: a purchase per invoice line, a refund where it is cancelled.

    Lines without a customer or a price, and those whose quantity has the wrong sign, say nothing.
    """
    rows = query(
        path,
        """
        select CustomerID::bigint::varchar as customer, InvoiceDate as time,
               abs(Quantity) * UnitPrice as spent, InvoiceNo like 'C%' as cancelled,
               StockCode as item, least(abs(Quantity), 1000000)::bigint as units,
               case when InvoiceNo like 'C%' then '' else InvoiceNo end as invoice
        from read_parquet(?)
        where CustomerID is not null and not isnan(CustomerID) and UnitPrice > 0
              and (Quantity < 0) = (InvoiceNo like 'C%')
        """,
    )
    time = rows["time"].astype("datetime64[ms]").astype(np.int64)
    kind = np.where(rows["cancelled"], REFUND, PURCHASE).astype(np.uint8)
    return log_of_columns(
        rows["customer"],
        time,
        kind,
        amount=rows["spent"],
        item=rows["item"],
        order=rows["invoice"],
        quantity=rows["units"],
    )


def read_taobao(path: Path) -> EventLog:
    """Alibaba UserBehavior: user, item, category, behaviour, unix seconds; strays are left out."""
    rows = query(
        path,
        """
        select * from read_csv(?, header = false, ignore_errors = true, null_padding = true,
            columns = {'customer': 'varchar', 'item': 'varchar', 'category': 'varchar',
                       'behaviour': 'varchar', 'seconds': 'bigint'})
        where behaviour in ('pv', 'cart', 'fav', 'buy') and seconds is not null
        """,
    )
    time = rows["seconds"].astype(np.int64) * SECOND
    inside = (time >= TAOBAO_START) & (time < TAOBAO_START + TAOBAO_DAYS * DAY)
    rows = {name: values[inside] for name, values in rows.items()}
    codes = {name: TYPE_CODES[kind] for name, kind in TAOBAO_TYPES.items()}
    kind = np.array([codes[name] for name in rows["behaviour"]], np.uint8)
    return log_of_columns(
        rows["customer"], time[inside], kind, item=rows["item"], category=rows["category"]
    )


def query(path: Path, text: str) -> dict[str, NDArray[Any]]:
    """Rows as columns, in the file's order.

    Raises:
        EvaluationError: the file cannot be read, or holds nothing of the kind.
    """
    with duckdb.connect(config={"threads": 1, "preserve_insertion_order": True}) as database:
        try:
            found = database.execute(text, [str(path)]).fetchnumpy()
        except (duckdb.Error, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EvaluationError(f"{path}: not the file that is meant: {reason}") from error
    rows = {name: np.asarray(values) for name, values in found.items()}
    if not rows or not len(next(iter(rows.values()))):
        raise EvaluationError(f"{path}: no event in it; it is empty or of another format")
    return rows


def log_of_columns(
    customer: NDArray[Any],
    time: NDArray[np.int64],
    kind: NDArray[np.uint8],
    amount: NDArray[Any] | None = None,
    item: NDArray[Any] | None = None,
    category: NDArray[Any] | None = None,
    order: NDArray[Any] | None = None,
    quantity: NDArray[Any] | None = None,
) -> EventLog:
    """Columns of N rows -> the events of users by hash, in the order of the rows.

    Args:
        customer: [N] ids.
        time: [N] ms.
        kind: [N] type codes.
        amount: [N] currency units; None: 0.
        item: [N] ids, "" for none; None: there are none.
        category: likewise.
        order: likewise.
        quantity: [N] units; None: 1.
    """
    size = len(time)
    money = np.zeros(size) if amount is None else np.asarray(amount, np.float64)
    events = Events(
        time=time,
        id=np.arange(1, size + 1, dtype=np.uint64),
        type=kind,
        item=_codes(item, item_code, np.uint32, size),
        category=_codes(category, category_code, np.uint16, size),
        amount=np.round(money * AMOUNT_UNIT).astype(np.int64),
        order=_codes(order, order_code, np.uint32, size),
        quantity=np.ones(size, np.uint32) if quantity is None else quantity.astype(np.uint32),
    )
    return EventLog(_codes(customer, hash64, np.uint64, size), events)


def _codes(names: NDArray[Any] | None, code: Any, kind: Any, size: int) -> NDArray[Any]:
    if names is None:
        return np.zeros(size, kind)
    distinct, place = np.unique(names.astype(str), return_inverse=True)
    return np.array([code(name) if name else 0 for name in distinct], kind)[place]
