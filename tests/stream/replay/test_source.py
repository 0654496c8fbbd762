import json

import pytest

from stream.replay.errors import ReplayError
from stream.replay.formats import FORMATS, adapter_of
from stream.replay.report import Report
from stream.replay.source import parse_moment, read_events, read_rows
from tests.stream.replay.files import reasons, replayed

NEEDED = "milliseconds since 1970 are needed"
BASE = 1_600_000_000
FILE = "".join(
    f"u{n % 3},{n},c,pv,{BASE + time}\n" for n, time in enumerate([500, 300, 400, 300, 100])
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(FILE)
    return path


def ids(events):
    return [event.event_id.removeprefix("taobao-") for event in events]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1511539200", 1_511_539_200_000),
        ("1511539200.5", 1_511_539_200_500),
        ("1511539200000", 1_511_539_200_000),
        ("2017-11-24T16:00:00", 1_511_539_200_000),
        ("2017-11-25T00:00:00+08:00", 1_511_539_200_000),
        ("2017-11-24", 1_511_481_600_000),
    ],
)
def test_moments(text, ms):
    assert parse_moment(text) == ms


@pytest.mark.parametrize("text", ["", "then", "1e15", "nan", "inf"])
def test_no_moments(text):
    with pytest.raises(ReplayError, match="is no time"):
        parse_moment(text)


def test_order_ties_and_stable_ids(path):
    assert ids(replayed(path, "taobao")[0]) == ["5", "2", "4", "3", "1"]
    assert ids(replayed(path, "taobao", order="file")[0]) == ["1", "2", "3", "4", "5"]
    assert ids(replayed(path, "taobao", memory_bytes=1)[0]) == ["5", "2", "4", "3", "1"]
    assert ids(read_events(path, "taobao")) == ["5", "2", "4", "3", "1"]


def test_window_is_half_open(path):
    events, report = replayed(path, "taobao", since=(BASE + 300) * 1000, until=(BASE + 500) * 1000)
    assert ids(events) == ["2", "4", "3"]
    assert (report.outside.count, report.outside.lines) == (2, [1, 5])
    assert ids(read_events(path, "taobao", order="file", since=(BASE + 400) * 1000)) == ["1", "3"]


def test_limit(path):
    events, report = replayed(path, "taobao", limit=2)
    assert ids(events) == ["5", "2"]
    assert (report.lines, report.beyond_limit) == (5, 3)
    events, report = replayed(path, "taobao", order="file", limit=2)
    assert ids(events) == ["1", "2"]
    assert report.lines == 2  # the rest was not read
    events, report = replayed(path, "taobao", limit=100)
    assert (len(events), report.beyond_limit) == (5, 0)


def test_reading_stops_when_asked(path):
    report = Report()
    rows = read_rows(path, "taobao", report, order="file")
    next(rows)
    report.interrupted = True
    assert list(rows) == []


def test_unknown_format_and_missing_file(tmp_path):
    with pytest.raises(ReplayError, match="choose from taobao, rees46"):
        read_rows(tmp_path, "csv", Report())
    with pytest.raises(ReplayError, match="no such file"):
        read_rows(tmp_path / "x", "taobao", Report())
    assert all(adapter_of(name).name == name for name in FORMATS)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (BASE, f"event_time looks like seconds; {NEEDED}"),
        (BASE // 86_400, f"event_time looks like days; {NEEDED}"),
        (
            BASE * 1_000_000,
            f"out_of_range (event_time): looks like microseconds; {NEEDED}",
        ),
        (1, "event_time before 1990-01-01"),
        ("2020-09-13", "wrong_type (event_time): an integer of milliseconds since 1970 is needed"),
    ],
)
def test_times_in_another_unit_name_the_unit(tmp_path, time, reason):
    path = tmp_path / "events.jsonl"
    line = {"type": "view", "event_id": "e", "user_id": "u", "event_time": time}
    path.write_text(json.dumps(line) + "\n")
    events, report = replayed(path, "jsonl")
    assert events == []
    assert reasons(report) == {f"invalid: {reason}": 1}
    assert report.why_nothing() == (
        f"no event of {path} can be used: 1 lines read: 1 {reason} (line 1)"
    )


def test_ids_that_are_numbers_name_the_field(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "view", "event_id": "e", "user_id": 7, "event_time": 5}\n')
    _, report = replayed(path, "jsonl")
    assert reasons(report) == {"invalid: wrong_type (user_id): an id is text, in quotes": 1}
