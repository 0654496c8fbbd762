import pytest

from stream.replay.adapter import LineError, integer, milliseconds, price_of


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("-5", -5), ("1511539200", 1_511_539_200), ("007", 7)]
)
def test_integer_reads_digits(text, value):
    assert integer(text) == value


@pytest.mark.parametrize("text", ["", "-", "--1", "1_0", " 1", "1.0", "\u0661", "9" * 21, "nan"])
def test_integer_reads_nothing_else(text):
    with pytest.raises(LineError, match="time is not a number"):
        integer(text)


@pytest.mark.parametrize(
    "text",
    [
        "2019-10-01 00:00:00 UTC",
        "2019-10-01",
        "2019-10-01T00:00:00Z",
        "2019-10-01T02:00:00+02:00",
    ],
)
def test_dates_are_utc_unless_they_say_otherwise(text):
    assert milliseconds(text) == 1_569_888_000_000


def test_no_date():
    with pytest.raises(LineError, match="time is not a date"):
        milliseconds("yesterday")


def test_prices():
    assert price_of("") is None
    assert price_of("12.50") == 12.5
    for text in ("nan", "inf", "1e999", "free"):
        with pytest.raises(LineError, match="price is not a number"):
            price_of(text)
