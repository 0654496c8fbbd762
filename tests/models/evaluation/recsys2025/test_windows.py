"""The challenge's split of time."""

from __future__ import annotations

import numpy as np

from models.evaluation.recsys2025.windows import TEST, TRAIN, Windows


def ms(text: str) -> int:
    return int(np.datetime64(text, "ms").astype(np.int64))


def test_the_last_day_is_the_28th_of_the_two_windows() -> None:
    windows = Windows.before(ms("2022-03-05T12:00:00"))
    assert windows.cut == ms("2022-02-06")
    assert windows.middle == ms("2022-02-20")
    assert str(windows) == (
        "known before 2022-02-06, labels to learn from before 2022-02-20, evaluated up to "
        "2022-03-05"
    )


def test_each_window_holds_its_begin_and_not_its_end() -> None:
    windows = Windows.before(ms("2022-03-05T12:00:00"))
    times = np.array(
        [windows.cut - 1, windows.cut, windows.middle - 1, windows.middle, windows.last]
    )
    assert windows.of(times).tolist() == [-1, TRAIN, TRAIN, TEST, TEST]
    assert windows.of(np.array([windows.last + 1])).tolist() == [-1]
