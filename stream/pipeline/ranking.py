"""What users turn to next, as predictions tell it.

A ranking is made of the state after an event and of the newest events up to it, which the user's
record holds then. So it does not depend on where micro-batches end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from schemas.outputs import NextCategory, NextItem
from stream.kernels.predictions import DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from models.history import I64
    from models.inputs.features import F32
    from stream.pipeline.hidden import ScorerLike

    Window = tuple[I64, F32, I64]
    """The newest events of N users, right-padded: ids [N,R,C], nums [N,R,F], and how many [N]."""

_ENCODER: Final = msgspec.json.Encoder()

FIELDS: Final[dict[str, tuple[str, Callable[[str, float], Any]]]] = {
    "category": ("next_categories", NextCategory),
    "item": ("next_items", NextItem),
}
"""What is ranked -> the field of a prediction that tells it, and one entry. In the order of the
schema."""


class Ranks(NamedTuple):
    """What N users turn to next: k names each, the likeliest first."""

    names_NK: NDArray[np.object_]
    probabilities_NK: F32


def ranks_of(scorer: ScorerLike, hidden_NH: F32, window: Window, most: int) -> dict[str, Ranks]:
    """All that a model ranks, for N users after their last event, `most` of each."""
    found = {}
    for what in FIELDS:
        if what in scorer.ranks:
            found[what] = Ranks(*scorer.rank(what, hidden_NH, *window, most))
    return found


def spliced(values: list[bytes], ranks: dict[str, Ranks]) -> list[bytes]:
    """N predictions as JSON, with their rankings: the last fields of their schema."""
    for what, (names_NK, probabilities_NK) in ranks.items():
        field, entry = FIELDS[what]
        start = b',"%s":' % field.encode()
        units_NK = np.rint(probabilities_NK.astype(np.float64) * 10**DIGITS) / 10**DIGITS
        values = [
            b"".join((value[:-1], start, _ENCODER.encode(list(map(entry, names, units))), b"}"))
            for value, names, units in zip(
                values, names_NK.tolist(), units_NK.tolist(), strict=True
            )
        ]
    return values
