"""Parquet files of events -> columns, batch by batch, without an object per event.

The columns are the fields of `schemas.events`: `event_id`, `type`, `user_id`, `event_time` (integer
milliseconds, a timestamp, a date or ISO text), and `item_id`, `category_id`, `price`, `quantity`,
`order_id`, `currency`, `order_discount` where there are any; `models.log.arrow` says which types
they may have. Rows that are no valid event are left out and counted by reason, as the codec names
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.encoding import category_code, hash64, item_code, order_code
from models.errors import DatasetError
from models.history import AMOUNT_UNIT, Events
from models.log.arrow import Column, check_names
from models.log.eventlog import EventLog
from models.log.names import Catalogue
from models.money import Converter, currency_code
from schemas.events import MAX_ID_LENGTH, MAX_PRICE, MAX_QUANTITY, MAX_TIME, TYPE_CODES
from schemas.times import UNITS

NEEDED: Final = ("event_id", "type", "user_id", "event_time")
OPTIONAL: Final = (
    "item_id",
    "category_id",
    "price",
    "quantity",
    "order_id",
    "currency",
    "order_discount",
)
_LONGEST_CURRENCY: Final = 16
BATCH_ROWS: Final = 65_536
_REMEDY: Final = (
    "name the columns as the fields of events are (schemas/events.py), or choose another --format"
)

Bools = NDArray[np.bool_]


def read_parquet(
    path: Path,
    invalid: dict[str, int],
    stored_id: Callable[[str], str] = str,
    names: Catalogue | None = None,
    money: Converter | None = None,
) -> Iterator[EventLog]:
    """Yield the events of a file in its order.

    Args:
        path: the file.
        invalid: takes the counts of rows that are no valid event, "reason (field)" -> rows.
        stored_id: the name under which a user is known to the workers.
        names: take note of the names of what they are for.
        money: converts the amounts, and counts them.

    Raises:
        DatasetError: it is missing, damaged, has other columns, or one that holds no such values.
    """
    money = money or Converter()
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(pq.ParquetFile(path))
            there = file.schema_arrow.names
            check_names(path, there, NEEDED, _REMEDY)
            columns = [n for n in (*NEEDED, *OPTIONAL) if n in there]
            check_names(path, there, tuple(columns), _REMEDY)
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                yield _events(_Rows(path, batch, invalid), stored_id, names or {}, money)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"cannot read {path} as Parquet: {error}") from error
    pa.default_memory_pool().release_unused()


def _events(
    rows: _Rows, stored_id: Callable[[str], str], names: Catalogue, money: Converter
) -> EventLog:
    ids = rows.codes("event_id", hash64, np.uint64)
    users = rows.codes("user_id", lambda user: hash64(stored_id(user)), np.uint64)
    kind = rows.codes("type", lambda name: TYPE_CODES.get(name, 0), np.uint8)
    rows.refuse(rows.good & (kind == 0), "unknown_type (type)")
    time = rows.times("event_time")
    item = rows.codes("item_id", item_code, np.uint32)
    category = rows.codes("category_id", category_code, np.uint16)
    order = rows.codes("order_id", order_code, np.uint32)
    price, priced = rows.money("price")
    discount, _ = rows.money("order_discount")
    quantity = rows.integers("quantity", 1, MAX_QUANTITY, absent=1)
    with np.errstate(invalid="ignore", over="ignore"):
        worth = np.rint(np.where(priced & rows.good, price * quantity * AMOUNT_UNIT, 0))
    rows.refuse(worth >= 2.0**63, "out_of_range (price)")
    currency = rows.codes("currency", currency_code, np.uint32, _LONGEST_CURRENCY)
    keep = rows.good
    amount = np.where(keep, worth, 0).astype(np.int64)
    saved = np.rint(np.where(keep, discount, 0) * AMOUNT_UNIT).astype(np.int64)
    units = np.where(keep, quantity, 1).astype(np.uint32)
    columns = Events(time, ids, kind, item, category, amount, order, units, saved)
    money.convert_events(columns, currency)
    log = EventLog(users, columns).where(keep)
    kept = np.flatnonzero(keep)
    for what, known in names.items():
        known.add(getattr(log.events, what), partial(rows.text, f"{what}_id", kept))
    return log


class _Rows:
    """The rows of a batch, fewer good ones after every check."""

    def __init__(self, path: Path, batch: pa.RecordBatch, invalid: dict[str, int]) -> None:
        self._path = path
        self._batch = batch
        self._invalid = invalid
        self.good: Bools = np.ones(batch.num_rows, np.bool_)

    def refuse(self, bad: Bools, reason: str) -> None:
        """Count and leave out rows; each is counted once."""
        bad = bad & self.good
        if bad.any():
            self._invalid[reason] = self._invalid.get(reason, 0) + int(bad.sum())
            self.good &= ~bad

    def codes(
        self, name: str, code: Callable[[str], int], kind: Any, longest: int = MAX_ID_LENGTH
    ) -> NDArray[Any]:
        """A number per text, 0 for none; needed texts must be there."""
        column = self._column(name)
        if column is None:
            return np.zeros(len(self.good), kind)
        encoded = column.texts().dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        table = np.array([code(text) for text in texts] + [0], kind)
        fits = np.array([1 <= len(text) <= longest for text in texts] + [True])
        index = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        if name not in NEEDED and "" in texts:  # an empty text counts as absent
            index = np.where(index == texts.index(""), len(texts), index)
        if name in NEEDED:
            self.refuse(index == len(texts), f"null_value ({name})")
        self.refuse(~fits[index], f"out_of_range ({name})")
        found: NDArray[Any] = table[index]
        return found

    def text(self, name: str, kept: NDArray[np.intp], place: int) -> str:
        """What a row has in a column of texts; `kept` are the rows that are counted."""
        cell = self._batch.slice(int(kept[place]), 1)
        text: str = Column.of(self._path, cell, name).texts()[0].as_py()
        return text

    def times(self, name: str) -> NDArray[np.int64]:
        """Times, ms, of which each must be there and possible."""
        values, missing, wrong = Column.of(self._path, self._batch, name).times()
        self.refuse(missing, f"null_value ({name})")
        self.refuse(wrong, f"wrong_type ({name})")
        for unit, low, high in UNITS:
            if low > MAX_TIME:
                looks = (values >= low) & (values < high)
                self.refuse(looks, f"out_of_range ({name}): looks like {unit}")
        self.refuse((values < 1) | (values > MAX_TIME), f"out_of_range ({name})")
        return values

    def integers(self, name: str, low: int, high: int, absent: int = 0) -> NDArray[np.int64]:
        """Whole numbers within bounds; `absent` where one is null."""
        column = self._column(name)
        if column is None:
            return np.full(len(self.good), absent, np.int64)
        values, missing, wrong = column.integers()
        self.refuse(wrong, f"wrong_type ({name})")
        values = np.where(missing, absent, values)
        self.refuse(~missing & ((values < low) | (values > high)), f"out_of_range ({name})")
        return values

    def numbers(self, name: str) -> tuple[NDArray[np.float64], Bools]:
        """Numbers, and where there is one."""
        column = self._column(name)
        if column is None:
            return np.zeros(len(self.good)), np.zeros(len(self.good), np.bool_)
        return column.numbers()

    def money(self, name: str) -> tuple[NDArray[np.float64], Bools]:
        """Amounts of money that may be, and where there is one."""
        values, given = self.numbers(name)
        self.refuse(given & ~((values >= 0) & (values <= MAX_PRICE)), f"out_of_range ({name})")
        return values, given

    def _column(self, name: str) -> Column | None:
        if name not in self._batch.schema.names:
            return None
        return Column.of(self._path, self._batch, name)
