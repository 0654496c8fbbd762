"""What the states of a micro-batch's events are made of, as inputs of the recurrence.

A state goes on from the one before by one input, or it is made again of the newest events, where
one came out of order. Of most users only the last state is wanted, so what lies on the way to it is
laid out behind the pass over the events, once per user: a state that is made again before it was
wanted costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.kernels.columns import new_inputs, room
from models.kernels.jit import kernel
from models.kernels.ledger import UNIT
from models.kernels.places import held_from, history, in_slot, of_rank, slot_of

if TYPE_CHECKING:
    from models.history import I64
    from models.kernels.columns import After, EventColumns, Inputs, Limits
    from models.kernels.places import Arena, History, Table

WHOLE = 1024
"""A recurrent state that an event out of order unsettles is made again of the whole history, where
that is held one by one and has at most so many events; else of its newest part."""
ONE, WINDOW, ALL, NEWEST = 0, 1, 2, 3
"""Of what a state is made: of its own event on top of the state before; of a window that is kept;
of all events that are held now; of the newest ones."""


class Ways(NamedTuple):
    """How the states of A accepted events are made."""

    way: NDArray[np.uint8]
    before: I64
    """The accepted event whose state it goes on from, or `STORED`, or `NOTHING`."""
    gap: I64
    """Of `ONE` ms since the event before, of `WINDOW` its length."""
    place: I64
    """Of `ONE` the session's age, ms; of `WINDOW` where it begins."""


@kernel
def is_whole(u: History) -> bool:
    """Whether a state is made again of the whole history."""
    return bool(u.head.n <= WHOLE and held_from(u) == 0)


@kernel
def keeps_all(u: History, time: int, limits: Limits) -> bool:
    """Whether all events of a history, which are held, still are when one more comes behind them.

    ``time``: of that one, ms.
    """
    n, size = np.int64(u.head.n), u.size
    if n < size:
        return True
    since, count = time - limits.grace, n - size
    oldest = in_slot(u, slot_of(u, n + 1)).time if size > 1 else time
    if oldest < since or count + 1 > limits.most:
        return False
    return bool(count == 0 or of_rank(u, 1).time >= since)


@kernel
def _size(u: History, way: Any, length: int) -> Any:
    n = np.int64(u.head.n)
    return n if way == ALL and length > 0 else min(n, length)


@kernel
def newest_inputs(u: History, length: int, inputs: Inputs, used: int) -> int:
    """The newest ``length`` events as inputs behind the ``used`` ones; how many are used then."""
    h = u.head
    n = np.int64(h.n)
    oldest = held_from(u)
    first: Any = max(n - length, oldest)
    before: Any = h.evicted_time
    if first > oldest:
        before = of_rank(u, first - 1).time
    for rank in range(first, n):
        entry = of_rank(u, rank)
        inputs.time[used] = entry.time
        inputs.gap[used] = entry.time - before if rank > 0 else 0
        inputs.session_age[used] = entry.session_age
        inputs.amount[used] = entry.amount
        inputs.item[used] = entry.item
        inputs.category[used] = entry.category
        inputs.type[used] = entry.type
        inputs.first[used] = rank == 0
        before = entry.time
        used += 1
    return used


@kernel
def keep_window(
    u: History, ways: Ways, a: Any, length: int, kept: Inputs, used: int
) -> tuple[Inputs, int]:
    """Keep what a state that is made again is made of: (all that is kept, how much that is)."""
    size = _size(u, ways.way[a], length)
    kept = room(kept, used, size)
    ways.way[a], ways.gap[a], ways.place[a] = WINDOW, size, used
    return kept, newest_inputs(u, size, kept, used)


@kernel
def laid_out(
    table: Table,
    arena: Arena,
    rows: I64,
    events: EventColumns,
    accepted: I64,
    after: After,
    ways: Ways,
    every: NDArray[np.bool_],
    newest: I64,
    kept: Inputs,
    length: int,
) -> Any:
    """Lay out what the wanted states are made of.

    Args:
        table: the histories, after all events.
        arena: what they hold beyond their rings.
        rows: record of each event.
        events: the events.
        accepted: which of them were accepted.
        after: of their users just after each of these.
        ways: how the states are made.
        every: per event whether its state is wanted even if it is not its record's last.
        newest: per record its last accepted one + 1.
        kept: the windows that are kept.
        length: newest events of which a state is made again; 0: no states are wanted.

    Returns:
        (scored, latest, before, start, inputs, used) as in `Taken`
    """
    count = len(accepted)
    scored, place = np.empty(count, np.int64), np.full(count, -1)
    before, start = np.empty(count, np.int64), np.empty(count + 1, np.int64)
    latest = np.empty(count, np.bool_)
    e = total = 0
    for k in range(count):
        row = rows[accepted[k]]
        if not every[accepted[k]] and newest[row] != k + 1:
            continue
        scored[e], start[e], latest[e], at = k, total, newest[row] == k + 1, k
        while at >= 0 and place[at] < 0:
            way = ways.way[at]
            if length > 0:
                if way == ONE:
                    total += 1
                elif way == WINDOW:
                    total += ways.gap[at]
                else:
                    total += _size(history(table, arena, row), way, length)
            at = ways.before[at]
        before[e] = place[at] if at >= 0 else at
        place[k] = e
        e += 1
    start[e] = total
    inputs = new_inputs(total)
    for s in range(e):
        k, end = scored[s], start[s + 1]
        while end > start[s]:
            way = ways.way[k]
            if way == ONE:
                end -= 1
                i = accepted[k]
                inputs.time[end] = after.last_time[k]
                inputs.gap[end] = ways.gap[k]
                inputs.session_age[end] = ways.place[k]
                inputs.amount[end] = np.float32(events.amount[i] / UNIT)
                inputs.item[end] = events.item[i]
                inputs.category[end] = events.category[i]
                inputs.type[end] = events.type[i]
                inputs.first[end] = after.n[k] == 1
            elif way == WINDOW:
                end -= ways.gap[k]
                _copy(kept, ways.place[k], ways.gap[k], inputs, end)
            else:
                u = history(table, arena, rows[accepted[k]])
                size = _size(u, way, length)
                end -= size
                newest_inputs(u, size, inputs, end)
            k = ways.before[k]
    return scored[:e], latest[:e], before[:e], start[:e], inputs, total


@kernel
def laid_windows(
    table: Table,
    arena: Arena,
    rows: I64,
    accepted: I64,
    after: After,
    scored: I64,
    every: NDArray[np.bool_],
    shown: I64,
    kept: Inputs,
    span: int,
) -> Any:
    """Lay out the newest ``span`` events up to each one of which a state is wanted.

    Args:
        table: the histories, after all events.
        arena: what they hold beyond their rings.
        rows: record of each event.
        accepted: which events were accepted.
        after: of their users just after each of these.
        scored: of which of these a state is wanted.
        every: per event whether its state is wanted even if it is not its record's last.
        shown: where in ``kept`` the windows of accepted events begin that are wanted for that.
        kept: these windows.
        span: how many events; 0: none are wanted.

    Returns:
        (where each one's begin, windows, how much of them counts)
    """
    begin, seen = np.zeros(len(scored), np.int64), 0
    windows = new_inputs(len(scored) * span)
    for e in range(len(scored) if span > 0 else 0):
        k, begin[e] = scored[e], seen
        if every[accepted[k]]:
            size = min(after.n[k], span)
            _copy(kept, shown[k], size, windows, seen)
            seen += size
        else:
            seen = newest_inputs(history(table, arena, rows[accepted[k]]), span, windows, seen)
    return begin, windows, seen


@kernel
def _copy(kept: Inputs, at: int, count: int, inputs: Inputs, to: int) -> None:
    inputs.time[to : to + count] = kept.time[at : at + count]
    inputs.gap[to : to + count] = kept.gap[at : at + count]
    inputs.session_age[to : to + count] = kept.session_age[at : at + count]
    inputs.amount[to : to + count] = kept.amount[at : at + count]
    inputs.item[to : to + count] = kept.item[at : at + count]
    inputs.category[to : to + count] = kept.category[at : at + count]
    inputs.type[to : to + count] = kept.type[at : at + count]
    inputs.first[to : to + count] = kept.first[at : at + count]
