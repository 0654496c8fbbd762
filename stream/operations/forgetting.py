"""Asking for users to be forgotten, and waiting for what the workers say was removed."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import decode, encode
from schemas.control import EraseReceipt, EraseUser
from schemas.events import MAX_ID_LENGTH
from stream.errors import EraseError
from stream.kafka.diagnosis import denied
from stream.kafka.tail import open_tail
from stream.pipeline.ingest import partition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.config.settings import Settings

SEND_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.5


@dataclass
class Forgotten:
    """A request and its receipts."""

    user_id: str
    """As the user is known to the workers: a pseudonym where there is a key."""
    request_id: str
    partitions: frozenset[int]
    """Partitions that may know the user, each with a receipt of its own."""
    receipts: list[EraseReceipt] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether every partition has answered."""
        return {receipt.source.partition for receipt in self.receipts} >= self.partitions

    @property
    def removed(self) -> dict[str, int]:
        """What was removed in all."""
        total: dict[str, int] = {}
        for receipt in self.receipts:
            for name, count in receipt.removed.items():
                total[name] = total.get(name, 0) + count
        return total

    @property
    def notes(self) -> list[str]:
        """What the receipts say besides, each once."""
        return list(dict.fromkeys(note for receipt in self.receipts for note in receipt.notes))

    @property
    def remaining(self) -> dict[str, int | None]:
        """Topic -> until when it may hold copies, ms; None: for ever."""
        latest: dict[str, int | None] = {}
        for receipt in self.receipts:
            for topic, until in receipt.remaining.items():
                known = latest.get(topic, 0)
                latest[topic] = None if until is None or known is None else max(known, until)
        return latest


async def forget(
    settings: Settings, user_ids: Sequence[str], *, by: str | None = None, wait_s: float
) -> list[Forgotten]:
    """Ask for users to be forgotten.

    Args:
        settings: cluster, topics and, where there is one, the key of the pseudonyms.
        user_ids: the users' own ids.
        by: who asks.
        wait_s: for the receipts; 0: do not wait.

    Returns:
        One entry per user; those not `done` have no receipt yet. Their requests are in the log and
        are carried out as soon as a worker runs.

    Raises:
        BrokerError: no broker answers.
        TopicLayoutError: a topic is missing.
        EraseError: an id can be no user's, then nothing is sent; or a request could not be sent.
    """
    check_ids(user_ids)
    now = time.time_ns() // 1_000_000
    asked = [_ask(settings, user_id) for user_id in user_ids]
    async with open_tail(settings, [settings.topics.erased]) as tail:
        producer = AIOKafkaProducer(enable_idempotence=True, **settings.kafka.client_options())
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S), producer:
                for each in asked:
                    request = EraseUser(
                        request_id=each.request_id,
                        user_id=each.user_id,
                        requested_at=now,
                        requested_by=by,
                    )
                    for partition in sorted(each.partitions):
                        await producer.send_and_wait(
                            settings.topics.erase,
                            encode(request),
                            key=each.user_id.encode(),
                            partition=partition,
                        )
        except (KafkaError, OSError, TimeoutError) as error:
            reason = denied(error, settings.kafka) or repr(error)
            raise EraseError(
                f"not every request could be sent to {settings.topics.erase}: {reason}; send them"
                " again: a user who is forgotten twice is forgotten"
            ) from error
        waiting = {each.request_id: each for each in asked}
        deadline = time.monotonic() + wait_s
        while waiting and time.monotonic() < deadline:
            for record in await tail.poll(_POLL_S):
                receipt = decode(EraseReceipt, record.value)
                found = waiting.get(receipt.request_id)
                if found is not None:
                    found.receipts.append(receipt)
                    if found.done:
                        del waiting[receipt.request_id]
    return asked


def check_ids(user_ids: Sequence[str]) -> None:
    """Refuse ids that no event can have: the caller has mistyped one, or passed nothing on.

    Raises:
        EraseError: there is no id, or it names the first that is empty, blank, longer than an id
            may be, or no text.
    """
    if not user_ids:
        raise EraseError("no user is named: nothing was asked for")
    for place, user_id in enumerate(user_ids, 1):
        where = f"user {place} of {len(user_ids)}"
        if not user_id.strip():
            raise EraseError(f"{where} is empty: nothing was asked for, of the others neither")
        if len(user_id) > MAX_ID_LENGTH:
            raise EraseError(
                f"{where}, {user_id[:40]}...: {len(user_id)} characters, an id has at most"
                f" {MAX_ID_LENGTH}: nothing was asked for, of the others neither"
            )
        try:
            user_id.encode()
        except UnicodeEncodeError as error:
            raise EraseError(
                f"{where}, {user_id!a}: no UTF-8 text: nothing was asked for, of the others neither"
            ) from error


def _ask(settings: Settings, user_id: str) -> Forgotten:
    """The request for one user.

    Where users are pseudonyms their events may lie in the partition of either name, as producers
    may send the one or the other; the request itself names the pseudonym alone.
    """
    stored = settings.privacy.stored_id(user_id)
    partitions = frozenset(
        partition_of(name.encode(), settings.topics.partitions) for name in (user_id, stored)
    )
    return Forgotten(stored, uuid.uuid4().hex, partitions)
