"""Shops with years of history, as records of one partition."""

from __future__ import annotations

from collections.abc import Sequence

from models.serving.scorer import Scorer
from schemas.codec import encode
from schemas.events import Event, Purchase, View
from stream.config.durations import DAY_MS, MINUTE_MS
from stream.config.settings import Settings
from stream.testing import PipelineDriver
from tests.logs import START, TARGETS

NOW = START + 1_800 * DAY_MS
"""Five years after the beginning of the history."""
ALERTING: dict[str, object] = {
    "gap_factor": 1.0,
    "recheck_factor": 1.1,
    "raise_at": 0.3,
    "resolve_at": 0.1,
    "escalate_at": 0.4,
    "raise_untrained": True,
}
Piped = tuple[bytes, bytes, int]


def shop(**changes: dict[str, object]) -> PipelineDriver:
    sections: dict[str, dict[str, object]] = {"churn": ALERTING}
    for name, section in changes.items():
        sections[name] = {**sections.get(name, {}), **section}
    return PipelineDriver(Scorer.rhythm(TARGETS), Settings(**sections))


def at(event: Event, stamp: int) -> Piped:
    return event.user_id.encode(), encode(event), stamp


def purchases(users: int, first: int, days: Sequence[int], prefix: str = "u") -> list[Event]:
    """Each user buys once on each day, at a time of their own."""
    return [
        Purchase(
            event_id=f"{prefix}{user}-{day}",
            user_id=f"{prefix}{user}",
            event_time=first + day * DAY_MS + user * MINUTE_MS,
            price=10.0,
        )
        for day in days
        for user in range(users)
    ]


def history(stamp: int = NOW, first: int = START) -> list[Piped]:
    """40 customers x 20 purchases, loaded within seconds."""
    log = purchases(40, first, range(0, 140, 7))
    return [at(event, stamp + i) for i, event in enumerate(log)]


def view(user: str, time: int, stamp: int | None = None) -> Piped:
    event = View(event_id=f"view-{user}-{time}", user_id=user, event_time=time)
    return at(event, time if stamp is None else stamp)


def untouched(driver: PipelineDriver, users: int = 40) -> None:
    """No alert was raised and nobody of the history is gone."""
    assert driver.alerts() == []
    records = driver.records()
    assert [int(records[f"u{user}"]["n"]) for user in range(users)] == [20] * users


def passing(driver: PipelineDriver, begin: int, days: int) -> None:
    """The wall clock goes on, with restarts."""
    for day in range(days):
        driver.advance(begin + day * DAY_MS)
        if day % 3 == 0:
            driver.restart()
