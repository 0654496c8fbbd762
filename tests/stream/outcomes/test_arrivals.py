"""What is late for a worker is late for outcomes, and what it corrects counts as of then."""

from __future__ import annotations

from models.history import PURCHASE, REFUND
from stream.outcomes.arrivals import Arrivals

VIEW = 1
HOUR = 3_600_000
NOW = 1_700_000_000_000


def test_late_events_are_judged_as_in_the_worker() -> None:
    arrivals = Arrivals(grace_ms=600_000, correction_ms=24 * HOUR, max_users=10)
    assert arrivals.taken("ann", NOW, VIEW) == NOW
    assert arrivals.taken("ann", NOW - 600_000, VIEW) == NOW - 600_000
    assert arrivals.taken("ann", NOW - 600_001, VIEW) is None
    assert arrivals.taken("ann", NOW - 2 * HOUR, PURCHASE) == NOW
    assert arrivals.taken("ann", NOW - 2 * HOUR, REFUND) == NOW
    assert arrivals.taken("ann", NOW - 25 * HOUR, PURCHASE) is None
    assert arrivals.taken("bob", NOW - 25 * HOUR, PURCHASE) == NOW - 25 * HOUR


def test_as_many_users_are_known_as_are_allowed() -> None:
    arrivals = Arrivals(grace_ms=0, correction_ms=0, max_users=2)
    for user in ("ann", "bob", "ann", "eve"):
        arrivals.taken(user, NOW, VIEW)
    assert arrivals.taken("ann", NOW - 1, VIEW) is None
    assert arrivals.taken("bob", NOW - 1, VIEW) == NOW - 1


def test_live_events_do_not_make_loaded_history_late() -> None:
    arrivals = Arrivals(grace_ms=600_000, correction_ms=HOUR, max_users=10)
    assert arrivals.taken("ann", NOW, VIEW) == NOW
    for days in (90, 60, 30):
        time = NOW - 24 * days * HOUR
        assert arrivals.taken("ann", time, PURCHASE, loaded=True) == time
    assert arrivals.taken("ann", NOW - 24 * 60 * HOUR, VIEW, loaded=True) is None
    assert arrivals.taken("ann", NOW - 24 * 20 * HOUR, VIEW) is None
    assert arrivals.taken("ann", NOW + HOUR, VIEW) == NOW + HOUR
