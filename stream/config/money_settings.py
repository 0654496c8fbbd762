"""The shop's currency and the table of rates."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from stream.config.secure_settings import Section


def _plain(value: object) -> object:
    """Currencies are written in capitals, without blanks."""
    return value.strip().upper() if isinstance(value, str) else value


class MoneySettings(Section):
    """In which currency amounts are added up, and what the others are worth."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$"), BeforeValidator(_plain)] | None = None
    """The shop's currency, ISO 4217; an event without a currency is in it. It is fixed for the life
    of the state. Unset: amounts count as they come, and several currencies raise an alarm."""
    rates: Path | None = None
    """CSV with the columns date (YYYY-MM-DD), currency, rate, or TOML with such tables named
    `rates`: from that day on a unit of the currency is worth `rate` units of the shop's. Read once,
    at the start. An amount that has no rate at or before its day does not count."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.rates is not None and self.currency is None:
            raise ValueError("rates need the currency that they are in: set money.currency")
        return self
