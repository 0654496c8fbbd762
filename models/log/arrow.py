"""Columns of Parquet files as texts, times and numbers, whatever type a data frame gave them.

A column that has lost what it held (ids as floats beyond their precision) or is of a type that
cannot hold it is refused as a whole, with the file, the column, its type and the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import DatasetError

__all__ = ["NO_IDS", "Column", "check_names"]

NO_IDS: Final = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "(not set)"})
"""What data frames and analytics write for a missing id, in lower case."""
_EXACT: Final = {16: 2**11, 32: 2**24, 64: 2**53}
"""Bits of a float -> whole numbers up to which each is exact."""
_DECIMALS: Final = (pa.types.is_decimal128, pa.types.is_decimal256)
_INT64: Final = 2.0**63


def check_names(path: Path, names: list[str], needed: tuple[str, ...], remedy: str) -> None:
    """Check that a file has the needed columns, and each once.

    Raises:
        DatasetError: it has not; names all that are missing, or there twice.
    """
    missing = [name for name in needed if name not in names]
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}; {remedy}")
    twice = sorted({name for name in needed if names.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: column {', '.join(twice)} is there twice; keep one of each")


@dataclass(frozen=True)
class Column:
    """A column of a batch of rows, N of them."""

    path: Path
    name: str
    array: Any
    """A pyarrow array."""

    @staticmethod
    def of(path: Path, batch: pa.RecordBatch, name: str) -> Column:
        """The column of a batch; dictionaries are unfolded."""
        array = batch.column(name)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return Column(path, name, array)

    def texts(self) -> Any:
        """Ids as a pyarrow string array; null where there is none.

        Raises:
            DatasetError: the type is no id's, or the ids have lost digits.
        """
        array, kind = self.array, self.array.type
        if pa.types.is_floating(kind):
            array = self._whole(_EXACT[kind.bit_width])
        elif any(test(kind) for test in _DECIMALS):
            array = self._cast(pa.decimal128(38, 0), "ids are whole numbers or text")
        elif isinstance(kind, pa.UuidType):
            return pa.array([None if each is None else str(each) for each in array.to_pylist()])
        elif not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise self._error("an id is text or a whole number")
        texts = self._cast(pa.string(), "write it as text", array)
        missing = pc.is_in(pc.utf8_lower(texts), pa.array(sorted(NO_IDS - {""})))
        return pc.if_else(missing, pa.scalar(None, pa.string()), texts)

    def times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Times as ms since 1970: [N] values, where one is missing, where it is no time.

        Numbers are taken as they are, fractions of a ms are rounded; texts are ISO 8601 or digits;
        without a zone it is UTC.

        Raises:
            DatasetError: the type is no time's.
        """
        array, kind = self.array, self.array.type
        if _is_text(kind):
            return self._parsed_times()
        if pa.types.is_timestamp(kind):
            array = array.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64())
        elif pa.types.is_date(kind):
            array = array.cast(pa.timestamp("ms")).cast(pa.int64())
        elif not _is_number(kind):
            raise self._error("a time is an integer of milliseconds, a timestamp or an ISO text")
        values, missing, huge = _integers(array, np.rint)
        return values, missing, huge

    def numbers(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Numbers [N], and where there is one: null and NaN are none.

        Raises:
            DatasetError: the type is no number's, or a text is none.
        """
        kind = self.array.type
        if not (_is_number(kind) or _is_text(kind)):
            raise self._error("it must hold numbers")
        array = self._cast(pa.float64(), "it must hold numbers, with a decimal point")
        values = array.fill_null(math.nan).to_numpy(zero_copy_only=False)
        given = ~np.isnan(values)
        return np.where(given, values, 0.0), given

    def integers(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Whole numbers: [N] values, where one is missing, where it is no whole number.

        Raises:
            DatasetError: the type is no number's.
        """
        kind = self.array.type
        if not (_is_number(kind) or _is_text(kind)):
            raise self._error("it must hold whole numbers")
        array = self.array
        if _is_text(kind):
            array = self._cast(pa.float64(), "it must hold whole numbers")
        values, missing, huge = _integers(array, np.trunc)
        if pa.types.is_integer(array.type):
            return values, missing, huge
        exact = array.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
        return values, missing, huge | (~missing & (exact != values))

    def _whole(self, exact: int) -> Any:
        """Floats as integers, which each was before it met a null in a data frame."""
        array = self.array.cast(pa.float64())
        values = array.fill_null(math.nan).to_numpy(zero_copy_only=False)
        there = ~np.isnan(values)
        if (np.abs(values[there]) >= exact).any():
            raise self._error(
                f"it holds ids of {exact:,} and more, which have lost digits as floats, so that"
                " several become one; write the column as int64 or text where it is made"
            )
        if (values[there] != np.trunc(values[there])).any():
            raise self._error("it holds fractions, and an id is a whole number or text")
        return pa.array(np.where(there, values, 0).astype(np.int64), mask=~there)

    def _parsed_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        encoded = self.array.dictionary_encode()
        found = [_time(text) for text in encoded.dictionary.to_pylist()]
        table = np.array([0 if each is None else each for each in found] + [0], np.int64)
        wrong = np.array([each is None for each in found] + [False])
        index = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
        return table[index], index == len(found), wrong[index]

    def _cast(self, kind: pa.DataType, remedy: str, array: Any = None) -> Any:
        try:
            return (self.array if array is None else array).cast(kind)
        except pa.ArrowException as error:
            raise self._error(f"{remedy} ({str(error).splitlines()[0]})") from error

    def _error(self, remedy: str) -> DatasetError:
        return DatasetError(
            f"{self.path}: column {self.name} of type {self.array.type} cannot be used: {remedy}"
        )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_null(kind)
        or any(test(kind) for test in _DECIMALS)
    )


def _integers(
    array: Any, to_whole: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Integers [N], where one is missing, where it does not fit into 64 bits."""
    if pa.types.is_integer(array.type) and array.type != pa.uint64():
        values = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        missing = array.is_null().to_numpy(zero_copy_only=False)
        return np.asarray(values, np.int64), missing, np.zeros(len(missing), np.bool_)
    floats = array.cast(pa.float64(), safe=False).fill_null(math.nan)
    numbers = floats.to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    huge = ~missing & (np.abs(numbers) >= _INT64)
    whole = to_whole(np.where(missing | huge, 0.0, numbers))
    return whole.astype(np.int64), missing, huge


def _time(text: str) -> int | None:
    """ISO 8601, or digits of milliseconds, as ms since 1970; None for anything else."""
    text = text.strip()
    if text.isdecimal() and text.isascii() and len(text) <= 18:  # noqa: PLR2004  # 64 bits
        return int(text)
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
