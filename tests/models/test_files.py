"""Files that somebody else may have put there are read within bounds."""

import os
import tracemalloc

import pytest

from models.files import read_bounded


def test_a_file_is_read_without_reserving_what_it_may_have_at_most(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_bounded(path, 4 << 30) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_too_long_or_no_file_is_refused(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"abcd")
    assert read_bounded(path, 4) == b"abcd"
    with pytest.raises(OSError, match="has 4 bytes, at most 3"):
        read_bounded(path, 3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_bounded(tmp_path / "pipe", 3)
