"""Steps by the scan of a network equal those by the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from models.inputs.features import INT_FEATURES, NUM_FEATURES
from models.serving.scorer import Scorer
from models.steps import NOTHING, STORED, Steps, advance_by_scan
from tests.logs import gru_scorer


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return gru_scorer()


def drawn(rng: np.random.Generator, count: int, users: int) -> Steps:
    user = rng.integers(0, users, count)
    anew = rng.random(count) < 0.2
    sizes = np.where(anew, rng.integers(1, 6, count), 1)
    last: dict[int, int] = {}
    before = np.empty(count, np.int64)
    for event in range(count):
        before[event] = NOTHING if anew[event] else last.get(user[event], STORED)
        last[user[event]] = event
    inputs = int(sizes.sum())
    return Steps(
        user,
        before,
        np.cumsum(sizes) - sizes,
        rng.integers(1, 9, (inputs, len(INT_FEATURES))),
        rng.normal(size=(inputs, len(NUM_FEATURES))).astype(np.float32),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("count", "users"), [(1, 1), (60, 1), (150, 20), (0, 3)])
def test_scan_and_kernel_agree(scorer: Scorer, count: int, users: int) -> None:
    rng = np.random.default_rng(count)
    steps = drawn(rng, count, users)
    stored = rng.normal(size=(users, scorer.hidden_size)).astype(np.float32)
    kernel = scorer.advance(stored, steps)
    own, scorer._recurrence = scorer._recurrence, None
    try:
        scanned = advance_by_scan(stored, steps, scorer.scan)
    finally:
        scorer._recurrence = own
    assert scanned.shape == kernel.shape == (count, scorer.hidden_size)
    assert np.allclose(scanned, kernel, atol=1e-5)


def test_a_state_of_few_events_is_rebuilt_to_the_bit(scorer: Scorer) -> None:
    """What lets a stored record do without it."""
    rng = np.random.default_rng(4)
    count = scorer.rebuilds
    assert count > 4
    ids = rng.integers(1, 9, (1, count, len(INT_FEATURES)))
    nums = rng.normal(size=(1, count, len(NUM_FEATURES))).astype(np.float32)
    state = np.zeros((1, scorer.hidden_size), np.float32)
    one = np.array([0])
    for event in range(count):
        state = scorer.advance(state, Steps(one, one + STORED, one, ids[:, event], nums[:, event]))
        rebuilt = scorer.encode(ids[:, : event + 1], nums[:, : event + 1], one + event + 1)
        assert rebuilt.tobytes() == state.tobytes()
