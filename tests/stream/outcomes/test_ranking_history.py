"""What was there at a moment of a user, and what came next."""

from __future__ import annotations

from models.encoding import hash64
from schemas.events import Event, Search, View
from stream.outcomes.ranking_history import RankingHistory

GRACE = 10


def view(time: int, category: str | None = "a", item: str | None = None, name: str = "") -> Event:
    return View(
        event_id=name or f"{time}-{category}-{item}",
        user_id="ann",
        event_time=time,
        category_id=category,
        item_id=item,
    )


def history(*events: Event) -> RankingHistory:
    """Of events that come while nobody else's do."""
    found, watermark = RankingHistory(), 0
    for event in events:
        found.add(event, watermark, GRACE)
        watermark = max(watermark, event.event_time)
    return found


def around(found: RankingHistory, time: int, what: str = "category") -> tuple[str, str]:
    """What was last, and what came first; "-" for nothing."""
    at = found.find(what, time, GRACE)
    assert at is not None
    return tuple(seen.names[what] if seen else "-" for seen in (at.last, at.first))


def test_the_moment_itself_is_not_after_it():
    found = history(view(5, "a"), view(6, "b"), view(8, "c"))
    assert around(found, 4) == ("-", "a")
    assert around(found, 5) == ("a", "b")
    assert around(found, 6) == ("b", "c")
    assert around(found, 8) == ("c", "-")


def test_events_without_such_a_name_are_passed_over():
    search = Search(event_id="s", user_id="ann", event_time=6, query="shoes")
    found = history(view(5, "a", "x"), search, view(7, "b"), view(8, None, "y"))
    assert around(found, 5) == ("a", "b")
    assert around(found, 7, "item") == ("x", "y")
    assert len(found) == 3


def test_events_of_the_same_time_are_in_the_order_of_their_ids():
    one, two = sorted((view(7, "b"), view(7, "c")), key=lambda event: hash64(event.event_id))
    for events in ((one, two), (two, one)):
        found = history(view(5, "a"), *events, view(9, "d"))
        assert around(found, 5) == ("a", one.category_id)
        assert around(found, 7) == (two.category_id, "d")


def test_out_of_order_within_the_grace_is_in_its_place():
    found = history(view(5, "a"), view(9, "c"), view(7, "b"))
    assert around(found, 5) == ("a", "b")
    assert around(found, 8) == ("b", "c")


def test_what_is_late_is_left_out():
    found = history(view(20, "b"), view(9, "a"), view(31, "c"))
    assert len(found) == 2
    assert around(found, 8) == ("-", "b")


def test_a_search_makes_others_late_too():
    search = Search(event_id="s", user_id="ann", event_time=30, query="shoes")
    found = history(search, view(19, "a"))
    assert len(found) == 0


def test_a_duplicate_changes_nothing():
    found = history(view(5, "a", name="1"), view(7, "b", name="2"), view(6, "c", name="2"))
    assert len(found) == 2
    assert around(found, 5) == ("a", "b")


def test_what_comes_after_a_truth_was_known_does_not_change_it():
    found = RankingHistory()
    found.add(view(5, "a"), 0, GRACE)
    found.add(view(9, "c"), 5, GRACE)
    # With the partition at 19, 9 is not more than the grace behind it, but 8 is.
    found.add(view(8, "b"), 19, GRACE)
    assert around(found, 5) == ("a", "b")
    found.add(view(7, "d"), 19, GRACE)
    assert around(found, 5) == ("a", "b")


def test_what_is_forgotten_is_not_guessed():
    found = history(view(5, "a"), view(6, "b", "x"), view(8, "c"), view(9, "d"))
    for _ in range(3):
        found.forget()
    assert around(found, 8) == ("c", "d")
    assert found.find("category", 7, GRACE) is None
    # No item has been forgotten that came later.
    assert around(found, 6, "item") == ("x", "-")
    assert found.find("item", 5, GRACE) is None


def test_events_that_came_first_are_forgotten_up_to_a_time():
    found = history(view(5, "a"), view(6, "b"), view(8, "c"))
    found.forget_before(8)
    assert len(found) == 1
    assert around(found, 6) == ("b", "c")
