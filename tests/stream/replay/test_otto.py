from schemas.events import CartAdd, Purchase, View
from tests.stream.replay.files import reasons, replayed

FILE = b"""\
{"session":12,"events":[{"aid":59625,"ts":1661724000278,"type":"clicks"},{"aid":1,"ts":1661724000279,"type":"carts"},{"aid":1,"ts":1661724000270,"type":"orders"}]}
{"session":13,"events":[{"aid":1,"ts":1661724000001,"type":"likes"},{"aid":"x","ts":1,"type":"clicks"},{"aid":7,"ts":1661724000002,"type":"clicks"}]}
{"session":14,"events":[]}

{"session":15,"events":[{"aid":1,"ts":16617
"""


def test_a_session_becomes_its_events(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_bytes(FILE)
    events, report = replayed(path, "otto")
    assert [(event.event_id, type(event)) for event in events] == [
        ("otto-2-2", View),
        ("otto-1-2", Purchase),
        ("otto-1-0", View),
        ("otto-1-1", CartAdd),
    ]
    assert events[2].user_id == events[2].session_id == "12"
    assert events[2].item_id == "59625"
    assert (report.lines, report.entries) == (5, 9)
    assert reasons(report) == {
        "unparsed: unknown type": 1,
        "unparsed: no OTTO event": 1,
        "invalid: session without events": 1,
        "unparsed: blank line": 1,
        "unparsed: no OTTO session": 1,
    }


def test_file_order(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_bytes(FILE)
    events, _ = replayed(path, "otto", order="file")
    assert [event.event_id for event in events] == ["otto-1-0", "otto-1-1", "otto-1-2", "otto-2-2"]
