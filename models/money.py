"""Amounts in the shop's currency: one conversion for serving, training and outcomes.

An event's amount is converted by the rate of its currency on its day (UTC): the latest one at or
before that day, of those that were known when the event was taken in (`models.rate_table`). So the
same events and the same table give the same amounts, on any day and on any machine. An event of a
currency without such a rate keeps everything but its amount.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.history import I64, Events
from models.rate_table import Entry, RateTable

__all__ = [
    "AS_THEY_COME",
    "MAX_AMOUNT",
    "Amounts",
    "Converter",
    "Rate",
    "Rates",
    "currency_code",
    "currency_name",
    "mixed_fault",
    "unpriced_faults",
]

MAX_AMOUNT: Final = 10**16
"""Largest price x quantity in 1 / AMOUNT_UNIT, a million million currency units: 900 such still
sum in 64 bits."""
_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LETTERS: Final = 3
"""Of a currency code in ISO 4217."""
_OTHER: Final = 1 << 31
"""Set in the code of a currency that has no ISO code."""


def currency_code(text: str | None) -> int:
    """A number for a currency, 0 for none; blanks around it and lower case do not matter.

    Three letters are packed into 24 bits, anything else is a hash with bit 31 set.
    """
    plain = "" if text is None else text.strip().upper()
    if not plain:
        return 0
    if len(plain) == _LETTERS and plain.isascii() and plain.isalpha():
        return int.from_bytes(plain.encode(), "big")
    return _OTHER | (xxhash.xxh3_64_intdigest(plain.encode()) & (_OTHER - 1))


def currency_name(code: int) -> str:
    """The letters of a code, "other" where it has none."""
    return "other" if code & _OTHER else code.to_bytes(_LETTERS, "big").decode()


class Rate(NamedTuple):
    """What one unit of a currency is worth from a day on."""

    day: date
    currency: str
    rate: float
    """Units of the shop's currency; NaN: withdrawn."""
    since: int = 0
    """Broker's time from which on events are converted by it, ms; 0: all events are."""


@dataclass(slots=True)
class Amounts:
    """Events with an amount, counted by the name of their currency."""

    foreign: dict[str, int] = field(default_factory=dict)
    """Converted; without a currency of the shop: added up as they come, whatever they are."""
    unpriced: dict[str, int] = field(default_factory=dict)
    """Kept without their amount, because there is no rate for it."""

    def add(self, more: Amounts) -> None:
        """Count more; the dictionaries are replaced, so that readers may keep the old ones."""
        self.foreign = _sum(self.foreign, more.foreign)
        self.unpriced = _sum(self.unpriced, more.unpriced)


class Rates:
    """The shop's currency, and what the others were worth on each day."""

    def __init__(
        self, currency: str | None = None, rates: Iterable[Rate] = (), digest: str | None = None
    ) -> None:
        """Without a currency amounts stay as they come.

        Args:
            currency: the shop's.
            rates: the table; `extend` adds more.
            digest: names a table that grows; None: it is made of the currency and the table.
        """
        self.currency = currency
        self._own = currency_code(currency)
        self._entries: dict[int, dict[tuple[int, int], Entry]] = {}
        self._tables: dict[int, RateTable] = {}
        self.extend(rates)
        rows = sorted(
            (code, entry.day + _EPOCH, entry.rate)
            for code, entries in self._entries.items()
            for entry in entries.values()
        )
        text = f"{currency or ''}:{rows}"
        made = hashlib.sha256(text.encode()).hexdigest()[:16] if currency else ""
        self.digest = made if digest is None else digest
        """Names the currency and the table; equal for equal conversions."""

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def extend(self, rates: Iterable[Rate]) -> None:
        """Add rates; one of the same currency, day and `since` takes the place of the other.

        Conversions in other threads use the table before or the table after, nothing between.
        """
        changed = set()
        for rate in rates:
            code = currency_code(rate.currency)
            entry = Entry(rate.day.toordinal() - _EPOCH, rate.since, rate.rate)
            self._entries.setdefault(code, {})[entry.day, entry.since] = entry
            changed.add(code)
        if changed:
            made = {code: RateTable(self._entries[code].values()) for code in changed}
            self._tables = self._tables | made

    def rows(self) -> Iterator[Rate]:
        """The table by currency, day and time."""
        for code in sorted(self._entries):
            for day, since in sorted(self._entries[code]):
                rate = self._entries[code][day, since].rate
                yield Rate(date.fromordinal(day + _EPOCH), currency_name(code), rate, since)

    def update(self, other: Rates) -> None:
        """Take the rates of another table in."""
        for code, entries in other._entries.items():
            known = self._entries.setdefault(code, {})
            if known != entries:
                known.update(entries)
                self._tables = self._tables | {code: RateTable(known.values())}

    def convert(
        self, amounts: I64, codes: NDArray[np.uint32], times: I64, taken: I64 | None = None
    ) -> tuple[I64, Amounts | None]:
        """Amounts in the shop's currency, and counts of those that came in another one.

        Args:
            amounts: [N], 1 / AMOUNT_UNIT of the event's currency.
            codes: [N] as of `currency_code`; no currency is the shop's.
            times: [N] event times, ms.
            taken: [N] broker's times of the events, ms; None: after all rates were known.

        Returns:
            [N] amounts, the same array if none changed; None where there was nothing to count.
        """
        other = (codes != self._own) & (codes != 0) & (amounts > 0)
        if not other.any():
            return amounts, None
        found = Amounts()
        if not self._own:
            kinds, counts = np.unique(codes[other], return_counts=True)
            for code, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                _count(found.foreign, code, count)
            return amounts, found
        converted, tables = amounts.copy(), self._tables
        for code in np.unique(codes[other]).tolist():
            where = np.flatnonzero(other & (codes == code))
            table = tables.get(code)
            known_by = None if taken is None else taken[where]
            rate = np.nan if table is None else table.rates(times[where] // _DAY_MS, known_by)
            worth = np.rint(amounts[where] * rate)
            known = worth <= MAX_AMOUNT  # False for NaN
            converted[where] = np.where(known, worth, 0).astype(np.int64)
            _count(found.foreign, code, int(known.sum()))
            _count(found.unpriced, code, int((~known).sum()))
        return converted, found


AS_THEY_COME: Final = Rates()
"""No currency of the shop is set."""


@dataclass(slots=True)
class Converter:
    """Converts the amounts of a log part by part, and counts over all of them."""

    rates: Rates = AS_THEY_COME
    counts: Amounts = field(default_factory=Amounts)

    def convert(
        self, amounts: I64, codes: NDArray[np.uint32], times: I64, taken: I64 | None = None
    ) -> I64:
        """As `Rates.convert`."""
        converted, found = self.rates.convert(amounts, codes, times, taken)
        if found is not None:
            self.counts.add(found)
        return converted

    def convert_events(self, events: Events, codes: NDArray[np.uint32]) -> None:
        """Convert the amounts of N events and, without counting them again, their discounts.

        ``codes``: [N] as of `currency_code`.
        """
        events.amount = self.convert(events.amount, codes, events.time)
        if events.discount.any():
            events.discount, _ = self.rates.convert(events.discount, codes, events.time)

    def faults(self) -> list[str]:
        """What is wrong with the amounts so far, each in one line."""
        mixed = None if self.rates.currency else mixed_fault(self.counts.foreign)
        return [*([mixed] if mixed else []), *unpriced_faults(self.counts.unpriced)]


def mixed_fault(counts: dict[str, int]) -> str | None:
    """What is wrong where amounts of several currencies are added up; None if nothing is."""
    if len(counts) <= 1:
        return None
    named = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return (
        f"amounts of several currencies are added up as they come ({named} events): set"
        " money.currency to the shop's and money.rates to a table of rates"
    )


def unpriced_faults(counts: dict[str, int]) -> list[str]:
    """One line for each currency whose amounts do not count."""
    return [
        f"the amounts of {count:,} events in {name} do not count: there is no rate at or before"
        " their day in money.rates"
        for name, count in sorted(counts.items())
    ]


def _count(counts: dict[str, int], code: int, count: int) -> None:
    if count:
        name = currency_name(code)
        counts[name] = counts.get(name, 0) + count


def _sum(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) + more.get(name, 0) for name in counts | more}
