import numpy as np
import pytest

from schemas.codec import decode_event, validate_key
from schemas.errors import InvalidEvent
from schemas.events import TYPE_NAMES, Purchase, Search
from stream.replay.report import Report
from stream.simulate import Faults, Plan, SimulateError, deliver, rows, simulate
from stream.simulate.faults import POISON_KINDS
from stream.simulate.wire import write_lines


@pytest.fixture(scope="module")
def shop():
    return simulate(Plan(users=200, events=20_000, start=1_704_067_200_000, seed=9))


def test_every_event_is_valid_synthetic_and_what_was_drawn(shop):
    made = list(rows(deliver(shop, Faults())))
    assert [row.sequence for row in made] == list(range(20_000))
    for place, row in enumerate(made):
        event = decode_event(row.value)
        validate_key(row.key, event.user_id)
        assert event.event_id == f"sim-9-{place}"
        assert event.event_time == row.time == shop.time[place]
        assert event.code == shop.kind[place]
        assert int(event.user_id[1:]) == shop.user[place]
        assert bytes(event.properties["synthetic"]) == b"true"
        if isinstance(event, Purchase):
            assert event.price == pytest.approx(shop.prices[shop.item[place]])
            assert event.quantity == shop.quantity[place]
        assert (event.item_id is None) == isinstance(event, Search)
    assert {TYPE_NAMES[kind] for kind in np.unique(shop.kind).tolist()} >= {"purchase", "cart_add"}


def test_repeats_have_equal_bytes(shop):
    delivery = deliver(shop, Faults(duplicates=0.2, disorder=0.1))
    seen = {}
    for event, row in zip(delivery.event.tolist(), rows(delivery), strict=True):
        assert seen.setdefault(event, row.value) == row.value
    assert len(seen) == 20_000


def test_poison_is_refused_for_the_reason_it_was_made_for(shop):
    delivery = deliver(shop, Faults(poison=0.1))
    refused = 0
    for kind, row in zip(delivery.poison.tolist(), rows(delivery), strict=True):
        if kind < 0:
            decode_event(row.value)
            continue
        with pytest.raises(InvalidEvent) as caught:
            validate_key(row.key, decode_event(row.value).user_id)
        assert caught.value.reason == POISON_KINDS[kind]
        refused += 1
    assert refused == 2_000


@pytest.mark.slow
def test_lines(shop, tmp_path):
    delivery = deliver(shop, Faults(poison=0.01), keyed=False)
    report = Report()
    write_lines(delivery, tmp_path / "x.jsonl", report)
    written = (tmp_path / "x.jsonl").read_bytes().splitlines()
    assert written == [row.value for row in rows(delivery)]
    assert report.sent == 20_200
    with pytest.raises(SimulateError, match="cannot write the events"):
        write_lines(delivery, tmp_path, report)
