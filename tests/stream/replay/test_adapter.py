import pytest

from stream.replay.adapter import LineError, identifier, integer, user_of


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
    ("text", "id_"),
    [
        ("17850", "17850"),
        (" u 1 ", "u 1"),
        ("17850.0", "17850"),
        ("9007199254740993", "9007199254740993"),
        ("007", "007"),
        ("1E10", "1E10"),
        *((text, None) for text in ("", " ", "nan", "NaN", "NULL", "None", "<NA>", "(not set)")),
        ("00000000-0000-0000-0000-000000000000", None),
    ],
)
def test_ids_are_text_and_missing_ones_are_none(text, id_):
    assert identifier(text) == id_


@pytest.mark.parametrize("text", ["9007199254740993.0", "5.41e+12", "5E+12"])
def test_ids_that_lost_digits_are_refused(text):
    with pytest.raises(LineError, match="write ids as text"):
        identifier(text)


def test_a_missing_user_is_named():
    with pytest.raises(LineError, match="no user"):
        user_of("nan")
