from collections import Counter

import pytest

from schemas.events import CartAdd, Favourite, Purchase, View
from tests.stream.replay.files import TAOBAO, needs_taobao, reasons, replayed

pytestmark = pytest.mark.slow

SINCE, UNTIL = 1_511_539_200_000, 1_512_316_800_000


def test_lines_become_events(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "1,2,3,pv,1511544070\n1,2,3,cart,1511544071\n1,2,3,fav,1511544072\n1,,,buy,1511544073\n"
        "1,2,3,pv,-5\n1,2,3,sell,1511544074\n,2,3,pv,1511544075\n1,2,3,pv,now\n1,2,3,pv"
    )
    events, report = replayed(path, "taobao")
    assert events == [
        View(event_id="taobao-1", user_id="1", event_time=1_511_544_070_000, **IDS),
        CartAdd(event_id="taobao-2", user_id="1", event_time=1_511_544_071_000, **IDS),
        Favourite(event_id="taobao-3", user_id="1", event_time=1_511_544_072_000, **IDS),
        Purchase(event_id="taobao-4", user_id="1", event_time=1_511_544_073_000),
    ]
    assert reasons(report) == {
        "invalid: out_of_range (event_time)": 1,
        "unparsed: unknown behaviour": 1,
        "invalid: no user": 1,
        "unparsed: time is not a number": 1,
        "unparsed: 5 columns expected": 1,
    }


IDS = {"item_id": "2", "category_id": "3"}


@needs_taobao
def test_real_file_is_accounted_for_to_the_line():
    events, report = replayed(TAOBAO, "taobao", since=SINCE, until=UNTIL)
    assert (report.lines, report.sent, report.outside.count) == (84_476, 84_440, 35)
    assert reasons(report) == {"unparsed: 5 columns expected": 1}
    assert report.unparsed["5 columns expected"].lines == [84_476]
    assert len({event.user_id for event in events}) == 815
    in_file, _ = replayed(TAOBAO, "taobao", since=SINCE, until=UNTIL, order="file")
    assert {event.event_id: event for event in in_file} == {e.event_id: e for e in events}
    everything, _ = replayed(TAOBAO, "taobao")
    kinds = Counter(type(event).__name__ for event in everything)
    assert kinds == {"View": 75_873 - 1, "CartAdd": 4_497, "Favourite": 2_356, "Purchase": 1_750}
