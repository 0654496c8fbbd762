import json

from schemas.events import CartAdd, Purchase, View
from tests.stream.replay.files import reasons, replayed

FILE = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433221332118,257597,addtocart,355908,
1433221332119,257597,transaction,355908,4000
1433221332120,257597,look,355908,
14332213321.20,257597,view,355908,
"""


def test_lines_become_events(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(FILE)
    events, report = replayed(path, "retailrocket")
    assert [type(event) for event in events] == [View, CartAdd, Purchase]
    bought = events[2]
    assert (bought.event_id, bought.event_time) == ("retailrocket-4", 1_433_221_332_119)
    assert bought.user_id == bought.anonymous_id == "257597"
    assert json.loads(bytes(bought.properties["transaction_id"])) == "4000"
    assert events[0].properties is None
    assert reasons(report) == {"unparsed: unknown event": 1, "unparsed: time is not a number": 1}
