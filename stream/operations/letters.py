"""Dead letters as they lie there: which, why, and whether they were brought back already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.codec import decode
from schemas.errors import InvalidMessage
from schemas.outputs import Source
from schemas.refused import DeadLetter
from stream.errors import DeadLetterError, TopicLayoutError
from stream.kafka.tail import open_tail

if TYPE_CHECKING:
    from stream.config.settings import Settings

READ_TIMEOUT_S: Final = 20.0
NOTHING: Final = b"null"


@dataclass(frozen=True)
class Choice:
    """Which dead letters; everything that is given must fit."""

    reasons: frozenset[str] = frozenset()
    """Empty: all."""
    partition: int | None = None
    """Of the source."""
    first: int | None = None
    """Least source offset."""
    last: int | None = None
    """Greatest source offset."""

    @property
    def narrows(self) -> bool:
        """Whether anything is given."""
        return self != Choice()

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a letter is chosen."""
        where = letter.source
        return (
            (not self.reasons or letter.reason.value in self.reasons)
            and (self.partition is None or where.partition == self.partition)
            and (self.first is None or where.offset >= self.first)
            and (self.last is None or where.offset <= self.last)
        )


class Repair(msgspec.Struct, frozen=True):
    """A line of a repair file; whatever else `dlq show --json` wrote there is left alone."""

    source: Source
    event: msgspec.Raw = msgspec.Raw(NOTHING)
    """The event as it should have been; without one the letter is not brought back."""


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter as a line of JSON for people and their editors."""

    source: Source
    reason: str
    field: str | None
    detail: str
    key: str | None
    """With the replacement character for what is no UTF-8."""
    timestamp: int | None
    size: int
    clipped: bool = False
    replayed: bool = False
    value: str | None = None
    value_base64: bytes | None = None
    """Instead of `value` where it is no UTF-8."""


def to_line(letter: DeadLetter, *, replayed: bool) -> bytes:
    """Return a letter as one line of JSON, readable where its bytes are."""
    text, binary = None, None
    try:
        text = None if letter.value is None else letter.value.decode()
    except UnicodeDecodeError:
        binary = letter.value
    return msgspec.json.encode(
        Shown(
            source=letter.source,
            reason=letter.reason.value,
            field=letter.field,
            detail=letter.detail,
            key=None if letter.key is None else letter.key.decode(errors="replace"),
            timestamp=letter.timestamp,
            size=letter.size,
            clipped=letter.clipped,
            replayed=replayed,
            value=text,
            value_base64=binary,
        )
    )


def note_key(source: Source) -> bytes:
    """Return the key of the note that a letter was brought back."""
    return place(source).encode()


def place(source: Source) -> str:
    """Return where a record lies, in words."""
    return f"{source.topic}/{source.partition}/{source.offset}"


async def letters(settings: Settings, choice: Choice) -> AsyncIterator[tuple[DeadLetter, bool]]:
    """Yield the chosen dead letters that are there now, each with whether it was brought back.

    Raises:
        BrokerError: no broker answers.
        TopicLayoutError: the dead-letter topic does not exist.
    """
    done = await notes(settings)
    async for letter in chosen(settings, choice):
        yield letter, note_key(letter.source) in done


async def chosen(settings: Settings, choice: Choice) -> AsyncIterator[DeadLetter]:
    """Yield the chosen dead letters that are there now; raises as `letters`."""
    async with open_tail(settings, [settings.topics.dead_letter], from_beginning=True) as tail:
        async for records in tail.read_to_end(READ_TIMEOUT_S):
            for record in records:
                letter = decode(DeadLetter, record.value)
                if choice.fits(letter):
                    yield letter


async def notes(settings: Settings) -> set[bytes]:
    """Return the keys of the letters that were brought back; raises `BrokerError`."""
    found: set[bytes] = set()
    try:
        async with open_tail(settings, [settings.replayed], from_beginning=True) as tail:
            async for records in tail.read_to_end(READ_TIMEOUT_S):
                found.update(record.key for record in records)
    except TopicLayoutError:
        return found  # before the first replay
    return found


def read_repairs(path: Path) -> dict[Source, Repair]:
    """Read a repair file: lines of `dlq show --json`, each with an `event` added.

    Raises:
        DeadLetterError: a line is no repair, or two repair the same letter; names the line.
    """
    repairs: dict[Source, Repair] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DeadLetterError(f"cannot read the repair file {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            repair = decode(Repair, line)
        except InvalidMessage as error:
            raise DeadLetterError(
                f"{path}, line {number}: {error}; write a line of `dlq show --json` with the"
                ' repaired event added as "event": {...}'
            ) from error
        if repair.source in repairs:
            raise DeadLetterError(
                f"{path}, line {number}: {place(repair.source)} is repaired twice; keep one"
            )
        repairs[repair.source] = repair
    return repairs
