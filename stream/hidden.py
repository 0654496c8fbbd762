"""The recurrent state of many users, carried over runs of events of different length.

Shape suffixes as in ``models/networks/base.py``: B batch, M events in a run, H hidden, C, F event
features, N events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.features import ring_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64, Records
    from models.targets import Target


class ScorerLike(Protocol):
    """What the engine asks of a model (``models.scorer.Scorer``)."""

    version: str
    code: int
    targets: tuple[Target, ...]
    hidden_size: int
    history_length: int
    feature_version: str
    cold_start: bool
    reference_profile: F32

    def encode(self, ids_BLC: I64, nums_BLF: F32, length_B: I64) -> F32:
        """Hidden states [B,H] of right-padded sequences."""

    def scan(self, hidden_BH: F32, ids_BMC: I64, nums_BMF: F32, length_B: I64) -> F32:
        """Every hidden state [B,M,H] of M more events."""

    def probabilities(self, hidden_BH: F32, profile_BP: F32) -> F32:
        """Calibrated probabilities [B,K]."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Consecutive events per user: ``rows[k]`` owns events ``starts[k] : starts[k] + sizes[k]``."""

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]

    @staticmethod
    def of(rows: NDArray[np.intp]) -> Runs:
        """The runs of equal values in ``rows``, one value per event."""
        if len(rows) == 0:
            return Runs(rows, rows, rows)
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
        return Runs(rows[starts], starts, np.diff(starts, append=len(rows)))


def refresh(records: Records, rows: NDArray[np.intp], scorer: ScorerLike) -> None:
    """Rebuild the hidden states of ``rows`` that belong to another model, from the ring."""
    stale = rows[records["model"][rows] != np.uint64(scorer.code)]
    if len(stale) == 0:
        return
    encode_rows(records, stale, scorer)


def encode_rows(records: Records, rows: NDArray[np.intp], scorer: ScorerLike) -> None:
    """Set the hidden states of ``rows`` to ``encode`` of their rings."""
    records["hidden"][rows] = 0
    records["model"][rows] = scorer.code
    known = rows[records["n"][rows] > 0]
    if scorer.hidden_size and len(known):
        hidden = scorer.encode(*ring_inputs(records, known, scorer.history_length))
        records["hidden"][known, : scorer.hidden_size] = hidden


def carry(records: Records, runs: Runs, ids_NC: I64, nums_NF: F32, scorer: ScorerLike) -> F32:
    """Carry the hidden states of ``runs.rows`` over their events; the state after each, [N,H]."""
    width = scorer.hidden_size
    hidden_NH = np.empty((len(ids_NC), width), np.float32)
    if width == 0:
        return hidden_NH
    # Runs of like length go together: padding at most doubles the work, and a bot's long run does
    # not pad everyone.
    bucket = np.ceil(np.log2(runs.sizes)).astype(np.int64) if len(runs.sizes) else runs.sizes
    for power in np.unique(bucket):
        chosen = np.flatnonzero(bucket == power)
        rows, sizes = runs.rows[chosen], runs.sizes[chosen]
        place = np.arange(int(sizes.max()))
        valid_BM = place < sizes[:, None]
        index_BM = runs.starts[chosen][:, None] + np.where(valid_BM, place, 0)
        states_BMH = scorer.scan(
            records["hidden"][rows, :width],
            ids_NC[index_BM] * valid_BM[..., None],
            nums_NF[index_BM] * valid_BM[..., None].astype(np.float32),
            sizes.astype(np.int64),
        )
        hidden_NH[index_BM[valid_BM]] = states_BMH[valid_BM]
        records["hidden"][rows, :width] = states_BMH[np.arange(len(rows)), sizes - 1]
    return hidden_NH
