"""Candidates, their numbers, and the weights that are learnt for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.evaluation.nextevent import (
    FEATURES,
    Counts,
    Decisions,
    Sequences,
    candidates,
    fit_weights,
    gather,
)

CODES = np.array([3, 1, 2, 1, 1, 2, 4])
SEQUENCES = Sequences(CODES, np.array([0, 4]))


def test_counts_see_nothing_beyond_their_limit() -> None:
    counts = Counts(SEQUENCES, np.array([3, 7]))
    # The first user's last event, a 1, is not counted.
    assert counts.popularity.tolist() == [0, 2, 2, 1, 1]
    codes, times = counts.followers(1)
    assert dict(zip(codes.tolist(), times.tolist(), strict=True)) == {2: 2, 4: 1}
    assert codes[0] == 2
    assert len(counts.followers(4)[0]) == 0


def test_candidates_are_what_was_seen_what_follows_and_what_is_popular() -> None:
    counts = Counts(SEQUENCES, SEQUENCES.ends)
    found, columns = candidates(counts, np.array([3, 1, 3]))
    assert columns.shape == (len(found), len(FEATURES))
    told = {code: dict(zip(FEATURES, row, strict=True)) for code, row in zip(found, columns)}  # noqa: B905
    assert {1, 2, 3} <= set(found.tolist())
    assert told[3]["is the last"] == 1
    assert told[3]["1 / rank of the last sighting"] == 1
    assert told[1]["1 / rank of the last sighting"] == 0.5
    assert told[2]["seen"] == 0
    assert told[3]["log sightings"] == pytest.approx(np.log(3))
    assert told[3]["sightings, forgotten by 1"] == pytest.approx(1 + np.exp(-2))


def test_the_weights_are_those_that_made_the_choices() -> None:
    rng = np.random.default_rng(0)
    true = np.array([2.0, -1.0])
    features, moment, truth = [], [], []
    for index in range(4000):
        rows = rng.normal(0, 1, (5, 2))
        chance = np.exp(rows @ true)
        truth.append(5 * index + rng.choice(5, p=chance / chance.sum()))
        features.append(rows)
        moment.append(np.full(5, index))
    decisions = Decisions(
        torch.from_numpy(np.concatenate(features)),
        torch.from_numpy(np.concatenate(moment)),
        torch.tensor(truth),
    )
    weights, scale = fit_weights(decisions)
    assert (weights / scale).numpy() == pytest.approx(true, abs=0.12)


def test_a_moment_whose_truth_is_no_candidate_teaches_nothing() -> None:
    # Sixty popular codes; the first user goes on to what nobody had, the second to a popular one.
    codes = np.concatenate([[1, 2, 99], np.repeat(np.arange(1, 61), 2)])
    sequences = Sequences(codes, np.array([0, 3]))
    counts = Counts(sequences, np.array([2, len(codes)]))
    decisions = gather(sequences, counts, np.array([2, len(codes) - 3]), np.array([0, 1]))
    assert len(decisions.truth) == 1
