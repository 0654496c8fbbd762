"""Rankings and their truth: what counts, bounds, and that interleaving does not matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import pytest
import xxhash
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from models.ranking.judge import gain
from schemas.events import Event, Search, View
from schemas.outputs import Prediction
from stream.config.durations import DAY_MS
from stream.outcomes.ranking_history import MAX_EVENTS
from stream.outcomes.rankings import HELD, RankingJoiner
from tests.stream.outcomes.tools import ranking, rules

GRACE = 10
_IDS = count()


def joiner(**changes) -> RankingJoiner:
    return RankingJoiner(rules(**{"grace_ms": GRACE} | changes))


def view(time: int, category: str | None = None, item: str | None = None, name: str = "") -> Event:
    return View(
        event_id=name or f"e{next(_IDS)}",
        user_id="-",
        event_time=time,
        category_id=category,
        item_id=item,
    )


def told(found: RankingJoiner, what: str = "category", version: str | None = None) -> tuple:
    """(total, hit rate, NDCG, hit rate of the last one)."""
    figures = found.figures(what, version)
    if figures is None:
        return (0, 0.0, 0.0, 0.0)
    return (figures.total, figures.hit_rate, figures.ndcg, figures.last_hit_rate)


def test_a_ranking_meets_the_next_category_and_item():
    found = joiner()
    found.event("ann", view(5, "a", "x"))
    found.prediction(ranking("ann", 5, categories="bca", items="yx"))
    found.event("ann", view(7, "c", "x"))
    found.event("bob", view(18, "b", "y"))
    assert told(found, "category") == (1, 1, pytest.approx(gain(1)), 0)
    assert told(found, "item") == (1, 1, pytest.approx(gain(1)), 1)


def test_a_name_that_is_not_told_is_a_miss():
    found = joiner()
    found.prediction(ranking("ann", 5, categories="ab"))
    found.prediction(ranking("ann", 5, categories="", version="m2"))
    found.event("ann", view(7, "c"))
    found.event("bob", view(18))
    assert told(found) == (2, 0, 0, 0)


def test_each_is_judged_by_the_first_event_that_has_such_a_name():
    found = joiner()
    found.event("ann", view(5, "a", "x"))
    found.prediction(ranking("ann", 5, categories="b", items="y"))
    found.event("ann", Search(event_id="s", user_id="-", event_time=6, query="shoes"))
    found.event("ann", view(7, "b"))
    found.event("ann", view(8, "c", "y"))
    found.event("bob", view(100))
    assert told(found, "category") == (1, 1, 1, 0)
    assert told(found, "item") == (1, 1, 1, 0)


def test_the_last_one_is_of_the_newest_event_that_has_such_a_name():
    found = joiner()
    found.event("ann", view(4, "a"))
    found.event("ann", view(5, None, "x"))
    found.prediction(ranking("ann", 5, categories="b"))
    found.event("ann", view(7, "a"))
    found.event("bob", view(18))
    assert told(found) == (1, 0, 0, 1)


def test_lines_of_the_same_moment_are_no_truth():
    found = joiner()
    found.event("ann", view(5, "a"))
    found.prediction(ranking("ann", 5, categories="b"))
    found.event("ann", view(5, "b"))
    found.event("bob", view(100))
    assert told(found) == (0, 0, 0, 0)
    assert found.waiting == 1


def test_whoever_does_not_come_back_is_not_judged():
    found = joiner()
    found.event("ann", view(5, "a"))
    found.prediction(ranking("ann", 5, categories="b"))
    for day in range(1, 400):
        found.event("bob", view(day * DAY_MS, "b"))
    assert told(found) == (0, 0, 0, 0)
    found.event("ann", view(400 * DAY_MS, "b"))
    found.event("bob", view(401 * DAY_MS, "b"))
    assert told(found) == (1, 1, 1, 0)


def test_what_comes_out_of_order_within_the_grace_is_waited_for():
    found = joiner()
    found.prediction(ranking("ann", 5, categories="b"))
    found.event("ann", view(9, "c"))
    found.event("bob", view(15))
    found.event("ann", view(8, "b"))
    found.event("bob", view(18))
    assert told(found) == (0, 0, 0, 0)
    found.event("bob", view(19))
    assert told(found) == (1, 1, 1, 0)


def test_who_lags_behind_the_partition_is_judged_by_their_own_events():
    found = joiner()
    found.event("bob", view(9_000))
    for time, category in ((100, "a"), (200, "b"), (300, "c")):
        found.event("ann", view(time, category))
    found.prediction(ranking("ann", 100, categories="b"))
    found.prediction(ranking("ann", 200, categories="b"))
    assert told(found) == (2, 0.5, 0.5, 0)


def test_one_ranking_counts_per_user_moment_and_model():
    for late in (False, True):
        found = joiner()
        first = ranking("ann", 5, categories="b", offset=4)
        events = [("ann", view(7, "a")), ("bob", view(18))]
        for user, event in events if late else []:
            found.event(user, event)
        found.prediction(first)
        found.prediction(ranking("ann", 5, categories="ab", offset=6))
        found.prediction(ranking("ann", 5, categories="c", offset=5))
        found.prediction(ranking("ann", 5, categories="ca", offset=6, version="m2"))
        for user, event in events if not late else []:
            found.event(user, event)
        # At least once the same may come again.
        found.prediction(first)
        assert told(found, version="m1") == (1, 1, 1, 0)
        assert told(found, version="m2") == (1, 1, pytest.approx(gain(1)), 0)
        assert told(found) == (2, 1, pytest.approx((1 + gain(1)) / 2), 0)
        assert found.versions("category") == ["m1", "m2"]


def test_rankings_of_what_was_not_read_are_not_judged():
    found = joiner()
    found.event("bob", view(5), offset=10)
    found.prediction(ranking("ann", 3, categories="a", offset=9))
    found.prediction(ranking("ann", 4, categories="a", offset=10))
    found.event("ann", view(7, "a"), offset=11)
    found.event("bob", view(18), offset=12)
    assert told(found)[0] == 1


def test_moments_that_a_model_may_know_and_predictions_that_rank_nothing_do_not_count():
    found = joiner(since=6)
    found.prediction(ranking("ann", 5, categories="a"))
    found.prediction(ranking("ann", 6, items="x"))
    found.event("ann", view(7, "a", "x"))
    found.event("bob", view(18))
    assert told(found, "category") == (0, 0, 0, 0)
    assert told(found, "item") == (1, 1, 1, 0)


def test_partitions_have_clocks_of_their_own():
    found = joiner()
    found.prediction(ranking("ann", 5, categories="a", partition=1))
    found.event("ann", view(7, "a"), partition=1)
    found.event("bob", view(100), partition=0)
    assert told(found)[0] == 0
    found.event("cid", view(18), partition=1)
    assert told(found)[0] == 1


def test_a_window_rolls_and_models_beyond_the_last_few_are_forgotten():
    found = joiner(window=3, max_models=2)
    for step in range(6):
        found.prediction(ranking("ann", 100 * step, categories="a", version=f"m{step}"))
        found.event("ann", view(100 * step + 1, "a" if step > 2 else "b"))
    found.event("bob", view(1000))
    assert found.versions("category") == ["m4", "m5"]
    figures = found.figures("category")
    assert (figures.total, figures.judged, figures.hit_rate) == (6, 3, 1)


def test_events_read_far_ahead_are_known_up_to_a_bound():
    found = joiner()
    for step in range(MAX_EVENTS + 100):
        found.event("ann", view(100 * step, "ab"[step % 2]))
    for step in range(MAX_EVENTS + 100):
        found.prediction(ranking("ann", 100 * step, categories="ba"[step % 2]))
    found.event("bob", view(100 * (MAX_EVENTS + 100)))
    # The last one has no truth; of what is forgotten the newest is still known as the last.
    assert told(found) == (MAX_EVENTS, 1, 1, 0)
    assert found.waiting == 1


def test_memory_is_bounded_and_the_past_goes_first():
    found = joiner(max_pending=100)
    for step in range(4000):
        time = step * DAY_MS // 20
        found.event(f"u{step % 10}", view(time, "a"))
        found.prediction(ranking(f"u{step % 10}", time, categories="a"))
        assert found.held <= HELD * 100
    found.event("bob", view(201 * DAY_MS))
    assert found.sampled == 1
    # All but the last of each user.
    assert told(found) == (3990, 1, 1, 1)


def test_where_the_past_is_not_enough_whole_users_are_left_out():
    found = joiner(max_pending=100, max_users=50)
    for step in range(4000):
        found.event(f"u{step % 400}", view(step, "a"))
        found.prediction(ranking(f"u{step % 400}", step, categories="a"))
        assert found.held <= HELD * 100
    assert 0 < found.sampled < 1
    assert found.waiting <= 50
    total, *figures = told(found)
    assert 0 < total < 3600
    assert figures == [1, 1, 1]


@dataclass
class Log:
    """Events of two partitions in order of arrival, and what a worker says after each."""

    events: list[tuple[str, Event, int, int]] = field(default_factory=list)
    """(user, event, partition, offset)."""
    served: list[Prediction] = field(default_factory=list)
    shadow: list[Prediction] = field(default_factory=list)
    merge: list[int] = field(default_factory=list)
    """Which of the three is read from next; when these are used up, in turns."""

    def read(self, merge: list[int]) -> RankingJoiner:
        found = joiner()
        queues = [list(self.events), list(self.served), list(self.shadow)]
        for which in [*merge, *range(3), *([0, 1, 2] * len(self.events))]:
            if queues[which]:
                feed(found, queues[which].pop(0))
        for queue in queues:
            for message in queue:
                feed(found, message)
        return found


def feed(found: RankingJoiner, message) -> None:
    if isinstance(message, Prediction):
        found.prediction(message)
    else:
        found.event(*message)


NAMES = st.sampled_from([None, "a", "b", "c"])
RANKED = st.sampled_from(["ab", "bc", "ca", "b", None])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cid"]),
        st.integers(-2 * GRACE, 2 * GRACE),
        NAMES,
        NAMES,
        st.tuples(RANKED, RANKED),
        st.integers(0, 9),
    ),
    min_size=3,
    max_size=40,
)


@st.composite
def logs(draw) -> Log:
    """Some events come out of order, late or twice, some are not read, some predictions repeat."""
    log = Log(merge=draw(st.lists(st.integers(0, 2), max_size=120)))
    skipped, promoted = draw(st.integers(0, 5)), draw(st.integers(0, 40))
    clock, newest, sent, ends = 100, {}, [], [0, 0]
    for number, (whose, ahead, category, item, ranks, luck) in enumerate(draw(STEPS)):
        event = view(clock + ahead, category, item, f"e{number}")
        again = luck == 0 and sent
        user, event = sent[len(sent) // 2] if again else (whose, event)
        sent.append((user, event))
        partition = int(user == "cid")
        offset = ends[partition]
        ends[partition] += 1
        clock = max(clock, event.event_time)
        if offset >= skipped:
            log.events.append((user, event, partition, offset))
        if event.event_time < newest.get(user, 0) - GRACE:
            continue
        newest[user] = max(newest.get(user, 0), event.event_time)
        where = {"partition": partition, "offset": offset, "event_time": event.event_time}
        version = "m1" if number < promoted else "m2"
        log.served.append(ranking(user, newest[user], *ranks, version=version, **where))
        if number < promoted:
            log.shadow.append(ranking(user, newest[user], *ranks[::-1], version="m2", **where))
        if luck == 1:
            log.served += log.served[-3:]
    return log


def recounted(log: Log) -> dict[tuple[str, str], tuple]:
    """The figures by definition, one moment after the other; by what and version."""
    counts: dict[tuple[str, str], list[tuple]] = {}
    last: dict[tuple, Prediction] = {}
    for prediction in log.served + log.shadow:
        for what in ("category", "item"):
            ranks = prediction.next_categories if what == "category" else prediction.next_items
            key = (prediction.user_id, prediction.state_time, prediction.model_version, what)
            known = last.get(key)
            if ranks and (known is None or prediction.source.offset > known.source.offset):
                last[key] = prediction
    for (user, moment, version, what), prediction in last.items():
        around = truth_and_last(log, prediction, user, moment, f"{what}_id")
        if around is not None:
            truth, before = around
            ranks = prediction.next_categories if what == "category" else prediction.next_items
            names = [getattr(one, f"{what}_id") for one in ranks]
            worth = gain(names.index(truth)) if truth in names else 0.0
            row = (truth in names, worth, truth == before)
            counts.setdefault((what, version), []).append(row)
    return {
        key: (len(rows), *(sum(column) / len(rows) for column in zip(*rows, strict=True)))
        for key, rows in counts.items()
    }


def truth_and_last(log: Log, prediction: Prediction, user: str, moment: int, name: str):
    """What came next and what was there before, as soon as the first is known; None: never."""
    partition = prediction.source.partition
    mine = [entry for entry in log.events if entry[2] == partition]
    if not mine or prediction.source.offset < mine[0][3]:
        return None
    watermark, newest, known = 0, 0, {}
    for whose, event, _, _ in mine:
        watermark = max(watermark, event.event_time)
        if whose == user and event.event_time >= newest - GRACE:
            newest = max(newest, event.event_time)
            if getattr(event, name) is not None:
                known.setdefault(event.event_id, event)
        ordered = sorted(known.values(), key=order)
        later = [one for one in ordered if one.event_time > moment]
        earlier = [one for one in ordered if one.event_time <= moment]
        if later and watermark > later[0].event_time + GRACE:
            return getattr(later[0], name), getattr(earlier[-1], name) if earlier else None
    return None


def order(event: Event) -> tuple[int, int]:
    return event.event_time, xxhash.xxh3_64_intdigest(event.event_id.encode())


@pytest.mark.slow
@tried(max_examples=300)
@given(logs())
def test_how_the_streams_interleave_does_not_matter_and_a_plain_recount_agrees(log: Log) -> None:
    wanted = recounted(log)
    for merge in (log.merge, [0] * len(log.events), [1] * len(log.served), [2, 1, 0] * 99):
        found = log.read(merge)
        for what in ("category", "item"):
            for version in ("m1", "m2"):
                expected = wanted.get((what, version), (0, 0.0, 0.0, 0.0))
                assert told(found, what, version) == pytest.approx(expected)
            total = sum(wanted.get((what, version), (0,))[0] for version in ("m1", "m2"))
            assert told(found, what)[0] == total
