"""The challenge's folder: which files there are, what their columns hold, their rows in batches.

Layout and columns are those of the README of Synerise/recsys2025 at e91c1a6. A file is read batch
by batch, so that memory does not grow with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import EvaluationError
from models.history import I64
from schemas.events import TYPE_CODES

BATCH_ROWS: Final = 131_072
EARLIEST: Final = 946_684_800_000
"""The year 2000, ms: an event before it has a wrong clock."""
LATEST: Final = 4_102_444_800_000
"""The year 2100, ms."""
LAYOUT: Final = "docs/recsys2025.md has the layout"


@dataclass(frozen=True)
class Kind:
    """A kind of events; its name is that of its file."""

    name: str
    type: int
    """Type code of the product's events."""
    key: str
    """Column of what the event is about: `sku`, `url` or `query`."""

    @property
    def has_item(self) -> bool:
        """Whether the event names an item. A url is none, and a query is an embedding."""
        return self.key == "sku"


KINDS: Final = (
    Kind("product_buy", TYPE_CODES["purchase"], "sku"),
    Kind("add_to_cart", TYPE_CODES["cart_add"], "sku"),
    Kind("remove_from_cart", TYPE_CODES["cart_remove"], "sku"),
    Kind("page_visit", TYPE_CODES["view"], "url"),
    Kind("search_query", TYPE_CODES["search"], "query"),
)
BUY: Final = KINDS[0]
PROPERTIES: Final = "product_properties.parquet"
RELEVANT: Final = "input/relevant_clients.npy"
ACTIVE: Final = "target/active_clients.npy"
"""Optional: only a note of the result needs it."""
LISTS: Final = ("propensity_category", "propensity_sku")
_NEEDED: Final = (
    *(f"{kind.name}.parquet" for kind in KINDS),
    PROPERTIES,
    RELEVANT,
    *(f"target/{prefix}{name}.npy" for name in LISTS for prefix in ("", "popularity_")),
)


@dataclass(frozen=True)
class Folder:
    """A folder that has all files of the challenge."""

    path: Path

    @staticmethod
    def holds_some(path: Path) -> bool:
        """Whether a folder looks like the challenge's."""
        return (path / f"{BUY.name}.parquet").is_file()

    @classmethod
    def of(cls, path: Path) -> Folder:
        """The folder, checked for all files that are needed.

        Raises:
            EvaluationError: some are missing; names them all.
        """
        missing = [name for name in _NEEDED if not (path / name).is_file()]
        if missing:
            raise EvaluationError(f"{path}: no {', '.join(missing)}; {LAYOUT}")
        return cls(path)

    def events(self, kind: Kind) -> Path:
        """The file of a kind of events."""
        return self.path / f"{kind.name}.parquet"

    def numbers(self, name: str) -> NDArray[Any]:
        """A one-dimensional array of numbers of `input` or `target`.

        Raises:
            EvaluationError: it cannot be read, is empty or holds something else. Python objects
                are not opened: that would run whatever code the file contains.
        """
        path = self.path / name
        try:
            found: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise EvaluationError(
                f"{path}: cannot be read as an array of numbers ({error}). If it holds Python "
                'objects and you trust its source, rewrite it once: python -c "import numpy; p = '
                f"'{path.name}'; numpy.save(p, numpy.load(p, allow_pickle=True).astype('int64'))\""
            ) from error
        if found.ndim != 1 or found.size == 0 or found.dtype.kind not in "iuf":
            raise EvaluationError(
                f"{path}: holds {found.dtype} of shape {found.shape}; one dimension of numbers is "
                f"needed; {LAYOUT}"
            )
        return found

    def ids(self, name: str) -> I64:
        """An array of whole numbers, see `numbers`.

        Raises:
            EvaluationError: as `numbers`, or it holds fractions.
        """
        found = self.numbers(name)
        if found.dtype.kind == "f" and (found != np.trunc(found)).any():
            raise EvaluationError(f"{self.path / name}: holds fractions; ids are whole numbers")
        return found.astype(np.int64)


@dataclass(frozen=True)
class Rows:
    """N rows of a file of events."""

    first: int
    """Number of the first row in its file."""
    client: I64
    """[N] client_id."""
    time: I64
    """[N] ms. The files have no zone; UTC is taken, as the challenge's own code does."""
    sku: I64
    """[N]; empty for kinds without items."""

    def __len__(self) -> int:
        return len(self.client)


def rows(path: Path, kind: Kind) -> Iterator[Rows]:
    """The rows of a file of events in its order, which need not be that of time.

    Raises:
        EvaluationError: it is damaged, lacks a column, has one of another type, or holds a null or
            an impossible time; names file, column and row.
    """
    columns = ["client_id", "timestamp", *(["sku"] if kind.has_item else [])]
    types = {"client_id": "int64", "timestamp": "text or timestamp", kind.key: "int64"}
    if kind.key == "query":
        types[kind.key] = "text"
    first = 0
    for batch in batches(path, columns, types):
        client = whole(path, batch, "client_id", first)
        sku = whole(path, batch, "sku", first) if kind.has_item else np.empty(0, np.int64)
        yield Rows(first, client, _times(path, batch, first), sku)
        first += batch.num_rows


def batches(path: Path, columns: list[str], types: dict[str, str]) -> Iterator[Any]:
    """Batches of some columns of a Parquet file whose `types` are checked.

    Raises:
        EvaluationError: the file is damaged, lacks a column or has one of another type.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(pq.ParquetFile(path))
            _check_types(path, file.schema_arrow, types)
            yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise EvaluationError(
                f"{path}: no Parquet file that can be read to its end ({reason}); it is truncated "
                "or damaged: copy or download it again"
            ) from error


def whole(path: Path, batch: Any, name: str, first: int) -> I64:
    """A column of int64; `first` is the number of the batch's first row.

    Raises:
        EvaluationError: a row has none.
    """
    column = batch.column(name)
    _check_nulls(path, column, name, first)
    found: I64 = column.to_numpy(zero_copy_only=False)
    return found


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_TESTS: Final[dict[str, Callable[[Any], bool]]] = {
    "int64": pa.types.is_int64,
    "text": _is_text,
    "text or timestamp": lambda kind: _is_text(kind) or bool(pa.types.is_timestamp(kind)),
}


def _check_types(path: Path, schema: Any, types: dict[str, str]) -> None:
    for name, wanted in types.items():
        if name not in schema.names:
            raise EvaluationError(
                f"{path}: no column {name}; there are {', '.join(schema.names)}; {LAYOUT}"
            )
        kind = schema.field(name).type
        if not _TESTS[wanted](kind):
            raise EvaluationError(
                f"{path}: column {name} is of type {kind}, and {wanted} is needed; write it as "
                f"the challenge's files have it; {LAYOUT}"
            )


def _check_nulls(path: Path, column: Any, name: str, first: int) -> None:
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise EvaluationError(f"{path}: row {row} has no {name}; leave such rows out")


def _times(path: Path, batch: Any, first: int) -> I64:
    column = batch.column("timestamp")
    _check_nulls(path, column, "timestamp", first)
    try:
        column = column.cast(pa.timestamp("s"), safe=False)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise EvaluationError(
            f"{path}: rows {first} to {first + batch.num_rows - 1} hold a timestamp that is none "
            f"({reason}); YYYY-MM-DD HH:MM:SS is needed"
        ) from error
    time: I64 = column.cast(pa.int64()).to_numpy(zero_copy_only=False) * 1000
    wrong = np.flatnonzero((time < EARLIEST) | (time > LATEST))
    if len(wrong):
        row = int(wrong[0])
        raise EvaluationError(
            f"{path}: row {first + row} has the time {np.datetime64(int(time[row]), 'ms')}; an "
            "event is between the years 2000 and 2100"
        )
    return time
