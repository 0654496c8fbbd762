"""Behaviour events: what a shop puts on `shop.events`, one struct per type, tagged by `type`.

On the wire an event is one JSON object. Unknown fields are ignored, so that producers may be newer
than readers; an optional field may be absent, null or an empty text. A whole number may be written
as 1.0 or 1e0. The record key is `user_id` in UTF-8.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Raw, Struct
from msgspec.structs import fields

__all__ = [
    "EVENT_TYPES",
    "MAX_ID_LENGTH",
    "MAX_PRICE",
    "MAX_QUANTITY",
    "MAX_QUERY_LENGTH",
    "MAX_TIME",
    "MAX_TIMEZONE_LENGTH",
    "OPTIONAL_FIELDS",
    "TIMEZONE_PATTERN",
    "TYPE_CODES",
    "TYPE_NAMES",
    "Behaviour",
    "CartAdd",
    "CartRemove",
    "Event",
    "EventType",
    "Favourite",
    "Id",
    "Milliseconds",
    "Money",
    "Purchase",
    "Refund",
    "Search",
    "View",
]

MAX_ID_LENGTH: Final = 256
MAX_QUERY_LENGTH: Final = 4096
MAX_TIME: Final = 253_402_300_799_999
"""Last millisecond of the year 9999: what `datetime` and every consumer can still show."""
MAX_PRICE: Final = 1_000_000_000.0
MAX_QUANTITY: Final = 1_000_000

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
"""A non-empty identifier of at most 256 characters, compared exactly."""
Money = Annotated[float, Meta(ge=0, le=MAX_PRICE)]
"""An amount in the event's `currency`, finite and not negative."""
TIMEZONE_PATTERN: Final = (
    r"^(Z|[+-]([01][0-9]|2[0-3]):?[0-5][0-9]|[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*)$(?!\n)"
)
"""`Z`, a UTC offset such as `+02:00` or `-0330`, or a name in the form of the IANA database.

Whether the database has the name is not checked: its releases differ."""
MAX_TIMEZONE_LENGTH: Final = 64
Milliseconds = Annotated[int, Meta(gt=0, le=MAX_TIME)]
"""Milliseconds since the epoch, UTC."""


class EventType(IntEnum):
    """Numeric codes of the event types in state and features; 0 is padding, none is reused."""

    VIEW = 1
    SEARCH = 2
    FAVOURITE = 3
    CART_ADD = 4
    CART_REMOVE = 5
    PURCHASE = 6
    REFUND = 7


TYPE_CODES: Final[dict[str, int]] = {kind.name.lower(): int(kind) for kind in EventType}
"""`type` on the wire -> code."""
TYPE_NAMES: Final[dict[int, str]] = {code: name for name, code in TYPE_CODES.items()}
"""Code -> `type` on the wire."""


class Behaviour(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="type"):
    """Fields that all behaviour events share.

    `gc=False` is safe: an event holds only text, numbers and raw JSON, never a reference cycle.
    """

    code: ClassVar[int] = 0
    """`EventType` of the class."""

    event_id: Annotated[
        Id, Meta(description="Unique id of the event; a second event with it is a duplicate.")
    ]
    user_id: Annotated[Id, Meta(description="The user; equals the record key.")]
    event_time: Annotated[
        Milliseconds,
        Meta(description="When the user did it: milliseconds since the epoch, UTC, an integer."),
    ]
    schema_version: Annotated[
        int, Meta(ge=1, le=65535, description="Version of this schema the producer wrote.")
    ] = 1
    anonymous_id: Annotated[
        Id | None,
        Meta(description="Device or cookie id from before the user was known; it joins nothing."),
    ] = None
    session_id: Annotated[
        Id | None, Meta(description="The producer's own session id; sessions are also derived.")
    ] = None
    item_id: Annotated[Id | None, Meta(description="The product acted on.")] = None
    category_id: Annotated[Id | None, Meta(description="Category of the product.")] = None
    price: Annotated[
        Money | None,
        Meta(description="Price of one unit in `currency`, finite and not negative."),
    ] = None
    quantity: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_QUANTITY)] | None,
        Meta(description="Number of units; 1 when absent or null."),
    ] = 1
    currency: Annotated[
        Annotated[str, Meta(min_length=1, max_length=16)] | None,
        Meta(description="Currency of `price`, ISO 4217 where there is a code."),
    ] = None
    query: Annotated[
        Annotated[str, Meta(max_length=MAX_QUERY_LENGTH)] | None,
        Meta(description="What the user searched for."),
    ] = None
    properties: Annotated[
        dict[str, Raw] | None,
        Meta(description="Free fields of the producer; carried, never interpreted."),
    ] = None
    order_id: Annotated[
        Id | None,
        Meta(
            description="The order that a purchase is a line of, or that a refund takes back. Lines"
            " without one are an order of their own as long as no more than the session gap lies"
            " between them."
        ),
    ] = None
    order_discount: Annotated[
        Money | None,
        Meta(
            description="What the whole order of this purchase costs less than its lines do, in"
            " `currency`; not subtracted from `price`. Each line may contain it; it counts once per"
            " order, the largest of several."
        ),
    ] = None
    tax: Annotated[
        Money | None,
        Meta(description="Tax contained in `price` x `quantity`, in `currency`; carried only."),
    ] = None
    timezone: Annotated[
        Annotated[str, Meta(max_length=MAX_TIMEZONE_LENGTH, pattern=TIMEZONE_PATTERN)] | None,
        Meta(
            description="Where the user's clock was: a name of the IANA database such as"
            " Europe/Berlin, a UTC offset such as +02:00, or Z. `event_time` stays UTC."
        ),
    ] = None


class View(Behaviour, frozen=True, tag="view"):
    """The user looked at an item or a page."""

    code: ClassVar[int] = EventType.VIEW.value


class Search(Behaviour, frozen=True, tag="search"):
    """The user searched; `query` says for what."""

    code: ClassVar[int] = EventType.SEARCH.value


class Favourite(Behaviour, frozen=True, tag="favourite"):
    """The user marked an item as a favourite or put it on a wish list."""

    code: ClassVar[int] = EventType.FAVOURITE.value


class CartAdd(Behaviour, frozen=True, tag="cart_add"):
    """The user put `quantity` units of an item into the cart."""

    code: ClassVar[int] = EventType.CART_ADD.value


class CartRemove(Behaviour, frozen=True, tag="cart_remove"):
    """The user took `quantity` units of an item out of the cart."""

    code: ClassVar[int] = EventType.CART_REMOVE.value


class Purchase(Behaviour, frozen=True, tag="purchase"):
    """The user bought `quantity` units of an item at `price` each; one event per order line."""

    code: ClassVar[int] = EventType.PURCHASE.value


class Refund(Behaviour, frozen=True, tag="refund"):
    """The user gave back, or cancelled, `quantity` units bought at `price` each."""

    code: ClassVar[int] = EventType.REFUND.value


OPTIONAL_FIELDS: Final = frozenset(field.name for field in fields(Behaviour) if not field.required)
"""Fields that may be absent; an empty text in one counts as absent."""

Event = View | Search | Favourite | CartAdd | CartRemove | Purchase | Refund

EVENT_TYPES: Final[dict[str, type[Event]]] = {
    "view": View,
    "search": Search,
    "favourite": Favourite,
    "cart_add": CartAdd,
    "cart_remove": CartRemove,
    "purchase": Purchase,
    "refund": Refund,
}
"""`type` on the wire -> struct."""
