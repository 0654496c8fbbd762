"""What real streams suffer from, in known numbers: duplicates, disorder, late, broken records."""

from collections import Counter
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from stream.simulate.plan import SimulateError
from stream.simulate.shop import Ints, Shop

__all__ = ["KEY_KINDS", "POISON_KINDS", "Delivery", "Faults", "deliver"]

POISON_KINDS: Final = (
    "truncated",
    "not_utf8",
    "not_a_number",
    "missing_field",
    "wrong_type",
    "unknown_type",
    "null_value",
    "key_missing",
    "key_mismatch",
)
"""Each is the `Reason` for which a worker refuses the record."""
KEY_KINDS: Final = 2
"""The last kinds of `POISON_KINDS` are wrong in the record key; a file has none."""


@dataclass(frozen=True)
class Faults:
    """Shares of the number of events, and times in milliseconds.

    Attributes:
        duplicates: records sent a second time, within `disorder_ms` of the first.
        disorder: events delayed by up to `disorder_ms`: within the grace of a default worker.
        late: events delayed by one to two times `late_ms`.
        poison: records in addition that are no valid event.
        disorder_ms: greatest delay of the disordered.
        late_ms: least delay of the late.
    """

    duplicates: float = 0.0
    disorder: float = 0.0
    late: float = 0.0
    poison: float = 0.0
    disorder_ms: int = 300_000
    late_ms: int = 3_600_000

    def __post_init__(self) -> None:
        """Refuse shares outside 0..1 and times that are not positive.

        Raises:
            SimulateError: names the value.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_ms"):
                good, range_ = value > 0, "positive"
            else:
                good, range_ = 0 <= value <= 1, "between 0 and 1"
            if not good:
                raise SimulateError(f"{field.name} must be {range_}, but is {value}")


@dataclass(frozen=True)
class Delivery:
    """R records in the order of sending; the arrays have shape [R].

    Attributes:
        shop: the events.
        time: when each is sent, in milliseconds of the simulated time.
        event: index of the event in the shop; poison is made from one.
        poison: -1, or index of the kind in `POISON_KINDS`.
        duplicates: number of repeated records.
    """

    shop: Shop
    time: Ints
    event: Ints
    poison: npt.NDArray[np.int8]
    duplicates: int

    def poisoned(self) -> dict[str, int]:
        """Return how many records there are of each kind of poison."""
        counts = Counter(self.poison[self.poison >= 0].tolist())
        return {POISON_KINDS[kind]: counts[kind] for kind in sorted(counts)}

    def late(self, grace_ms: int) -> int:
        """Count good records older than their user's latest event before them by more than grace.

        What a worker calls late, but for purchases and refunds within `state.correction_ms`, which
        count as of when they came.
        """
        good = self.event[self.poison < 0]
        user = self.shop.user[good]
        order = np.argsort(user, kind="stable")
        user = user[order]
        time = self.shop.time[good][order] - self.shop.time.min()
        # Lifting each user above the one before makes one running maximum do for all.
        lift = user * (int(time.max(initial=0)) + grace_ms + 2)
        latest = np.maximum.accumulate(time + lift)
        behind = (latest[:-1] - lift[1:]) - time[1:]
        return int(np.sum((user[1:] == user[:-1]) & (behind > grace_ms)))


def deliver(shop: Shop, faults: Faults, *, keyed: bool = True) -> Delivery:
    """Decide what is sent when.

    Args:
        shop: its events are each sent at their own time, unless a fault delays them.
        faults: their shares.
        keyed: whether records have a key, so that poison may be in it.
    """
    plan = shop.truth.plan
    random = np.random.default_rng([plan.seed, 2])
    events = len(shop.time)
    everyone = np.arange(events)
    draw = random.random(events)
    late = draw < faults.late
    disordered = (draw >= faults.late) & (draw < faults.late + faults.disorder)
    delay = np.where(disordered, random.integers(0, faults.disorder_ms + 1, events), 0)
    delay = np.where(late, random.integers(faults.late_ms, 2 * faults.late_ms + 1, events), delay)
    sent = shop.time + delay
    # A repeat of a late record would be late again, not a duplicate.
    again = everyone[~late & (random.random(events) < faults.duplicates)]
    poison_count = round(faults.poison * events)
    broken = random.integers(0, events, poison_count)
    kinds = len(POISON_KINDS) if keyed else len(POISON_KINDS) - KEY_KINDS
    time = np.concatenate(
        [
            sent,
            sent[again] + random.integers(1, faults.disorder_ms + 1, len(again)),
            shop.time[broken],
        ]
    )
    order = np.argsort(time, kind="stable")
    poison = np.full(len(time), -1, np.int8)
    poison[len(time) - poison_count :] = np.arange(poison_count) % kinds
    return Delivery(
        shop=shop,
        time=time[order],
        event=np.concatenate([everyone, again, broken])[order],
        poison=poison[order],
        duplicates=len(again),
    )
