"""What one commit has to make durable, messages up to then, and the partition's own record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.money import Amounts
from schemas.events import TYPE_NAMES
from stream.pipeline.clocks import ClockState
from stream.pipeline.packed import Messages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64
    from stream.config.settings import TopicSettings
    from stream.pipeline.event_times import Skews
    from stream.pipeline.packed import Message, Packed

Outputs = dict[str, Messages]
"""Topic -> messages in order."""
OUTPUT_KINDS: Final = ("late", "dead_letter", "propensity", "shadow", "churn", "erased")
"""Fields of `TopicSettings` that name the topics a partition writes to, beside its changelog."""


def output_topics(topics: TopicSettings) -> dict[str, str]:
    """Kind of output -> its topic."""
    return {kind: getattr(topics, kind) for kind in OUTPUT_KINDS}


class Gathered:
    """Messages in the order in which they came to be, until they are taken."""

    def __init__(self, topics: TopicSettings) -> None:
        """Hold none; ``topics`` names where each kind goes."""
        self._topics = output_topics(topics)
        self._outputs: Outputs = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._outputs)

    def put(self, kind: str, messages: list[Message] | Packed) -> None:
        """Add messages of a kind, which is one of `OUTPUT_KINDS`."""
        if messages:
            self._outputs.setdefault(self._topics[kind], Messages()).extend(messages)

    def take(self) -> Outputs:
        """Return them all, by topic, and hold none."""
        outputs, self._outputs = self._outputs, {}
        return outputs


@dataclass(frozen=True, slots=True)
class Outbox:
    """Everything since the last drain; all of it for partition number = the source's."""

    outputs: Outputs
    changelog: list[tuple[bytes, bytes | None]]
    """Stored key -> record, None for a tombstone; the partition's own record last."""
    timers: list[tuple[bytes, int | None, int | None]]
    """(stored key, due in the index until now, due from now on), ms."""
    next_offset: int | None
    """Source offset to commit (last consumed + 1), None = unchanged."""
    records: int
    """Source records covered."""
    misplaced: int = 0
    """Of these, how many lie in another partition than their key belongs to."""
    erased: tuple[bytes, ...] = ()
    """Stored keys of users who were erased."""


class Counters(msgspec.Struct, gc=False):
    """Totals of a partition: consumed = accepted + duplicate + late + invalid."""

    consumed: int = 0
    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    invalid: int = 0
    predictions: int = 0
    alerts: int = 0
    erased: int = 0
    """Requests to forget a user that were carried out."""
    lost: int = 0
    """Offsets of the source that retention deleted before they were read."""
    overflow: int = 0
    """Of the late events those within the grace, before all that is kept of a crowded user."""
    ahead: int = 0
    """Events that count as of their Kafka timestamp, as their own time was too far ahead of it."""
    behind: int = 0
    """Events that reached the broker hours after their time, see `Skews.behind`."""
    offsets: dict[int, int] = {}
    """Events whose time is off by a time zone, see `Skews.offsets`; replaced when it changes."""
    skewed: dict[str, int] = {}
    """Type -> events that are ahead or behind: the producers of a shop send different types;
    replaced when it changes."""
    skewed_at: int = -1
    """Source offset of the last one of these: its record tells who sent it."""
    currencies: dict[str, int] = {}
    """Events with an amount by currency, see `Amounts.foreign`; replaced when it changes."""
    unpriced: dict[str, int] = {}
    """Events whose amount does not count, by currency, see `Amounts.unpriced`; likewise."""

    def add_amounts(self, amounts: Amounts) -> None:
        """Count more events with amounts in other currencies."""
        known = Amounts(self.currencies, self.unpriced)
        known.add(amounts)
        self.currencies, self.unpriced = known.foreign, known.unpriced

    def add_skews(self, skews: Skews, kinds: NDArray[np.uint8], offsets: I64) -> None:
        """Count more events with wrong clocks, of N events of some types at some offsets."""
        if len(skews.places):
            seen = self.skewed.copy()
            counts = np.bincount(kinds[skews.places])
            for kind in np.flatnonzero(counts).tolist():
                name = TYPE_NAMES[kind]
                seen[name] = seen.get(name, 0) + int(counts[kind])
            self.skewed, self.skewed_at = seen, int(offsets[skews.places[-1]])
        self.ahead += skews.ahead
        self.behind += skews.behind
        if skews.offsets:
            found = self.offsets.copy()
            for offset, count in skews.offsets.items():
                found[offset] = found.get(offset, 0) + count
            self.offsets = found


class PartitionMeta(msgspec.Struct):
    """The partition's own record, committed with every transaction."""

    source_offset: int = -1
    """Next source offset expected."""
    watermark: int = 0
    """Greatest time of live events, ms; before the first, where the greatest replay has got to."""
    counters: Counters = msgspec.field(default_factory=Counters)
    pseudonym_key: str = ""
    """Id of the key that made the user ids of this state, empty where they are the users' own."""
    erase_offset: int = -1
    """Next request to forget a user, in the partition of the same number."""
    topic_ids: dict[str, str] = {}
    """Topic -> its id (KIP-516): of those topics are the offsets; empty before this was noted."""
    clocks: ClockState = msgspec.field(default_factory=ClockState)
    currency: str = ""
    """The shop's currency that the amounts of this state are in; empty: as they came."""
    rates: str = ""
    """Digest of the rates that the latest amounts were made with."""


def encode_meta(meta: PartitionMeta) -> bytes:
    """The stored form."""
    return msgspec.json.encode(meta)


def decode_meta(value: bytes | None) -> PartitionMeta:
    """The stored form back, a new one if there is none."""
    return PartitionMeta() if value is None else msgspec.json.decode(value, type=PartitionMeta)
