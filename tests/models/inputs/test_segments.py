"""Segments read off the profile mean the same as the history that it came from."""

from __future__ import annotations

import numpy as np

from models.history import SessionRules, Snapshot, history_dtype
from models.inputs.apply import apply_in_order
from models.inputs.features import RECENT_FEATURES, profile
from models.inputs.segments import COLD, Evidence, segments
from tests.models.shop import shop_log


def snapshots() -> Snapshot:
    ordered = shop_log(users=60, days=40)
    rows = np.unique(ordered.users, return_inverse=True)[1]
    order = np.lexsort((ordered.events.time, rows))
    records = np.zeros(rows.max() + 1, history_dtype(16))
    return apply_in_order(records, rows[order], ordered.events.take(order), SessionRules()).snapshot


def without_recent(state: Snapshot) -> np.ndarray:
    return np.zeros((len(state.n), len(RECENT_FEATURES)), np.float32)


def test_evidence_is_the_same_from_records_and_from_profiles() -> None:
    state = snapshots()
    features = profile(state, without_recent(state), state.last_time)
    for evidence in (Evidence(5, 0), Evidence(0, 2), Evidence(40, 3), Evidence()):
        expected = evidence.lacking(state)
        assert np.array_equal(evidence.lacking_by_profile(features), expected)
        assert np.array_equal(segments(features, evidence)[COLD], expected)
        assert expected.any() == (evidence != Evidence())


def test_each_kind_of_segment_holds_every_point_once() -> None:
    state = snapshots()
    features = profile(state, without_recent(state), state.last_time)
    found = segments(features, Evidence(5, 0))
    for kind in ("events", "orders", "value", "silence hours"):
        parts = [mask for name, mask in found.items() if name.startswith(f"{kind}:")]
        assert len(parts) >= 3
        assert np.array_equal(np.sum(parts, axis=0), np.ones(len(state.n)))
    assert np.array_equal(found["events: 5 to 19"], (state.n >= 5) & (state.n < 20))
    assert np.array_equal(found["orders: 0 to 0"], state.orders == 0)
    spend = state.spend[state.spend > 0]
    assert np.array_equal(found["value: high"], state.spend > np.median(spend))
