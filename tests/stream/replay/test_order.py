import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.replay.errors import ReplayError
from stream.replay.order import Row, in_time_order
from tests.stream.replay.files import row


@pytest.mark.slow
@given(st.lists(st.integers(-5, 5), max_size=200), st.sampled_from([1, 700, 5_000, 1 << 20]))
def test_sorted_by_time_then_by_place(times, memory_bytes):
    rows = [row(time, place, b"%d" % place) for place, time in enumerate(times)]
    assert list(in_time_order(rows, memory_bytes=memory_bytes)) == sorted(rows)


def test_null_keys_survive_the_disk():
    rows = [Row(time, -time, None, b"v") for time in range(10)]
    assert list(in_time_order(rows[::-1], memory_bytes=1)) == rows


@pytest.mark.slow
def test_many_runs_are_merged_in_passes_within_the_budget(tmp_path):
    count, payload, budget = 60_000, b"x" * 100, 200_000
    times = random.Random(1)
    rows = (row(times.randrange(1_000_000), place, payload) for place in range(count))
    tracemalloc.start()
    try:
        ordered = in_time_order(rows, memory_bytes=budget, folder=tmp_path)
        last = next(ordered)
        assert len(list(tmp_path.iterdir())) == 1
        seen = 1
        for current in ordered:
            assert last <= current
            last = current
            seen += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == count
    # One chunk of each of up to 64 runs is in memory beside the budget; all rows would be 27 MB.
    assert peak < budget + 65 * 256 * 450
    assert not list(tmp_path.iterdir())


def test_abandoned_files_are_removed(tmp_path):
    ordered = in_time_order((row(-n, n) for n in range(100)), memory_bytes=1_000, folder=tmp_path)
    next(ordered)
    assert list(tmp_path.iterdir())
    ordered.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without room")
def test_no_room_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    def onto_a_full_disk(_path, mode="r"):
        return open("/dev/full", mode)  # noqa: PTH123

    monkeypatch.setattr(Path, "open", onto_a_full_disk)
    rows = (row(-n, n, b"x" * 1000) for n in range(100))
    with pytest.raises(ReplayError, match=r"cannot sort in .*No space left.*TMPDIR"):
        list(in_time_order(rows, memory_bytes=10_000, folder=tmp_path))
