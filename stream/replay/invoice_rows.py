"""Rows of UCI "Online Retail" from a Parquet file.

A module of its own, since pyarrow is no dependency of a plain install.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.log.arrow import Column, check_names
from stream.replay.errors import ReplayError
from stream.replay.tables import Columns

_ROWS: Final = 16_384
"""Read at once."""


def read_rows(path: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Yield each row: invoice, item, quantity, time (ms; 0: none), price, customer, country.

    Args:
        path: of the file.
        columns: the names of these seven, in this order.

    Raises:
        ReplayError: the file cannot be read; names the row.
        DatasetError: a column is missing or of a type that cannot be used.
    """
    read = 0
    try:
        with pq.ParquetFile(path) as file:
            names = _names(path, file.schema_arrow.names, columns)
            for batch in file.iter_batches(_ROWS, columns=names):
                for row in zip(*_columns(path, batch, names), strict=True):
                    read += 1
                    yield row
    except (OSError, pa.ArrowException) as error:
        raise ReplayError(f"cannot read {path}, row {read + 1}: {error}") from error


def _names(path: Path, there: list[str], columns: Columns) -> list[str]:
    """The file's own names of the columns."""
    names = [
        next((each for each in (name, *others) if each in there), name)
        for name, others in columns.items()
    ]
    check_names(path, there, tuple(names), "choose another --format")
    return names


def _columns(path: Path, batch: pa.RecordBatch, names: list[str]) -> list[list[Any]]:
    invoice, item, quantity, time, price, customer, country = (
        Column.of(path, batch, name) for name in names
    )
    moments, missing, wrong = time.times()
    moments = np.where(missing | wrong, 0, moments)
    columns: list[list[Any]] = [invoice.texts().to_pylist(), item.texts().to_pylist()]
    for units, given in (quantity.numbers(), price.numbers()):
        columns.append(np.where(given, units, np.nan).tolist())
    columns.insert(3, moments.tolist())
    return [*columns, customer.texts().to_pylist(), country.texts().to_pylist()]
