"""The table of rates: CSV or TOML, and every wrong row named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.money import currency_code
from stream.config.loading import load_settings
from stream.config.rates import rates_of
from stream.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from models.money import Rates

CSV = "date,currency,rate\n2024-01-01,JPY,0.0064\n2024-01-02, usd ,0.9\n"
TOML = """
[[rates]]
date = 2024-01-01
currency = "JPY"
rate = 0.0064

[[rates]]
date = "2024-01-02"
currency = "USD"
rate = 0.9
"""


def table(path: Path, text: str) -> Rates:
    path.write_text(text, encoding="utf-8-sig")
    return rates_of(load_settings(None, {"money": {"currency": " eur ", "rates": path}}).money)


def test_csv_and_toml_are_the_same_table(tmp_path: Path) -> None:
    ours = table(tmp_path / "rates.csv", CSV)
    assert (ours.currency, len(ours.digest)) == ("EUR", 16)
    assert table(tmp_path / "rates.toml", TOML).digest == ours.digest
    codes = np.array([currency_code("USD")], np.uint32)
    amounts, _ = ours.convert(np.array([10_000]), codes, np.array([1_704_153_600_000]))
    assert amounts.tolist() == [9_000]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2024-01-01,JPY,0", "line 4: rate '0' is no positive number"),
        ("2024-01-01,JPY,nan", "rate 'nan'"),
        ('2024-01-01,JPY,"0,9"', "rate '0,9'"),
        ("01/02/2024,JPY,1", "line 4: date '01/02/2024' is not written YYYY-MM-DD"),
        ("2024-02-30,JPY,1", "date '2024-02-30'"),
        ("2024-01-01,JPY,1", r"another rate of JPY for 2024-01-01 than .*line 2: keep one"),
        ("2024-01-01,,1", "line 4: no currency"),
        ("2024-01-01,JPY", "line 4: no rate"),
        ("2024-01-01,EUR,2", "EUR is the shop's own currency, its rate is 1"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        table(tmp_path / "rates.csv", f"{CSV}{row}\n")


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no date, currency, rate; a rate has"):
        table(tmp_path / "rates.csv", "day;currency;rate\n2024-01-01;JPY;1\n")
    with pytest.raises(SettingsError, match=r"cannot read the rates .*toml"):
        table(tmp_path / "rates.toml", "[[rates]\n")
    gone = {"currency": "EUR", "rates": tmp_path / "gone.csv"}
    with pytest.raises(SettingsError, match=r"cannot read the rates .*gone"):
        rates_of(load_settings(None, {"money": gone}).money)


@pytest.mark.parametrize(
    ("money", "message"),
    [({"rates": "x.csv"}, "set money.currency"), ({"currency": "Euro"}, "money.currency")],
)
def test_settings_of_money_agree(money: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(None, {"money": money})
