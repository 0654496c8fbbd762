"""Pseudonyms: a keyed hash in place of a user id, for those who must not know the user.

    p1_ + hex(HMAC-SHA256(key, "user" 0x00 id)[:16] + HMAC-SHA256(key, "mark" 0x00 hash)[:4])

16 bytes make it the user's own; without the key nobody can tell from which id it was made, nor try
ids out. The last 4 bytes mark it as made with this key: who has the key recognises a pseudonym and
leaves it as it is, so it does not matter how many stations of an event's way know the key. Whoever
loses the key loses the connection to the users; whoever publishes it has pseudonymised nothing.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

import msgspec

from schemas.events import Event

__all__ = ["MIN_KEY_BYTES", "Pseudonyms"]

MIN_KEY_BYTES: Final = 32
_PREFIX: Final = "p1_"
_HASH_BYTES: Final = 16
_MARK_BYTES: Final = 4
_FORM: Final = re.compile(r"p1_([0-9a-f]{40})", re.ASCII)
_REMEMBERED: Final = 200_000
"""Pseudonyms kept for the next event of the same user."""


class Pseudonyms:
    """Makes and recognises the pseudonyms of one key."""

    def __init__(self, key: bytes) -> None:
        """`key`: at least `MIN_KEY_BYTES` of secret bytes.

        Raises:
            ValueError: it is shorter.
        """
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a key has at least {MIN_KEY_BYTES} bytes")
        self._keyed = hmac.new(key, digestmod="sha256")
        self._known: dict[str, str] = {}
        self.key_id = self._hmac(b"key", b"", 8).hex()
        """Tells keys apart and says nothing about them."""

    def of(self, user_id: str) -> str:
        """The pseudonym of a user; of a pseudonym of this key, itself."""
        known = self._known.get(user_id)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[user_id] = user_id if self.made(user_id) else self._make(user_id)
        return known

    def made(self, text: str) -> bool:
        """Whether a text is a pseudonym that was made with this key."""
        match = _FORM.fullmatch(text)
        if match is None:
            return False
        raw = bytes.fromhex(match[1])
        return hmac.compare_digest(raw[_HASH_BYTES:], self._mark(raw[:_HASH_BYTES]))

    def event(self, event: Event) -> Event:
        """An event that names nobody: user and device by pseudonym, and without its free fields.

        Free `properties` are left out because nobody can tell what they hold; other fields stay, so
        no `event_id`, `session_id` or `query` may name a user either.
        """
        device = event.anonymous_id
        return msgspec.structs.replace(
            event,
            user_id=self.of(event.user_id),
            anonymous_id=None if device is None else self.of(device),
            properties=None,
        )

    def _make(self, user_id: str) -> str:
        hashed = self._hmac(b"user", user_id.encode(), _HASH_BYTES)
        return f"{_PREFIX}{hashed.hex()}{self._mark(hashed).hex()}"

    def _mark(self, hashed: bytes) -> bytes:
        return self._hmac(b"mark", hashed, _MARK_BYTES)

    def _hmac(self, purpose: bytes, data: bytes, length: int) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(purpose + b"\0" + data)
        return keyed.digest()[:length]
