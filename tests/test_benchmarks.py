"""The benchmark itself, in seconds: no peers, no figures that count."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    bytes_held,
    correct,
    growth,
    latency,
    refresh,
    report,
    results,
    sizes,
    stages,
    throughput,
)
from benchmarks.contestants import ALO, EO, FAUST, KS_ALO_CACHE
from benchmarks.log import LogPlan, rows, users_of
from benchmarks.measures import Measure, at_least, at_most, judged
from benchmarks.part import Bench
from benchmarks.parts import PARTS
from benchmarks.place import Outputs, Place
from benchmarks.processes import Usage
from benchmarks.race import RaceFailed, Sample, finish
from schemas.codec import decode_event
from stream.simulate import Plan
from stream.simulate.plan import DAY_MS

TINY = replace(
    sizes.QUICK,
    events=4_000,
    users=400,
    rates=(200,),
    rate_s=1.0,
)


def test_the_log_has_every_user_and_grows_log_normal():
    plan = LogPlan(50_000, 5_000)
    users, counts = np.unique(users_of(plan), return_counts=True)
    assert len(users) == 5_000
    # Sigma 1.5: the mean is e^(9/8) = 3.08 times the median of what is drawn beyond the first.
    assert 2.0 < counts.mean() / np.median(counts) < 4.0
    assert np.array_equal(users_of(plan), users_of(plan))


def test_a_hot_user_sends_half():
    users = users_of(LogPlan(20_000, 2_000, hot_share=0.5))
    assert 0.48 < (users == 0).mean() < 0.53


def test_more_users_than_events_are_refused():
    with pytest.raises(ValueError, match="need as many events"):
        users_of(LogPlan(10, 11))


def test_the_log_is_valid_in_order_and_unique():
    events = [(row, decode_event(row.value)) for row in rows(LogPlan(2_000, 100), end_ms=10**12)]
    assert all(row.key == event.user_id.encode() for row, event in events)
    times = [event.event_time for _, event in events]
    assert times == sorted(times)
    assert max(times) < 10**12
    assert len({event.event_id for _, event in events}) == 2_000


def outputs(*counts: int) -> Outputs:
    return Outputs({p: np.arange(count) for p, count in enumerate(counts)}, [])


def sample(at: float, *ends: int) -> Sample:
    return Sample(at, dict(enumerate(ends)), Usage(10 * at, 1 << 20))


def test_what_came_before_the_first_look_does_not_count():
    samples = [sample(5, 100, 0), sample(6, 400, 100), sample(7, 500, 500), sample(8, 500, 501)]
    done = finish(samples, outputs(500, 500), 1_000, complete=True)
    # 501 is a transaction's marker: the last record was there a second before.
    assert (done.events, done.seconds, done.cpu_seconds) == (900, 2, 20)
    assert done.events_per_second == 450
    assert done.start_seconds == 5


def test_a_run_that_was_stopped_counts_what_it_did():
    done = finish([sample(1, 10), sample(3, 210)], outputs(230), 1_000, complete=False)
    assert (done.events, done.seconds, done.complete) == (200, 2, False)


def test_too_many_outputs_are_no_result():
    with pytest.raises(RaceFailed, match="1001 outputs for 1000"):
        finish([sample(1, 10), sample(3, 1001)], outputs(1001), 1_000, complete=False)


def test_verdicts_follow_the_direction():
    table = [at_least("a", "x", 2, ""), at_most("b", "s", 2, ""), Measure("c", "", "")]
    found = judged(table, {"a": 1, "b": 1, "c": 1, "unknown": 1})
    assert [row["ok"] for row in found] == [False, True, None]
    assert judged(table, {}) == []


def test_measures_have_names_of_their_own():
    names = [measure.name for part in PARTS.values() for measure in part.MEASURES]
    assert len(names) == len(set(names))


def test_stacks_are_told_apart_by_the_innermost_known_frame():
    stack = "run (stream/worker/worker.py:9);process (stream/pipeline/pipeline.py:7);"
    assert (
        stages.stage_of(f"{stack}_run (models/serving/scorer.py:1);gru (torch/nn.py:2)") == "model"
    )
    assert stages.stage_of(f"{stack}decode (stream/pipeline/ingest.py:4)") == "decode"
    assert stages.stage_of(f"{stack}UserTable.drain (stream/pipeline/state.py:4)") == "changelog"
    assert stages.stage_of(f"{stack}UserTable.rows (stream/pipeline/state.py:4)") == "state"
    assert stages.stage_of("main (x.py:1)") == stages.OTHER
    assert stages.stage_of("main (x.py:1);EpollSelector.select (selectors.py:4)") is None
    found = stages.shares([f"{stack}decode (stream/pipeline/ingest.py:4) 3", "main (x.py:1) 1", ""])
    assert found["decode"] == 0.75
    assert sum(found.values()) == 1


def test_latency_pairs_events_and_predictions_by_their_order():
    sent = {
        "sent_0": np.array([0, 10, 20]) * 1_000_000,
        "rate_0": np.array([0, 5, 5]),
        "sent_1": np.array([15]) * 1_000_000,
        "rate_1": np.array([5]),
    }
    received = {0: [9_000_000, 12_000_000, 24_000_000], 1: [18_000_000]}
    found = latency.percentiles(sent, received, 2)
    assert found["5"]["p50"] == 3.0
    assert found["5"]["events"] == 3


def run_of(name: str, rate: float) -> dict[str, object]:
    return {
        "contestant": name,
        "events_per_second": rate,
        "cpu_seconds_per_million": 1e6 / rate,
        "peak_rss_bytes": 1 << 20,
        "complete": True,
        "machine_busy": 0.01,
    }


def sitting() -> dict[str, object]:
    runs = [run_of(ALO, 100.0), run_of(KS_ALO_CACHE, 50.0), run_of(ALO, 300.0), run_of(FAUST, 4.0)]
    return {"runs": [*runs, run_of(ALO, 200.0), {"contestant": EO, "failed": "why"}]}


def test_ratios_are_those_of_medians_over_all_sittings():
    found = results.added({"raw": {}}, throughput.NAME, sitting())
    found = results.added(found, throughput.NAME, {"runs": [run_of(FAUST, 6.0)]})
    values = {row["name"]: row for row in found["measures"]}
    assert values["at_least_once_over_kafka_streams_cache"]["value"] == 4.0
    assert values["at_least_once_over_kafka_streams_cache"]["ok"]
    assert values["at_least_once_over_faust"]["value"] == 40.0
    assert "exactly_once_over_kafka_streams_cache" not in values
    assert found["contestants"][ALO]["events_per_second"] == [100.0, 300.0, 200.0]


def test_growth_may_be_left_out():
    assert not growth.cases(sizes.QUICK)
    assert not growth.values([{}], {bytes_held.MANY_USERS: 7.0})


def test_growth_compares_with_the_usual():
    raw = {name: [{"events_per_second": 10.0}] for name in growth.cases(sizes.FULL)}
    raw[growth.HOT] = [{"events_per_second": 5.0}, {"events_per_second": 6.0}]
    values = growth.values([raw], {bytes_held.MANY_USERS: 7.0})
    assert values[growth.MANY_RATIO] == 0.7
    assert values[growth.HOT_RATIO] == 0.55
    assert values["growth_64_partitions_over_usual"] == 1.0
    assert set(values) == {measure.name for measure in growth.MEASURES}


def test_the_page_says_what_falls_short(tmp_path):
    found = results.added({"raw": {}}, throughput.NAME, sitting())
    found |= {"machine": results.machine(), "sizes": vars(TINY)}
    text = report.page(found, ["throughput"])
    assert "| events/s over the Faust table agent | 50 x | at least 35 | reached |" in text
    assert "![throughput](benchmarks-throughput.png)" in text
    assert "100, 300, 200" in text
    found["measures"][0]["ok"] = False
    assert "**falls short**" in report.page(found, [])


def test_results_are_written_whole(tmp_path: Path):
    path = tmp_path / "bench.json"
    results.write({"raw": {}}, path)
    assert results.read(path) == {"raw": {}}
    assert results.read(tmp_path / "none.json") == {"raw": {}}
    assert json.loads(path.read_text()) == {"raw": {}}


@pytest.mark.full
@pytest.mark.kafka
def test_the_benchmarked_worker_equals_a_serial_run_and_answers_in_time(kafka):
    with Place.open(kafka.bootstrap_servers) as place:
        # So many that they are there in more than one look at the outputs.
        bench = Bench(place, replace(TINY, events=60_000))
        found = asyncio.run(correct.measure(bench, ["exactly_once"]))
        answered = asyncio.run(latency.measure(bench, ["at_least_once"]))
    assert found["events"] == 15_000
    assert set(correct.values([found], {}).values()) == {0}
    assert answered["at_least_once"]["200"]["events"] == 200
    assert answered["at_least_once"]["200"]["p50"] > 0


def test_what_is_refreshed_with_is_what_came_after_what_was_learnt(tmp_path: Path) -> None:
    plan = Plan(50, 2_000, refresh.START_MS, days=10)
    ends = [refresh.START_MS + 7 * DAY_MS, refresh.START_MS + 8 * DAY_MS, plan.end + 1]
    times = [
        [decode_event(line).event_time for line in path.read_bytes().splitlines()]
        for path in refresh.write_parts(plan, ends, tmp_path)
    ]
    assert sum(map(len, times)) == 2_000
    assert all(times)
    for part, begin, end in zip(times, [plan.start, *ends], ends, strict=False):
        assert begin <= min(part) <= max(part) < end
