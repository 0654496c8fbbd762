"""The shop's currency and the table of rates."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from stream.config.durations import MINUTE_MS, SECOND_MS, Millis
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
    rates_topic: bool = False
    """Read the table from the compacted topic topics.rates instead, and go on reading it."""
    rates_settle_ms: Annotated[Millis, Field(ge=SECOND_MS)] = MINUTE_MS
    """A rate on the topic converts events that Kafka takes in after the end of the next interval of
    this length, whenever a worker reads either. It must be longer than workers need to read a rate,
    and than brokers' clocks differ. Another value moves the times from which rates hold."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.rates is not None and self.currency is None:
            raise ValueError("rates need the currency that they are in: set money.currency")
        if self.rates_topic and self.currency is None:
            raise ValueError("rates_topic needs the shop's currency: set money.currency")
        if self.rates_topic and self.rates is not None:
            raise ValueError("rates come from a file or from the topic: unset rates or rates_topic")
        return self
