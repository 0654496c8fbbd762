"""Launches that are computed together: the same bits, and only the one at fault fails."""

from __future__ import annotations

import numpy as np
import pytest

from models.serving.joining import LARGE, Joining
from models.serving.scorer import Scorer
from models.steps import F32, Steps
from tests.models.micro_batches import ARCHITECTURES, micro_batch, published

SIZES = (7, 1, 0, 40)


class Asked:
    """A scorer's numbers, and how many events it was asked for each time."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.sizes: list[int] = []
        self.refused = -1

    def __call__(self, stored: F32, steps: Steps, profile: F32) -> tuple[F32, F32]:
        self.sizes.append(len(steps))
        if self.refused in profile:
            raise ValueError("not this one")
        hidden = self._scorer.advance(stored, steps)
        return hidden, self._scorer.probabilities(hidden, profile)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


def asked(architecture: str) -> Asked:
    return Asked(Scorer.of_script(*published(architecture)))


def batches(architecture: str) -> list:
    return [micro_batch(architecture, seed, events) for seed, events in enumerate(SIZES)]


@pytest.mark.slow
def test_company_changes_no_bit(architecture: str) -> None:
    compute = asked(architecture)
    alone = [compute(*batch) for batch in batches(architecture)]
    compute.sizes.clear()
    joining = Joining()
    launches = []
    for stored, steps, profile in batches(architecture):
        launches.append(joining.launch(compute, stored, steps, profile))
        stored.fill(np.nan)
    assert not any(launch.over for launch in launches)
    together = [launch.fetch() for launch in launches]
    assert compute.sizes == [sum(SIZES)]
    assert all(launch.over for launch in launches)
    for found, right in zip(together, alone, strict=True):
        for one, other in zip(found, right, strict=True):
            assert one.tobytes() == other.tobytes()
            assert one.shape == other.shape


def test_what_comes_later_is_later_company() -> None:
    compute = asked("gru")
    joining = Joining()
    first = joining.launch(compute, *micro_batch("gru", 1, 5))
    first.fetch()
    second, third = (joining.launch(compute, *micro_batch("gru", seed, 5)) for seed in (2, 3))
    third.fetch()
    assert second.over
    assert compute.sizes == [5, 10]


def test_many_events_do_not_wait() -> None:
    compute = asked("gru")
    joining = Joining()
    few, many = (joining.launch(compute, *micro_batch("gru", 1, size)) for size in (5, LARGE + 1))
    assert many.over
    assert not few.over
    assert compute.sizes == [LARGE + 1]


def test_only_the_one_at_fault_fails() -> None:
    compute = asked("gru")
    joining = Joining()
    right = [compute(*micro_batch("gru", seed, 5)) for seed in range(3)]
    launches = []
    for seed in range(3):
        stored, steps, profile = micro_batch("gru", seed, 5)
        if seed == 1:
            profile[2, 3] = compute.refused
        launches.append(joining.launch(compute, stored, steps, profile))
    for seed in (0, 2):  # the first is fetched before the one at fault
        for one, other in zip(launches[seed].fetch(), right[seed], strict=True):
            assert one.tobytes() == other.tobytes()
    with pytest.raises(ValueError, match="not this one"):
        launches[1].fetch()
