import bz2
import gzip

import pyarrow as pa
import pytest

from schemas.events import View
from stream.replay import lines
from stream.replay.adapter import Rejected
from stream.replay.errors import ReplayError
from stream.replay.lines import first_line, read_lines
from stream.replay.tables import Table, fits, open_table, read_table

TEXT = b"a,b\r\n\nlast"


def plain(path):
    return Table(path, 2, (0, 1), header=False)


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
    parsed = dict(read_table(plain(path), to_event))
    assert parsed[2] == Rejected(2, f"longer than {8 << 20} bytes")


def test_table_rejects_line_by_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(
        b'u1,1\n\nu1\n"u,2",2\n"u3\nu4,\xff\nu5,5\n"' + b"x" * 200_000 + b'",1\nu\r9,"1"\n'
    )
    parsed = dict(read_table(plain(path), to_event))
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


COLUMNS = {"a": (), "b": ("second",)}


@pytest.mark.parametrize(
    "header", ['\ufeffa,"b"', "B;x;A", "second\ta", "a|b|", "A , Second"], ids=range(5)
)
def test_columns_are_found_by_name(tmp_path, header):
    path = tmp_path / "x.csv"
    path.write_text(f"{header}\n", encoding="utf-8")
    separator = open_table(path, COLUMNS).separator
    names = header.lower().strip("\ufeff").replace('"', "").split(separator)
    fields = ["u1" if name.strip() == "a" else "1" for name in names]
    path.write_text(f"{header}\n{separator.join(fields)}\n", encoding="utf-8")
    ((line, event),) = read_table(open_table(path, COLUMNS), to_event)
    assert (line, event.user_id) == (2, "u1")
    assert fits(first_line(path), COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("x,y\nu1,1\n", r"no column a, b; the columns must be a,b, but the line is 'x,y'"),
        ("a,c\n", "no column b;"),
        ("a,b,second\n", "column b is there more than once"),
    ],
)
def test_headers_that_do_not_do(tmp_path, text, message):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(ReplayError, match=message):
        open_table(path, COLUMNS)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    path = tmp_path / "x.csv"
    path.write_bytes(f"a,b{end}J\u00fcrgen,2{end}u3,3".encode(encoding))
    table = open_table(path, COLUMNS, fallback="latin-1")
    events = [event.user_id for _, event in read_table(table, to_event)]
    assert events == ["J\u00fcrgen", "u3"]


def test_a_cut_utf16_file_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes("a,b\nu1,1\nu2".encode("utf-16")[:-1])
    rows = dict(read_table(open_table(path, COLUMNS), to_event))
    assert rows[2].user_id == "u1"
    assert rows[3] == Rejected(3, "2 columns expected")


def test_quoted_fields_may_go_on_over_lines(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,b\nu1,"x\n\ny"\n"u\n2",1\nu3,"\nu4,4\nu5,"6"" plate"\n')
    rows = dict(read_table(open_table(path, COLUMNS), to_event))
    kept = {line: row.user_id for line, row in rows.items() if not isinstance(row, Rejected)}
    assert kept == {2: "u1", 5: "u\n2", 7: "u3", 8: "u4", 9: "u5"}


def test_compression_is_told_by_the_bytes(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(gzip.compress(b"a,b\n"))
    assert first_line(path) == b"a,b"
    named = tmp_path / "y.csv.gz"
    named.write_bytes(b"a,b\n")
    assert first_line(named) == b"a,b"


@pytest.mark.parametrize(
    ("begin", "message"),
    [(b"PAR1", "Parquet"), (b"PK\x03\x04", "Excel workbook"), (b"\xd0\xcf\x11\xe0", "save")],
)
def test_files_that_are_no_text_say_what_to_do(tmp_path, begin, message):
    path = tmp_path / "x.csv"
    path.write_bytes(begin + b"x" * 50)
    with pytest.raises(ReplayError, match=message):
        first_line(path)
