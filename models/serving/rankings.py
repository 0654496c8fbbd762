"""What a published model ranks: the head, the names of what it ranks, and how good it was.

Beside a model's own files lie, for each thing that it ranks,

    next_category.pt    the scripted head (`models.networks.next_head`)
    next_category.json  the names of its vocabulary, in the order of its codes

Events hold names, histories their hashes. So names that share a code cannot be told apart: one of
them stands for all. Of a code outside the vocabulary nobody keeps the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from models.encoding import category_code, item_code
from models.errors import ArtifactError
from models.networks.next_head import WHATS
from schemas.events import Id

CODES: Final[Mapping[str, Callable[[str], int]]] = {"category": category_code, "item": item_code}
"""What is ranked -> the code of a name."""
MAX_VOCABULARY: Final = 65_536
"""Codes of a vocabulary, at most."""
NAMES_BYTES: Final = 128 << 20
"""Longest file of names that is read: of a vocabulary of the longest names."""
HEAD_BYTES: Final = 256 << 20
"""Longest scripted head that is read."""


class Ranking(msgspec.Struct, frozen=True):
    """How well one thing is ranked, on users whose events were not learnt from."""

    what: str
    """One of `WHATS`."""
    vocabulary: int = 0
    """Codes that can be told."""
    moments: int = 0
    """Events, each after another of the same user, that the figures are of."""
    covered: float = 0.0
    """Share of them whose code is in the vocabulary; of the others the model's figures are 0."""
    metrics: dict[str, float] = {}
    """Of what the model tells: hit rate and discounted gain of the first ten."""
    baselines: dict[str, dict[str, float]] = {}
    """Baseline -> the same figures of it, which may tell any code."""
    refused: str = ""
    """Why it is not published; empty: it is."""


class Vocabulary(msgspec.Struct, frozen=True):
    """The names of what a head ranks."""

    what: str
    names: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_VOCABULARY)]


@dataclass(frozen=True)
class Ranked:
    """A head as it is published."""

    script: bytes
    names: tuple[str, ...]
    """[V] of its codes, ascending."""


def script_file(what: str) -> str:
    """Name of the file of the head."""
    return f"next_{what}.pt"


def names_file(what: str) -> str:
    """Name of the file of names."""
    return f"next_{what}.json"


def files_of(ranked: Mapping[str, Ranked]) -> dict[str, bytes]:
    """File name -> content, for the artifact."""
    files: dict[str, bytes] = {}
    for what, one in ranked.items():
        files[script_file(what)] = one.script
        files[names_file(what)] = msgspec.json.encode(Vocabulary(what, one.names))
    return files


def read_ranked(
    rankings: tuple[Ranking, ...], where: object, read: Callable[[str, int], bytes]
) -> dict[str, Ranked]:
    """The heads that a manifest tells of, by what they rank.

    Args:
        rankings: of the manifest.
        where: names the artifact in errors.
        read: gives the verified bytes of a file, of at most so many bytes.

    Raises:
        ArtifactError: there is no such thing to rank, or the names are none.
    """
    found: dict[str, Ranked] = {}
    for ranking in rankings:
        what = ranking.what
        if what not in WHATS:
            raise ArtifactError(
                f"{where}: it ranks {what!r}, this release {' and '.join(WHATS)}; use the matching"
                " release or publish the model again"
            )
        try:
            names = msgspec.json.decode(read(names_file(what), NAMES_BYTES), type=Vocabulary).names
        except msgspec.DecodeError as error:
            raise ArtifactError(
                f"{where}: {names_file(what)}: {error}; publish the model again"
            ) from error
        found[what] = Ranked(read(script_file(what), HEAD_BYTES), names)
    return found


def check_names(what: str, names: tuple[str, ...], codes_V: NDArray[np.int64]) -> None:
    """Check that names are those of a vocabulary, one by one.

    Raises:
        ArtifactError: they are not.
    """
    found = np.fromiter(map(CODES[what], names), np.int64, len(names))
    if not np.array_equal(found, codes_V):
        raise ArtifactError(
            f"{names_file(what)}: {len(names)} names that are not those of the {len(codes_V)} codes"
            f" in {script_file(what)}; publish the model again"
        )
