"""Units of settings, written beside the type: `Annotated[int, Unit("records")]`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """What a number counts, for the settings reference and for messages."""

    name: str
