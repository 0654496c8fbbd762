"""The demo's plan, and the events that it replays by it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoding import hash64
from schemas.codec import decode_event, encode
from schemas.events import Purchase
from stream.config.loading import load_settings
from stream.config.settings import ChurnSettings
from stream.config.targets import targets_of
from stream.demo import plan as planning
from stream.demo.errors import DemoError
from stream.demo.feed import Feed
from stream.demo.plan import BUNDLED, Thresholds, plan_bundled, plan_for, scaled
from stream.replay.report import Report

HOUR = 3_600_000
DAY = 24 * HOUR
T0 = 1_600_000_000_000
ROOT = Path(__file__).parents[2]


def lines(path: Path, times: list[int], users: int = 3) -> Path:
    events = (
        Purchase(event_id=f"e{n}", user_id=f"u{n % users}", event_time=time)
        for n, time in enumerate(times)
    )
    path.write_bytes(b"\n".join(encode(event) for event in events))
    return path


def test_the_bundled_plan_is_of_the_bundled_data():
    table = pq.read_table(BUNDLED, columns=["InvoiceDate", "CustomerID"])
    known = table.filter(pc.is_valid(table["CustomerID"]))["InvoiceDate"]
    found = pc.min_max(known.cast(pa.timestamp("ms")).cast(pa.int64())).as_py()
    plan = plan_bundled()
    assert (plan.since, plan.until - 1) == (found["min"], found["max"])
    assert plan.since < plan.cut < plan.until


@pytest.mark.slow
@given(st.integers(12 * HOUR, 4000 * DAY))
def test_every_plan_leaves_the_trainer_room_and_labels_time_to_mature(span):
    plan = scaled(Path("f"), "jsonl", T0, T0 + span)
    assert plan.cut - plan.since > 3.1 * plan.churn_horizon
    assert plan.until - plan.cut > 3.5 * plan.churn_horizon
    assert 0 < plan.purchase_horizon <= plan.churn_horizon
    assert targets_of(load_settings(overrides=plan.overrides())) == plan.targets()
    for refreshes in (1, 2, 5):
        ends = plan.milestones(refreshes)
        assert len(ends) == refreshes + 2
        assert ends[-1] == plan.until
        assert plan.cut < ends[0]
        assert ends == sorted(ends)


@given(st.floats(0.01, 0.99))
def test_thresholds_are_in_order_whatever_the_churn_rate(rate):
    found = Thresholds.of(rate)
    assert found.resolve_at < rate < found.raise_at
    ChurnSettings(**vars(found))


def test_a_plan_spans_the_events_and_not_a_few_stray_clocks(tmp_path):
    times = [T0 + n * HOUR for n in range(2000)]
    path = lines(tmp_path / "a.jsonl", [*times, T0 + 4000 * DAY, 1000])
    plan = plan_for(path, "jsonl")
    assert (plan.since, plan.until) == (times[0], times[-1] + 1)
    limited = plan_for(lines(tmp_path / "b.jsonl", times), "jsonl", limit=500)
    assert (limited.until, limited.limit) == (times[499] + 1, 500)


def test_too_little_data_is_refused(tmp_path):
    with pytest.raises(DemoError, match=r"spans 2\.0 h"):
        plan_for(lines(tmp_path / "short.jsonl", [T0, T0 + 2 * HOUR]), "jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DemoError, match="can be used: 0 lines read"):
        plan_for(tmp_path / "empty.jsonl", "jsonl")


def test_without_the_bundled_data_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(planning, "BUNDLED", tmp_path / "gone")
    with pytest.raises(DemoError, match="--data FILE"):
        plan_bundled()


def test_the_feed_gives_every_row_once_and_ties_in_history_order(tmp_path):
    times = [T0 + n // 50 * DAY for n in range(400)]
    path = lines(tmp_path / "ties.jsonl", times)
    plan = scaled(path, "jsonl", T0, T0 + 8 * DAY)
    feed = Feed(plan, Report())
    parts = [list(feed.before(T0 + n * DAY)) for n in (0, 3, 3, 8)]
    assert [len(part) for part in parts] == [0, 150, 0, 250]
    rows = [row for part in parts for row in part]
    keys = [(row.time, hash64(decode_event(row.value).event_id)) for row in rows]
    assert keys == sorted(keys)
    assert len({key[1] for key in keys}) == 400


def test_the_bundled_shop_is_lost_by_the_users_own_gaps():
    plan = plan_bundled()
    assert targets_of(load_settings(overrides=plan.overrides())) == plan.targets()
    assert plan.targets()[1].gaps > 0
    assert plan.period().own == plan.targets()[1]
