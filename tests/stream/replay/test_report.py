import json

from stream.replay.adapter import Rejected
from stream.replay.report import Report


def test_counts_reasons_and_shows_the_first_lines():
    report = Report(entries=40, sent=10, beyond_limit=2, seconds=2)
    for line in range(1, 16):
        report.reject(Rejected(line, "blank line"))
    for line in range(20, 32):
        report.reject(Rejected(line, "no user", "invalid"))
    report.outside.add(39)
    assert report.unaccounted == 0
    values = json.loads(json.dumps(report.to_json()))
    assert values["unparsed"] == 15
    assert values["unparsed_reasons"] == {
        "blank line": {"count": 15, "lines": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}
    }
    assert (values["invalid"], values["outside"], values["outside_lines"]) == (12, 1, [39])
    assert values["events_per_second"] == 5


def test_nothing_sent_has_no_rate():
    assert Report().rate == 0
