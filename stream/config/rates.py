"""Tables of rates as files: CSV, or TOML."""

import csv
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from models.money import Rate, Rates, currency_code
from stream.config.money_settings import MoneySettings
from stream.errors import SettingsError

__all__ = ["rates_of", "read_rates"]

_GROWS: Final = "topic"
"""Digest of a table that goes on growing."""
_COLUMNS: Final = ("date", "currency", "rate")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def rates_of(money: MoneySettings) -> Rates:
    """The table that the settings name; its file is read once, its topic by `stream.kafka.rates`.

    Raises:
        SettingsError: it cannot be read, or a row is no rate; names the row.
    """
    if money.rates_topic:
        return Rates(money.currency, digest=_GROWS)
    return _of_file(money)


@lru_cache(maxsize=8)
def _of_file(money: MoneySettings) -> Rates:
    return Rates(
        money.currency, () if money.rates is None else read_rates(money.rates, money.currency)
    )


def read_rates(path: Path, shop: str | None) -> list[Rate]:
    """Read a table of rates into `shop`'s currency.

    Raises:
        SettingsError: the file cannot be read, or a row is no rate or contradicts another one.
    """
    rates: dict[tuple[int, date], tuple[Rate, str]] = {}
    for place, row in _rows(path):
        rate = _rate(place, row)
        code = currency_code(rate.currency)
        if code == currency_code(shop) and rate.rate != 1:
            raise SettingsError(f"{place}: {shop} is the shop's own currency, its rate is 1")
        twin = rates.setdefault((code, rate.day), (rate, place))
        if twin[0].rate != rate.rate:
            raise SettingsError(
                f"{place}: another rate of {rate.currency} for {rate.day} than {twin[1]}: keep one"
            )
    return [rate for rate, _ in rates.values()]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with its place in words."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows: Iterable[Any]
        if path.suffix.lower() == ".toml":
            rows, word, first = tomllib.loads(text).get("rates", ()), "table", 1
        else:
            rows, word, first = csv.DictReader(text.splitlines(), strict=True), "line", 2
        for number, row in enumerate(rows, first):
            yield f"{path}, {word} {number}", row
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, csv.Error) as error:
        raise SettingsError(f"cannot read the rates {path}: {error}") from error


def _rate(place: str, row: dict[str, Any]) -> Rate:
    missing = [name for name in _COLUMNS if row.get(name) in (None, "")]
    if missing:
        raise SettingsError(f"{place}: no {', '.join(missing)}; a rate has {', '.join(_COLUMNS)}")
    day, currency, rate = (str(row[name]).strip() for name in _COLUMNS)
    try:
        number = float(rate)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise SettingsError(f"{place}: rate {rate!r} is no positive number, such as 0.0061")
    if not currency_code(currency):
        raise SettingsError(f"{place}: no currency")
    if not _DATE.fullmatch(day):
        raise SettingsError(f"{place}: date {day!r} is not written YYYY-MM-DD")
    try:
        return Rate(date.fromisoformat(day), currency.upper(), number)
    except ValueError as error:
        raise SettingsError(f"{place}: date {day!r}: {error}") from error
