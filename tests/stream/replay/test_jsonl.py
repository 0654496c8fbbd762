from stream.replay.report import Report
from stream.replay.source import read_rows
from tests.stream.replay.files import reasons, replayed

GOOD = (
    b'{ "type":"view", "event_id":"a", "user_id":"u\xc3\xa4", "event_time":1600000000000, "x":[1] }'
)
FILE = b"\n".join(
    [
        GOOD,
        b"",
        GOOD[:40],
        GOOD.replace(b"\xc3", b""),
        GOOD.replace(b'"a"', b"null"),
        GOOD.replace(b"view", b"stare"),
        GOOD + b" x",
        b"[" * 2000,
    ]
)


def test_good_lines_keep_their_bytes_and_bad_ones_are_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(FILE)
    (row,) = read_rows(path, "jsonl", Report())
    assert (row.time, row.key, row.value) == (1_600_000_000_000, "uä".encode(), GOOD)
    _, report = replayed(path, "jsonl")
    assert reasons(report) == {
        "unparsed: blank line": 1,
        "unparsed: truncated": 1,
        "unparsed: not_utf8": 1,
        "invalid: null_value (event_id)": 1,
        "invalid: unknown_type (type)": 1,
        "unparsed: malformed": 1,
        "invalid: too_deep": 1,
    }
