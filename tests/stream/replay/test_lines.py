import bz2
import gzip

import pyarrow as pa
import pytest

from schemas.events import View
from stream.replay import lines
from stream.replay.adapter import Rejected
from stream.replay.errors import ReplayError
from stream.replay.lines import check_header, read_lines, read_table

TEXT = b"a,b\r\n\nlast"


def to_event(line, fields):
    return View(event_id=f"x-{line}", user_id=fields[0], event_time=line)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.bz2", "csv.zst", "csv.lz4"])
def test_lines_are_numbered_in_every_compression(tmp_path, suffix):
    path = tmp_path / f"lines.{suffix}"
    if suffix.endswith("gz"):
        path.write_bytes(gzip.compress(TEXT))
    elif suffix.endswith("bz2"):
        path.write_bytes(bz2.compress(TEXT))
    elif suffix == "csv":
        path.write_bytes(TEXT)
    else:
        codec = {"zst": "zstd", "lz4": "lz4"}[suffix.rpartition(".")[2]]
        with pa.CompressedOutputStream(str(path), codec) as out:
            out.write(TEXT)
    assert list(read_lines(path)) == [(1, b"a,b"), (2, b""), (3, b"last")]


def test_damaged_compression_names_the_file(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(TEXT * 100)[:-12] + b"\0" * 8)
    with pytest.raises(ReplayError, match=r"cannot read .*x\.csv\.gz"):
        list(read_lines(path))


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ReplayError, match="cannot read"):
            list(read_lines(path))


def test_an_endless_line_is_rejected_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    path = tmp_path / "x.csv"
    path.write_bytes(b"u1,1\n" + b"x" * 35 + b"\n" + b"0123456789\n" + b"y" * 11)
    assert list(read_lines(path)) == [(1, b"u1,1"), (2, None), (3, b"0123456789"), (4, None)]
    parsed = dict(read_table(path, 2, to_event, header=False))
    assert parsed[2] == Rejected(2, "longer than 10 bytes")


def test_table_rejects_line_by_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(
        b'u1,1\n\nu1\n"u,2",2\n"u3\nu4,\xff\nu5,5\n"' + b"x" * 200_000 + b'",1\nu\r9,"1"\n'
    )
    parsed = dict(read_table(path, 2, to_event, header=False))
    assert parsed[4].user_id == "u,2"
    assert parsed[7].user_id == "u5"
    assert {
        line: entry.reason for line, entry in parsed.items() if isinstance(entry, Rejected)
    } == {
        2: "blank line",
        3: "2 columns expected",
        5: "2 columns expected",
        6: "not utf-8",
        8: "broken quoting",
        9: "broken quoting",
    }


def test_header(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfa,"b"\nu1,1\n')
    check_header(path, ("a", "b"))
    assert [line for line, _ in read_table(path, 2, to_event, header=True)] == [2]
    with pytest.raises(ReplayError, match="columns must be a,c"):
        check_header(path, ("a", "c"))
    path.write_bytes(b"")
    with pytest.raises(ReplayError, match="is empty"):
        check_header(path, ("a", "b"))
