"""Amounts in the shop's currency: by the event's day, the same for every reader, none invented."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from models.money import (
    AS_THEY_COME,
    MAX_AMOUNT,
    Converter,
    Rate,
    Rates,
    currency_code,
    currency_name,
)

JPY, USD, EUR = (currency_code(name) for name in ("JPY", "USD", "EUR"))
RATES = Rates(
    "EUR",
    [
        Rate(date(2024, 1, 1), "JPY", 0.0064),
        Rate(date(2024, 3, 1), "JPY", 0.0060),
        Rate(date(2024, 1, 1), "USD", 0.9),
    ],
)


def ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


def convert(rates: Rates, *rows: tuple[int, int, int]) -> tuple[list[int], Converter]:
    """Rows of (amount, code, time)."""
    money = Converter(rates)
    amounts, codes, times = (list(column) for column in zip(*rows, strict=True))
    arrays = np.array(amounts, np.int64), np.array(codes, np.uint32), np.array(times, np.int64)
    return money.convert(*arrays).tolist(), money


@pytest.mark.parametrize("text", ["jpy", " JPY ", "Jpy", "JPY"])
def test_case_and_blanks_do_not_matter(text: str) -> None:
    assert currency_code(text) == JPY
    assert currency_name(currency_code(text)) == "JPY"


def test_other_currencies_have_codes_of_their_own() -> None:
    codes = [currency_code(text) for text in ("points", "US$", "\u20ac", "12E", "EURO", "EUR")]
    assert len(set(codes)) == 6
    assert [currency_name(code) for code in codes] == ["other"] * 5 + ["EUR"]
    assert all(0 < code < 2**32 for code in codes)
    assert [currency_code(text) for text in (None, "", "  ")] == [0, 0, 0]


def test_the_latest_rate_at_or_before_the_day_counts() -> None:
    day = ms(2024, 2, 29, 23)
    amounts, money = convert(
        RATES,
        (150_000_000, JPY, day),
        (150_000_000, JPY, day + 3_600_000),
        (10_000, USD, ms(2030, 1, 1)),
        (1_000_000, EUR, day),
        (1_000_000, 0, day),
        (0, JPY, day),
    )
    assert amounts == [960_000, 900_000, 9_000, 1_000_000, 1_000_000, 0]
    assert money.counts.foreign == {"JPY": 2, "USD": 1}
    assert money.faults() == []


def test_without_a_rate_an_amount_does_not_count() -> None:
    amounts, money = convert(
        RATES,
        (10_000, JPY, ms(2023, 12, 31)),
        (10_000, currency_code("CHF"), ms(2024, 2, 1)),
        (10_000, currency_code("points"), ms(2024, 2, 1)),
        (10_000, USD, ms(2024, 2, 1)),
    )
    assert amounts == [0, 0, 0, 9_000]
    assert money.counts.unpriced == {"JPY": 1, "CHF": 1, "other": 1}
    assert money.faults()[0] == (
        "the amounts of 1 events in CHF do not count: there is no rate at or before their day in"
        " money.rates"
    )


def test_an_amount_that_grows_beyond_the_bound_does_not_count() -> None:
    rates = Rates("IDR", [Rate(date(2024, 1, 1), "KWD", 50_000.0)])
    amounts, money = convert(rates, (MAX_AMOUNT // 10, currency_code("KWD"), ms(2024, 1, 1)))
    assert amounts == [0]
    assert money.counts.unpriced == {"KWD": 1}


def test_unset_amounts_stay_and_a_mixture_is_a_fault() -> None:
    row = (1_000_000, EUR, ms(2024, 1, 1))
    amounts, money = convert(AS_THEY_COME, row, (150_000_000, JPY, row[2]), (5, 0, row[2]))
    assert amounts == [1_000_000, 150_000_000, 5]
    (fault,) = money.faults()
    assert "(EUR 1, JPY 1 events)" in fault
    assert "money.currency" in fault
    assert convert(AS_THEY_COME, row, row)[1].faults() == []


def test_the_digest_names_currency_and_table() -> None:
    rates = [Rate(date(2024, 1, 1), "USD", 0.9), Rate(date(2024, 1, 2), "USD", 0.91)]
    assert Rates("EUR", rates).digest == Rates("EUR", rates[::-1]).digest
    digests = {Rates("EUR", rates[:n]).digest for n in range(3)} | {Rates("GBP", rates).digest}
    assert len(digests) == 4
    assert AS_THEY_COME.digest == ""
