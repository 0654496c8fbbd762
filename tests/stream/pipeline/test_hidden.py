"""A model without recurrence gives the same bits however its events arrive and are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.history import Events, SessionRules
from models.inputs.features import PROFILE_FEATURES
from models.networks import build
from models.overflow import Overflow
from models.serving.artifact import script_bytes
from models.serving.scorer import Scorer, manifest_of, network_spec
from models.targets import shop_targets
from stream.pipeline.hidden import encode_rows
from stream.pipeline.layout import Layout
from stream.pipeline.step import TimeRules, judge

DAY = 86_400_000
START = 1_600_000_000_000
RING, USERS, EVENTS = 8, 5, 90
RULES = TimeRules(SessionRules(), grace=3_600_000, ttl=40 * DAY)


@pytest.fixture(scope="module", params=["transformer", "lru"])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    targets = shop_targets(6, 7 * DAY, 30 * DAY)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = build(request.param, network_spec(targets), 16)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    manifest = manifest_of(
        network,
        "test",
        request.param,
        history_length=RING,
        targets=targets,
        reference_profile=(0.0,) * len(PROFILE_FEATURES),
        created_at=1,
    )
    return Scorer.of_script(script_bytes(network), manifest)


def log(*, disorder: bool) -> tuple[np.ndarray, Events]:
    """Events of a few users: runs longer than the ring, disorder within the grace, long silence."""
    rng = np.random.default_rng(8)
    times = START + np.sort(rng.integers(0, 20 * DAY, EVENTS))
    times[60:] += 60 * DAY
    if disorder:
        times = times - rng.integers(0, 3_000_000, EVENTS) * (rng.random(EVENTS) < 0.4)
    rows = rng.integers(0, USERS, EVENTS)
    rows[20:40] = 1
    events = Events(
        times.astype(np.int64),
        rng.permutation(np.arange(1, EVENTS + 1)).astype(np.uint64),
        rng.integers(1, 8, EVENTS).astype(np.uint8),
        rng.integers(1, 1 << 32, EVENTS).astype(np.uint32),
        rng.integers(1, 1 << 16, EVENTS).astype(np.uint16),
        rng.integers(1, 10**6, EVENTS),
        np.zeros(EVENTS, np.uint32),
        np.ones(EVENTS, np.uint32),
    )
    return rows.astype(np.intp), events


def run(
    scorer: Scorer, cuts: list[int], *, disorder: bool, every: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(records, probabilities by event) after the log in batches that end at `cuts`.

    ``every``: not only the last event of each user in a batch is scored.
    """
    rows, events = log(disorder=disorder)
    records = np.zeros(USERS, Layout(RING, 16).dtype)
    records["offset"] = -1
    records["model"] = scorer.code
    scores = np.full((EVENTS, len(scorer.targets)), np.nan, np.float32)
    overflow = Overflow(len(records))
    for lo, hi in zip([0, *cuts], [*cuts, EVENTS], strict=True):
        part = slice(lo, hi)
        offsets = np.arange(lo, hi)
        part_events = events.take(part)
        wanted = np.full(hi - lo, every)
        judging = judge(
            records, rows[part], offsets, part_events, scorer, RULES, overflow, every=wanted
        )
        judged = judging.finish()
        scores[lo + judged.accepted[judged.scored]] = judged.probabilities
    return records, scores


@pytest.mark.slow
@pytest.mark.parametrize("disorder", [False, True])
def test_states_and_scores_do_not_depend_on_the_batches(scorer: Scorer, *, disorder: bool) -> None:
    records, scores = run(scorer, list(range(1, EVENTS)), disorder=disorder)
    assert np.isfinite(scores).any()
    for cuts in ([], [7, 33, 35], [50]):
        again, others = run(scorer, cuts, disorder=disorder)
        assert np.array_equal(scores, others, equal_nan=True)
        assert again.tobytes() == records.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("disorder", [False, True])
def test_last_scores_do_not_depend_on_those_before(scorer: Scorer, *, disorder: bool) -> None:
    for cuts in ([], [7, 33, 35], [50]):
        records, scores = run(scorer, cuts, disorder=disorder)
        again, others = run(scorer, cuts, disorder=disorder, every=False)
        asked = np.isfinite(others)
        assert 0 < asked.sum() < np.isfinite(scores).sum()
        assert np.array_equal(scores[asked], others[asked])
        assert again.tobytes() == records.tobytes()


def test_the_state_is_what_the_ring_encodes_to(scorer: Scorer) -> None:
    if scorer.recurrent:
        pytest.skip("a recurrence remembers more than the ring")
    records, _ = run(scorer, [7, 33], disorder=True)
    rebuilt = records.copy()
    encode_rows(rebuilt, np.arange(USERS), scorer)
    assert rebuilt.tobytes() == records.tobytes()
