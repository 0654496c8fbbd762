"""What a recurrent state has to go through: for each of N events the inputs that lead to its state.

Mostly that is one input on top of the user's state before. Where an event came out of order it is
the newest part of the history, from nothing. The order of the events is the order of arrival, so a
state never depends on one that comes later in the list.

Shape suffixes: N events, M inputs, S stored states, H hidden, C, F event features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

STORED: Final = -1
"""`before` of an event whose state goes on from the stored one."""
NOTHING: Final = -2
"""`before` of an event whose state begins from nothing."""
WINDOWS_AT_ONCE: Final = 1024
"""Windows that a model without recurrence is shown at a time, which bounds memory."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The way to N states over M inputs."""

    state_N: I64
    """Which of the S stored states is the event's."""
    before_N: I64
    """The event whose state this one goes on from, or `STORED`, or `NOTHING`."""
    start_N: I64
    """First of the event's inputs; they end where the next event's begin."""
    ids_MC: I64
    nums_MF: F32

    def __len__(self) -> int:
        return len(self.state_N)

    @property
    def sizes(self) -> I64:
        """Inputs per event."""
        return np.diff(self.start_N, append=len(self.ids_MC))

    @staticmethod
    def of_sequences(ids_BMC: I64, nums_BMF: F32, length_B: I64) -> Steps:
        """From stored states over B right-padded sequences: every input is an event."""
        batch, width = ids_BMC.shape[:2]
        valid = np.arange(width) < length_B[:, None]
        count = int(valid.sum())
        first = np.cumsum(length_B) - length_B
        before = np.arange(-1, count - 1)
        before[first[length_B > 0]] = STORED
        state = np.repeat(np.arange(batch), length_B)
        return Steps(state, before, np.arange(count), ids_BMC[valid], nums_BMF[valid])


Scan = Callable[[F32, I64, F32, I64], F32]
"""(hidden_BH, ids_BMC, nums_BMF, length_B) -> every state [B,M,H]; see `Network.scan`."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Independent runs of inputs of like length, padded to the right: what one `scan` is given."""

    stored_B: I64
    """Which of the S stored states each run goes on from,"""
    before_B: I64
    """unless this is `NOTHING`."""
    ids_BMC: I64
    nums_BMF: F32
    length_B: I64
    kept_BM: NDArray[np.bool_]
    """Which inputs lead to the state of an event,"""
    event_K: I64
    """and of which one, in the order of `kept_BM`."""


def runs_of(steps: Steps) -> Iterator[Runs]:
    """Yield all inputs as runs; events that go on from one another make one run.

    Runs of like length go together: padding at most doubles the work, and a bot's long run does not
    pad everyone.
    """
    if len(steps) == 0:
        return
    order = np.argsort(steps.state_N, kind="stable")
    sizes = steps.sizes[order]
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    # All inputs, run by run; the last one of each event leads to the event's state.
    inputs = np.arange(total) + np.repeat(steps.start_N[order] - (ends - sizes), sizes)
    event_of = np.full(total, -1)
    event_of[ends - 1] = order
    heads = np.flatnonzero(steps.before_N[order] < 0)
    starts = (ends - sizes)[heads]
    lengths = np.diff(starts, append=total)
    first = order[heads]
    stored, before = steps.state_N[first], steps.before_N[first]
    bucket = np.ceil(np.log2(lengths)).astype(np.int64)
    for power in np.unique(bucket):
        runs = np.flatnonzero(bucket == power)
        place = np.arange(int(lengths[runs].max()))
        valid_BM = place < lengths[runs][:, None]
        at_BM = starts[runs][:, None] + np.where(valid_BM, place, 0)
        index_BM = inputs[at_BM]
        kept_BM = valid_BM & (event_of[at_BM] >= 0)
        yield Runs(
            stored[runs],
            before[runs],
            steps.ids_MC[index_BM] * valid_BM[..., None],
            steps.nums_MF[index_BM] * valid_BM[..., None].astype(np.float32),
            lengths[runs].astype(np.int64),
            kept_BM,
            event_of[at_BM[kept_BM]],
        )


def advance_by_scan(stored_SH: F32, steps: Steps, scan: Scan) -> F32:
    """The states [N,H] of a network that is only known by its `scan`."""
    states_NH = np.zeros((len(steps), stored_SH.shape[1]), np.float32)
    if stored_SH.shape[1] == 0:
        return states_NH
    for runs in runs_of(steps):
        begin_BH = stored_SH[runs.stored_B]
        begin_BH[runs.before_B == NOTHING] = 0
        states_BMH = scan(begin_BH, runs.ids_BMC, runs.nums_BMF, runs.length_B)
        states_NH[runs.event_K] = states_BMH[runs.kept_BM]
    return states_NH


Encode = Callable[[I64, F32, I64], F32]
"""(ids_BLC, nums_BLF, length_B) -> the state [B,H] of right-padded sequences."""


def windows_of(steps: Steps, length: int = 0) -> Iterator[tuple[I64, tuple[I64, F32, I64]]]:
    """Yield the events' own inputs as right-padded sequences, `WINDOWS_AT_ONCE` at a time.

    Args:
        steps: the way to N states, each with all its inputs.
        length: columns to pad to, at least.

    Yields:
        The events [B], and `ids_BLC, nums_BLF, length_B`.
    """
    for lo in range(0, len(steps), WINDOWS_AT_ONCE):
        event_B = np.arange(lo, min(lo + WINDOWS_AT_ONCE, len(steps)))
        yield event_B, windows_at(steps, event_B, length)


def windows_at(steps: Steps, event_B: I64, length: int = 0) -> tuple[I64, F32, I64]:
    """The inputs of some events as right-padded sequences, of `length` columns at least.

    Returns:
        `ids_BLC, nums_BLF, length_B`.
    """
    sizes = steps.sizes[event_B]
    place = np.arange(max(int(sizes.max(initial=1)), length))
    valid_BL = place < sizes[:, None]
    index_BL = steps.start_N[event_B, None] + np.where(valid_BL, place, 0)
    return (
        steps.ids_MC[index_BL] * valid_BL[..., None],
        steps.nums_MF[index_BL] * valid_BL[..., None].astype(np.float32),
        sizes,
    )


def encode_windows(steps: Steps, width: int, encode: Encode) -> F32:
    """The states [N,H] of a network without recurrence: of each event's own inputs."""
    states_NH = np.zeros((len(steps), width), np.float32)
    for event_B, window in windows_of(steps):
        states_NH[event_B] = encode(*window)
    return states_NH
