"""Rates by day and by when they were known, beside a plain search through all of them."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.money import Rate, Rates, currency_code
from models.rate_table import Entry, RateTable

pytestmark = pytest.mark.slow

ENTRIES = st.builds(
    Entry, st.integers(0, 8), st.integers(0, 8), st.sampled_from([1.0, 2.0, 3.0, math.nan])
)
EVENTS = st.tuples(st.integers(-1, 9), st.integers(0, 9))


def plainly(entries: list[Entry], day: int, taken: int) -> float:
    """Day by day backwards; of a day what was known last."""
    for each in range(day, -1, -1):
        known = [e for e in entries if e.day == each and e.since <= taken]
        newest = max((e.since for e in known), default=None)
        of_day = [e.rate for e in known if e.since == newest]
        if of_day and not math.isnan(of_day[-1]):
            return of_day[-1]
    return math.nan


@given(st.lists(ENTRIES, max_size=12), st.lists(EVENTS, min_size=1, max_size=12))
def test_every_event_gets_the_rate_that_was_known(
    entries: list[Entry], events: list[tuple[int, int]]
) -> None:
    days, taken = (np.array(column, np.int64) for column in zip(*events, strict=True))
    found = RateTable(entries).rates(days, taken)
    np.testing.assert_array_equal(found, [plainly(entries, *event) for event in events])
    after_all = RateTable(entries).rates(days, None)
    np.testing.assert_array_equal(after_all, [plainly(entries, day, 99) for day, _ in events])


@given(st.lists(ENTRIES, max_size=12), st.integers(0, 12), st.lists(EVENTS, min_size=1))
def test_portions_and_repeats_of_rates_make_no_difference(
    entries: list[Entry], cut: int, events: list[tuple[int, int]]
) -> None:
    rates = [Rate(date.fromordinal(719_163 + e.day), "JPY", e.rate, e.since) for e in entries]
    whole, grown = Rates("EUR", rates), Rates("EUR", rates[:cut])
    grown.extend(rates[cut:])
    grown.extend(rates)
    days, taken = (np.array(column, np.int64) for column in zip(*events, strict=True))
    amounts = np.full(len(days), 10_000, np.int64)
    codes = np.full(len(days), currency_code("JPY"), np.uint32)
    expected, _ = whole.convert(amounts, codes, days * 86_400_000, taken)
    found, _ = grown.convert(amounts, codes, days * 86_400_000, taken)
    np.testing.assert_array_equal(found, expected)
