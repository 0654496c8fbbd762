"""The kernels that order texts against Python's `sorted`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kernels.buffers import joined
from stream.kernels.ordering import (
    leading_words,
    newest_in_order,
    stable_order,
    timer_entries,
)

pytestmark = pytest.mark.slow

texts = st.lists(
    st.one_of(
        st.binary(max_size=3),
        st.binary(max_size=20),
        st.sampled_from([b"user-1", b"user-10", b"user-1\0", b"a" * 9, b"a" * 10]),
    ),
    max_size=60,
)


def laid_out(found):
    data, ends = joined(found)
    return data, np.concatenate(([0], ends))[: len(found)], ends


@given(texts, st.integers(0, 3))
def test_texts_are_ordered_and_equal_ones_stay_as_they_are(found, common):
    found = [b"common"[: 2 * common] + text for text in found]
    data, begins, ends = laid_out(found)
    order = stable_order(leading_words(data, begins, ends), data, begins, ends)
    assert order.tolist() == sorted(range(len(found)), key=found.__getitem__)


@given(texts)
def test_of_equal_texts_the_last_one_is_kept(found):
    places = {text: place for place, text in enumerate(found)}
    newest = newest_in_order(*laid_out(found))
    assert newest.tolist() == [places[text] for text in sorted(places)]


@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 2**62)), max_size=20))
def test_entries_of_the_timer_index(timers):
    keys = [key for key, _ in timers]
    dues = np.array([due for _, due in timers], np.int64)
    data, begins, ends = laid_out(keys)
    order = np.arange(len(keys))[::-1].copy()
    out = np.empty(sum(map(len, keys)) + 9 * len(keys), np.uint8)
    stops = timer_entries(data, begins, ends, order, dues, out).tolist()
    written = [out[lo:hi].tobytes() for lo, hi in zip([0, *stops[:-1]], stops, strict=False)]
    assert written == [b"t" + due.to_bytes(8, "big") + key for key, due in reversed(timers)]
