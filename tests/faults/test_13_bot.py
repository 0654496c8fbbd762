"""A program sends as many events as all customers together: nobody else waits much longer.

Slices with and without it alternate in one run, so that whatever else the machine does is in both.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from schemas.codec import decode_event
from schemas.events import Event, Purchase, View
from schemas.outputs import ChurnAlert, Prediction
from tests.e2e.oracle import judge
from tests.e2e.shop import publish
from tests.e2e.world import World
from tests.faults.ledger import FaultRow, Scale
from tests.faults.traffic import Traffic
from tests.faults.watching import Footprint, percentile, subscribed
from tests.logs import START
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.kafka
ROW, NAME = 13, "one user sends 50 % of all events"

BOT = "bot"
BOUND = 300
"""Events per session from which a user is taken for a program."""
MIB = 1 << 20
SLICES = 6
"""Half of them with the program."""


def slices(rng: random.Random, per_slice: int) -> list[list[Event]]:
    """Customers in every slice; in every second one also the program, as many times."""
    found: list[list[Event]] = []
    time_ms = START
    for number in range(SLICES):
        with_bot = number % 2
        events: list[Event] = []
        for place in range(per_slice * (1 + with_bot)):
            time_ms += 20
            user = BOT if with_bot and place % 2 else f"user-{rng.randrange(2000)}"
            kind = rng.choice([View, View, View, Purchase])
            item = f"item-{rng.randrange(500)}"
            events.append(
                kind(
                    event_id=f"{number}-{place}",
                    user_id=user,
                    event_time=time_ms,
                    item_id=item,
                    price=5.0,
                )
            )
        found.append(events)
    return found


def waits(world: World, seen: dict[tuple[int, int], float]) -> dict[tuple[bool, bool], list[float]]:
    """(was the program on, does the customer share its partition) -> ms until readable, sorted."""
    log = world.raw(world.settings.topics.events)
    events = [(record, decode_event(record.value)) for record in log]
    home = {record.partition for record, event in events if event.user_id == BOT}
    found: dict[tuple[bool, bool], list[float]] = {}
    for record, event in events:
        if event.user_id != BOT and not event.event_id.startswith("w"):
            on = bool(int(event.event_id.partition("-")[0]) % 2)
            wait = seen[record.partition, record.offset] - record.timestamp
            found.setdefault((on, record.partition in home), []).append(wait)
    return {group: sorted(values) for group, values in found.items()}


def test_the_others_wait_hardly_longer_and_the_program_is_known(
    world: Callable[..., World],
    fault_row: FaultRow,
    scale: Scale,
    rng: random.Random,
) -> None:
    rate, seconds = scale(150, 1000), scale(4, 20)
    shop = world(
        worker={"clock": "event", "emit": "every"},
        state={"bot_session_events": BOUND},
        churn={
            "prior_gap_ms": 86_400_000,
            "tick_ms": 3_600_000,
            "raise_at": 0.05,
            "raise_untrained": True,
            "resolve_at": 0.01,
        },
    )
    scorer = publish(shop)
    parts = slices(rng, rate * seconds)
    with fault_row.attempt() as attempt, subscribed(shop) as subscriber:
        worker = shop.start_worker()
        warm = [View(event_id=f"w-{n}", user_id=f"user-{n}", event_time=START) for n in range(100)]
        sent = send(shop, warm, 200, 0)
        shop.wait_committed(sent)
        footprints = []
        lags = []
        for number, part in enumerate(parts):
            sent = send(shop, part, rate * (1 + number % 2), sent)
            lags.append(sent - shop.committed())
            shop.wait_committed(sent)
            footprints.append(Footprint.of(worker, shop))
        deadline = time.monotonic() + PATIENCE_S
        while len(subscriber.seen) < sent and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.stop()
        verdict, _ = judge(shop, scorer)
        attempt.lost, attempt.duplicated = verdict.lost, verdict.duplicated
        assert not verdict.wrong, verdict.wrong

        found = waits(shop, subscriber.seen)
        together = [sorted(found[on, True] + found[on, False]) for on in (False, True)]
        without, with_bot = (percentile(values, 0.99) for values in together)
        neighbours = percentile(found[True, True], 0.99)
        growth = (footprints[-1].resident - footprints[1].resident) / MIB
        told = (
            f"p99 of the others {without:.0f} ms, with the program {with_bot:.0f} ms (in its own"
            f" partition {neighbours:.0f} ms); lag at most {max(lags)} of {2 * rate} a second;"
            f" memory {growth:+.0f} MiB"
        )
        attempt.note(told)
        # A short part has few events, and whatever else the machine does shows in their p99.
        assert with_bot <= 2 * without + scale(150, 0), told
        assert max(lags) <= 2 * rate * 2, told
        assert growth < 64, told

    marks = [
        p.automated
        for p in sorted(
            (p for p in shop.read(shop.settings.topics.propensity, Prediction) if p.user_id == BOT),
            key=lambda p: p.source.offset,
        )
    ]
    assert marks == [False] * BOUND + [True] * (len(marks) - BOUND)
    assert BOT not in {alert.user_id for alert in shop.read(shop.settings.topics.churn, ChurnAlert)}


def send(shop: World, events: list[Event], per_second: int, sent: int) -> int:
    """Send all of them at that rate; return how many the topic has then."""
    with Traffic(shop, events, per_second) as traffic:
        while traffic.sent < len(events):
            time.sleep(0.02)
    return sent + len(events)
