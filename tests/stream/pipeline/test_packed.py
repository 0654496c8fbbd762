"""Columns are the pairs that they were made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config.settings import Settings
from stream.kernels.buffers import joined
from stream.pipeline.packed import Message, Messages, Packed
from stream.testing import PipedRecord, PipelineDriver
from tests.logs import gru_scorer, raw, shop_log

pytestmark = pytest.mark.slow

parts = st.one_of(st.none(), st.binary(max_size=5))
pairs = st.lists(st.tuples(parts, parts), max_size=8)


@settings(max_examples=100, deadline=None, database=None)
@given(pairs)
def test_pairs_come_back(messages: list[Message]) -> None:
    packed = Packed.of(messages)
    assert list(packed) == messages
    assert len(packed) == len(messages)
    assert len(packed.keys) == sum(len(key or b"") for key, _ in messages)


def test_columns_of_a_kernel_may_have_room_behind_the_last_end() -> None:
    keys, ends = joined([b"a", b"bc"])
    values = np.frombuffer(bytearray(b"onetwo and room"), np.uint8)
    packed = Packed.of_ends(keys, ends, values, np.array([3, 6]))
    assert list(packed) == [(b"a", b"one"), (b"bc", b"two")]
    assert len(packed.values) == 6
    with pytest.raises(ValueError, match="read-only"):
        packed.values[0] = 0
    none = Packed.of_ends(*joined([]), *joined([]))
    assert not len(none)
    assert list(none) == []


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.tuples(pairs, st.sampled_from(["packed", "pairs", "more"]))))
def test_messages_keep_their_order(added: list[tuple[list[Message], str]]) -> None:
    gathered, want = Messages(), []
    for messages, how in added:
        want += messages
        if how == "packed":
            gathered.extend(Packed.of(messages))
        elif how == "pairs":
            gathered.extend(messages)
        else:
            more = Messages()
            more.extend(messages)
            gathered.extend(more)
    assert list(gathered) == want
    assert len(gathered) == len(want)
    assert [pair for part in gathered.packed() for pair in part] == want


def test_what_is_added_later_does_not_change_what_was_added_from() -> None:
    first, whole = Messages(), Messages()
    first.extend([(b"1", b"")])
    whole.extend(first)
    whole.extend([(b"2", b"")])
    assert list(first) == [(b"1", b"")]
    assert list(whole) == [(b"1", b""), (b"2", b"")]


def test_predictions_leave_the_pipeline_packed() -> None:
    driver = PipelineDriver(gru_scorer(), Settings(worker={"clock": "event"}))
    log = raw(shop_log(3, 60))
    driver.pipeline.process([PipedRecord(n, time, *pair) for n, (*pair, time) in enumerate(log)])
    gathered = driver.pipeline.take_outputs()[driver.settings.topics.propensity]
    assert len(gathered) == driver.pipeline.counters.predictions > 30
    assert all(isinstance(part, Packed) for part in gathered.parts)
