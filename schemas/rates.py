"""Rates of currencies by day, for the topic that carries the table."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["CurrencyRate"]

Iso4217 = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]


class CurrencyRate(Struct, frozen=True, gc=False, kw_only=True):
    """What a unit of a currency is worth from a day on. Key: `currency/to/date`; compacted.

    A record without a value withdraws the rate of its key.
    """

    currency: Annotated[Iso4217, Meta(description="Currency of amounts, ISO 4217.")]
    to: Annotated[Iso4217, Meta(description="Currency that they are converted to: the shop's.")]
    date: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)",
            description="First day (UTC) of events that are converted so, YYYY-MM-DD.",
        ),
    ]
    rate: Annotated[
        float, Meta(gt=0, description="Units of `to` that one unit of `currency` is worth.")
    ]
    source: Annotated[str | None, Meta(description="Where the rate is from; carried only.")] = None

    @property
    def key(self) -> str:
        """The record key."""
        return f"{self.currency}/{self.to}/{self.date}"
