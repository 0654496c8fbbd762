import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.config.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 250), ("90s", 90_000), ("15m", 900_000), ("1.5h", 5_400_000), ("7d", 604_800_000),
     ("0", 0), (" 12 ", 12)],
)  # fmt: skip
def test_durations_are_read(text, expected):
    assert parse_duration(text) == expected


@given(st.integers(min_value=0, max_value=10**12), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_and_its_parts_agree(count, unit):
    assert parse_duration(f"{count}{unit}") == count * parse_duration(f"1{unit}")


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1 week", "1s 2s", "1e3s", "nan", "1.s", "²"])
def test_other_texts_are_refused_with_examples(text):
    with pytest.raises(ValueError, match="no duration: write for example"):
        parse_duration(text)
