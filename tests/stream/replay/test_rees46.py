import json

from schemas.events import CartRemove, View
from tests.stream.replay.files import reasons, replayed

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
)
FILE = f"""{HEADER}
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:01 UTC,remove_from_cart,1,2,electronics.phone,"a ""b"", c",,5,
2019-10-01 00:00:02 UTC,wish,1,2,,,1,5,
2019-10-01 00:00:03 UTC,purchase,1,2,,,cheap,5,
2019-10-01 00:00:04 UTC,purchase,1,2,,,-3.0,5,
2019-10-01 00:00:05 UTC,purchase,1,2,,,3.0,,
soon,purchase,1,2,,,3.0,5,
"""


def test_lines_become_events(tmp_path):
    path = tmp_path / "2019-Oct.csv"
    path.write_text(FILE)
    (view, remove), report = replayed(path, "rees46")
    assert isinstance(view, View)
    assert view.event_id == "rees46-2"
    assert view.event_time == 1_569_888_000_000
    assert (view.user_id, view.session_id) == ("541312140", "72d76fde")
    assert (view.item_id, view.category_id, view.price) == (
        "44600062",
        "2103807459595387724",
        35.79,
    )
    assert isinstance(remove, CartRemove)
    assert {key: json.loads(bytes(raw)) for key, raw in remove.properties.items()} == {
        "category_code": "electronics.phone",
        "brand": 'a "b", c',
    }
    assert (remove.session_id, remove.price) == (None, None)
    assert report.lines == 7
    assert reasons(report) == {
        "unparsed: unknown event_type": 1,
        "unparsed: price is not a number": 1,
        "invalid: out_of_range (price)": 1,
        "invalid: no user": 1,
        "unparsed: time is not a date": 1,
    }
    assert report.unparsed["time is not a date"].lines == [8]
