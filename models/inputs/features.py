"""History -> arrays: the one featuriser of serving and of training.

Serving calls it on user records, training on traces of whole logs; both end in the same functions
on the same columns, so a feature cannot differ between the two. All features are float32 computed
from exact integers in float64.

Shape suffixes: N events or users, B batch, L length, C integer event features, F numeric event
features, P profile features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.history import (
    AMOUNT_UNIT,
    I64,
    Records,
    SessionRules,
    Snapshot,
    Trace,
    amount_of,
    snapshot,
)
from models.inputs.recent import recent
from models.kernels.recent import RECENT_FEATURES

if TYPE_CHECKING:
    from models.overflow import Overflow
    from models.targets import Target

F32 = NDArray[np.float32]

FEATURE_VERSION: Final = "3"

HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
EPOCH_WEEKDAY: Final = 3 * DAY
"""1970-01-01 was a Thursday: three days after Monday."""

RHYTHM_PRIOR: Final = 7 * DAY
"""The expected gap between orders of a user of whom nothing is known."""

INT_FEATURES: Final = ("type", "item", "category")
NUM_FEATURES: Final = (
    "log_gap_hours",
    "log_session_age_hours",
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
    "log_amount",
    "first_event",
)
PROFILE_FEATURES: Final = (
    "log_silence_hours",
    "log_since_purchase_hours",
    "log_tenure_hours",
    "log_views",
    "log_searches",
    "log_favourites",
    "log_cart_adds",
    "log_cart_removes",
    "log_purchases",
    "log_refunds",
    "log_orders",
    "log_spend",
    "log_order_value",
    "log_expected_gap_hours",
    "log_overdue",
    "log_sessions",
    "log_session_age_hours",
    "has_purchase",
    "log_events_per_session",
    "log_purchase_span_hours",
    "log_orders_per_day",
    "refund_share",
    "has_discount",
    "discount_share",
    *RECENT_FEATURES,
)


def expected_gap(snapshot: Snapshot, prior: int = RHYTHM_PRIOR) -> I64:
    """The user's own rhythm: mean ms between orders.

    Shrunk towards ``prior``, as if one gap of that length had been seen.
    """
    repeats = np.maximum(snapshot.orders - 1, 0)
    span = snapshot.last_order - snapshot.first_purchase
    return np.asarray((prior + span) // (1 + repeats))


def own_horizons(targets: tuple[Target, ...], snapshot: Snapshot) -> I64:
    """Lengths [N,K] of the label windows of N users, ms; see `Target.own_horizons`."""
    found = np.empty((len(snapshot.n), len(targets)), np.int64)
    for column, target in enumerate(targets):
        gaps = expected_gap(snapshot, target.prior_gap_ms) if target.gaps else snapshot.n
        found[:, column] = target.own_horizons(gaps)
    return found


def event_inputs(trace: Trace) -> tuple[I64, F32]:
    """A trace of N events -> (ids_NC, nums_NF)."""
    events = trace.events
    return input_features(
        events.time,
        trace.gap,
        trace.session_age,
        amount_of(events.amount),
        events.item,
        events.category,
        events.type,
        trace.first,
    )


def input_features(
    time: I64,
    gap: I64,
    session_age: I64,
    amount: F32,
    item: NDArray[np.uint32],
    category: NDArray[np.uint16],
    kind: NDArray[np.uint8],
    first: NDArray[np.bool_],
) -> tuple[I64, F32]:
    """What is known of N events -> (ids_NC, nums_NF); times in ms, amounts as in the ring."""
    return _ids(kind, item, category), _nums(time, gap, session_age, amount, first)


def ring_inputs(
    records: Records, rows: NDArray[np.intp], length: int
) -> tuple[I64, F32, NDArray[np.int64]]:
    """The last ``length`` (at most R) events of each record, oldest first, right-padded with zeros.

    Returns (ids_BLC, nums_BLF, length_B).
    """
    size = records["ring"].shape[1]
    n = records["n"][rows].astype(np.int64)
    span = min(length, size)
    used = np.minimum(n, span)
    width = max(int(used.max(initial=0)), 1)
    rank = (n - used)[:, None] + np.arange(width)
    valid = np.arange(width) < used[:, None]
    entries = records["ring"][rows[:, None], rank % size]
    time = entries["time"]
    previous = np.empty_like(time)
    previous[:, 1:] = time[:, :-1]
    first_rank = n - used
    older = records["ring"]["time"][rows, (first_rank - 1) % size]
    in_ring = first_rank - 1 >= n - np.minimum(n, size)
    previous[:, 0] = np.where(in_ring, older, records["evicted_time"][rows])
    first = rank == 0
    gap = np.where(first, 0, time - previous)
    age = entries["session_age"].astype(np.int64)
    ids = _ids(entries["type"], entries["item"], entries["category"]) * valid[..., None]
    nums = _nums(time, gap, age, entries["amount"], first) * valid[..., None].astype(np.float32)
    return ids, nums, used


def unlogged(profile_NP: F32, name: str) -> NDArray[np.float64]:
    """A profile feature that is log(1 + x), as x [N]: a count, hours or currency units."""
    return np.expm1(profile_NP[:, PROFILE_FEATURES.index(name)].astype(np.float64))


def profile(snapshot: Snapshot, recent_NR: F32, now: I64) -> F32:
    """The whole histories at ``now`` (ms, one per row) -> profile_NP.

    ``recent_NR``: `models.inputs.recent` at the same times.
    """
    bought = snapshot.orders > 0
    since_purchase = np.where(bought, now - snapshot.last_order, 0)
    tenure = now - snapshot.first_time
    gap = expected_gap(snapshot)
    spend = np.maximum(snapshot.spend, 0) / AMOUNT_UNIT
    paid = np.maximum(snapshot.spend + snapshot.refunded, 1)
    discount = np.minimum(snapshot.discount, paid) / paid  # `paid` is before the discount
    columns = (
        _log_hours(now - snapshot.last_time),
        _log_hours(since_purchase),
        _log_hours(tenure),
        *(np.log1p(snapshot.counts[:, code]) for code in range(1, 8)),
        np.log1p(snapshot.orders),
        np.log1p(spend),
        np.log1p(spend / np.maximum(snapshot.orders, 1)),
        _log_hours(gap),
        np.log1p(np.maximum(since_purchase, 0) / gap),
        np.log1p(snapshot.sessions),
        _log_hours(snapshot.last_time - snapshot.session_start),
        bought,
        np.log1p(snapshot.n / np.maximum(snapshot.sessions, 1)),
        _log_hours(snapshot.last_order - snapshot.first_purchase),
        np.log1p(snapshot.orders / (np.maximum(tenure, 0) / DAY + 1)),
        np.minimum(snapshot.refunded / paid, 1.0),
        snapshot.discount > 0,
        np.where(paid > 1, discount, 0.0),
    )
    out = np.empty((len(now), len(PROFILE_FEATURES)), np.float32)
    out[:, len(columns) :] = recent_NR
    for index, column in enumerate(columns):
        out[:, index] = column
    return out


def profile_of(
    records: Records,
    rows: NDArray[np.intp],
    now: I64,
    rules: SessionRules,
    overflow: Overflow | None = None,
) -> F32:
    """The profiles [N,P] of ``records[rows]``, each at its own time.

    Args:
        records: the histories.
        rows: [N] which.
        now: [N] at or after the latest event of each, ms.
        rules: when a session ends.
        overflow: what the records hold beyond their rings; None: nothing.
    """
    state = snapshot(records, rows)
    return profile(state, recent(records, rows, now, rules, overflow), now)


def _ids(kind: NDArray[np.uint8], item: NDArray[np.uint32], category: NDArray[np.uint16]) -> I64:
    out = np.empty((*kind.shape, len(INT_FEATURES)), np.int64)
    out[..., 0], out[..., 1], out[..., 2] = kind, item, category
    return out


def _nums(time: I64, gap: I64, session_age: I64, amount: F32, first: NDArray[np.bool_]) -> F32:
    hour = (time % DAY) * (2 * np.pi / DAY)
    weekday = ((time + EPOCH_WEEKDAY) % WEEK) * (2 * np.pi / WEEK)
    columns = (
        _log_hours(gap),
        _log_hours(session_age),
        np.sin(hour),
        np.cos(hour),
        np.sin(weekday),
        np.cos(weekday),
        np.log1p(amount.astype(np.float64)),
        first,
    )
    out = np.empty((*time.shape, len(NUM_FEATURES)), np.float32)
    for index, column in enumerate(columns):
        out[..., index] = column
    return out


def _log_hours(ms: I64) -> NDArray[np.float64]:
    return np.log1p(np.maximum(ms, 0) / HOUR)
