"""The models' state of many users, carried over runs of events of different length.

A recurrent model carries its state from event to event. Any other makes the state after each event
from the last events up to it: those of the ring before the run, then those of the run itself.

Shape suffixes as in ``models/networks/base.py``: B batch, M events in a run, H hidden, C, F event
features, N events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from models.features import INT_FEATURES, NUM_FEATURES, ring_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.features import F32
    from models.history import I64, Records
    from models.targets import Target

WINDOWS_AT_ONCE: Final = 1024
"""Windows that a model without recurrence is shown at a time, which bounds memory."""


class ScorerLike(Protocol):
    """What the engine asks of a model (``models.scorer.Scorer``)."""

    version: str
    code: int
    targets: tuple[Target, ...]
    hidden_size: int
    history_length: int
    recurrent: bool
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


Context = tuple["I64", "F32", "I64"]
"""(ids_BLC, nums_BLF, length_B) of the events before a run, oldest first, right-padded."""


def context_of(records: Records, rows: NDArray[np.intp], scorer: ScorerLike) -> Context | None:
    """What ``carry`` needs to know of the histories of ``rows`` before it: nothing, as a rule.

    To be asked for before the run's events enter the histories, which may push out what it holds.
    """
    if scorer.recurrent:
        return None
    return ring_inputs(records, rows, scorer.history_length - 1)


def no_context(runs: int) -> Context:
    """The context of ``runs`` runs that begin from nothing."""
    ids_BLC = np.zeros((runs, 0, len(INT_FEATURES)), np.int64)
    nums_BLF = np.zeros((runs, 0, len(NUM_FEATURES)), np.float32)
    return ids_BLC, nums_BLF, np.zeros(runs, np.int64)


def joined(contexts: list[Context]) -> Context | None:
    """The contexts of several runs as one; None where there is none."""
    if not contexts:
        return None
    ids, nums, lengths = zip(*contexts, strict=True)
    width = max(part.shape[1] for part in ids)
    return _stacked(ids, width), _stacked(nums, width), np.concatenate(lengths)


def _stacked(parts: Sequence[NDArray[Any]], width: int) -> NDArray[Any]:
    """[B,L,..] of different L below each other, each padded with zeros to ``width``."""
    rows = sum(len(part) for part in parts)
    out = np.zeros((rows, width, *parts[0].shape[2:]), parts[0].dtype)
    lo = 0
    for part in parts:
        out[lo : lo + len(part), : part.shape[1]] = part
        lo += len(part)
    return out


def carry(
    records: Records,
    runs: Runs,
    ids_NC: I64,
    nums_NF: F32,
    scorer: ScorerLike,
    context: Context | None,
) -> F32:
    """Carry the hidden states of ``runs.rows`` over their events; the state after each, [N,H]."""
    width = scorer.hidden_size
    hidden_NH = np.empty((len(ids_NC), width), np.float32)
    if width == 0:
        return hidden_NH
    if context is not None:
        _encode_each(runs, ids_NC, nums_NF, context, scorer, hidden_NH)
        records["hidden"][runs.rows, :width] = hidden_NH[runs.starts + runs.sizes - 1]
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


def _encode_each(
    runs: Runs, ids_NC: I64, nums_NF: F32, context: Context, scorer: ScorerLike, hidden_NH: F32
) -> None:
    """Set the state [N,H] after each event to ``encode`` of the last events up to it."""
    before_ids, before_nums, before = context
    length = scorer.history_length
    # All events in one line: those before each run, then the run.
    lead = np.cumsum(before + runs.sizes) - runs.sizes
    run_of_N = np.repeat(np.arange(len(runs.sizes)), runs.sizes)
    place_N = lead[run_of_N] + np.arange(len(ids_NC)) - runs.starts[run_of_N]
    known_BL = np.arange(before_ids.shape[1]) < before[:, None]
    place_old = ((lead - before)[:, None] + np.arange(before_ids.shape[1]))[known_BL]
    ids = np.empty((len(place_old) + len(place_N), ids_NC.shape[1]), np.int64)
    nums = np.empty((len(ids), nums_NF.shape[1]), np.float32)
    ids[place_old], ids[place_N] = before_ids[known_BL], ids_NC
    nums[place_old], nums[place_N] = before_nums[known_BL], nums_NF
    used_N = np.minimum(place_N - (lead - before)[run_of_N] + 1, length)
    for lo in range(0, len(place_N), WINDOWS_AT_ONCE):
        used = used_N[lo : lo + WINDOWS_AT_ONCE]
        first = place_N[lo : lo + WINDOWS_AT_ONCE] - used + 1
        shown_BL = np.arange(length) < used[:, None]
        index_BL = first[:, None] + np.where(shown_BL, np.arange(length), 0)
        hidden_NH[lo : lo + len(used)] = scorer.encode(
            ids[index_BL] * shown_BL[..., None],
            nums[index_BL] * shown_BL[..., None].astype(np.float32),
            used.astype(np.int64),
        )
