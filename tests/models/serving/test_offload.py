"""Launched and fetched numbers are those of the scorer that is asked step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.devices import HALF_TOLERANCE, Precision
from models.errors import ArtifactError
from models.serving.artifact import open_script
from models.serving.offload import Offload
from models.serving.scorer import Scorer, make_golden
from models.steps import Steps
from tests.models.micro_batches import ARCHITECTURES, TARGETS, P, micro_batch, published

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]
SINGLE_TOLERANCE = 1e-5


def offload(architecture: str, device: str, precision: Precision = "float32") -> Offload:
    script, manifest = published(architecture)
    where = torch.device(device)
    return Offload(
        open_script(script, where),
        where,
        recurrent=manifest.recurrent,
        history_length=manifest.history_length,
        precision=precision,
    )


def asked(architecture: str, batch: tuple[np.ndarray, Steps, np.ndarray]) -> list[np.ndarray]:
    """States and probabilities as the CPU's scorer gives them."""
    stored, steps, profile = batch
    scorer = Scorer.of_script(*published(architecture))
    hidden = scorer.advance(stored, steps)
    return [hidden, scorer.probabilities(hidden, profile)]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_launched_numbers_are_the_scorers(architecture: str, device: str) -> None:
    batch = micro_batch(architecture)
    found = offload(architecture, device).launch(*batch).fetch()
    for one, other in zip(found, asked(architecture, batch), strict=True):
        assert (one.shape, one.dtype) == (other.shape, np.float32)
        assert np.abs(one - other).max(initial=0) <= SINGLE_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_precision_stays_near(architecture: str, device: str) -> None:
    batch = micro_batch(architecture)
    hidden, probabilities = offload(architecture, device, "half").launch(*batch).fetch()
    assert hidden.dtype == probabilities.dtype == np.float32
    _, expected = asked(architecture, batch)
    worst = np.abs(probabilities - expected).max()
    assert worst <= HALF_TOLERANCE[torch.float16]
    # Where nothing differs at all, nothing was made in half precision.
    assert worst > 0


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_formed_while_another_runs(device: str) -> None:
    made = offload("gru", device)
    batches = [micro_batch("gru", seed) for seed in (1, 2, 3)]
    first = made.launch(*batches[0])
    second = made.launch(*batches[1])
    found = [first.fetch(), second.fetch()]
    free = set(map(id, made.idle))
    third = made.launch(*batches[2])
    found.append(third.fetch())
    assert len(free) == 2
    assert set(map(id, made.idle)) == free, "the memory of fetched launches is used again"
    for numbers, batch in zip(found, batches, strict=True):
        for one, other in zip(numbers, asked("gru", batch), strict=True):
            assert np.abs(one - other).max() <= SINGLE_TOLERANCE


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_events_are_no_failure(architecture: str) -> None:
    stored, steps, _ = micro_batch(architecture)
    none = Steps(
        steps.state_N[:0],
        steps.before_N[:0],
        steps.start_N[:0],
        steps.ids_MC[:0],
        steps.nums_MF[:0],
    )
    hidden, found = (
        offload(architecture, "cpu").launch(stored, none, np.empty((0, P), np.float32)).fetch()
    )
    assert hidden.shape == (0, stored.shape[1])
    assert found.shape == (0, len(TARGETS))


def test_a_scorer_on_the_cpu_has_its_numbers_at_once() -> None:
    batch = micro_batch("gru")
    scorer = Scorer.of_script(*published("gru"), precision="half")
    assert not scorer.overlaps
    assert scorer.precision == "float32"
    for one, other in zip(scorer.launch(*batch).fetch(), asked("gru", batch), strict=True):
        assert np.array_equal(one, other)


@NEEDS_GPU
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_a_scorer_on_a_gpu_overlaps_and_agrees_with_the_cpu(precision: Precision) -> None:
    script, manifest = published("gru")
    scorer = Scorer.of_script(script, manifest, "cuda", make_golden(script, manifest), precision)
    scorer.verify_golden()
    assert scorer.overlaps
    batch = micro_batch("gru")
    _, found = scorer.launch(*batch).fetch()
    half = precision == "half"
    tolerance = HALF_TOLERANCE[torch.float16] if half else SINGLE_TOLERANCE
    assert np.abs(found - asked("gru", batch)[1]).max() <= tolerance


@NEEDS_GPU
def test_a_launch_does_not_wait_for_the_gpu() -> None:
    made = offload("gru", "cuda")
    batch = micro_batch("gru")
    made.launch(*batch).fetch()
    torch.cuda.synchronize()
    # The stream is held up for longer than a launch can take; one that waits would end after it.
    torch.cuda._sleep(2_000_000_000)
    launched = made.launch(*batch)
    assert not torch.cuda.current_stream().query()
    launched.fetch()


def test_a_launch_that_says_something_else_is_refused() -> None:
    script, manifest = published("gru")
    scorer = Scorer.of_script(script, manifest, golden=make_golden(script, manifest))
    scorer._offload = offload("gru", "cpu")
    scorer.verify_golden()
    scorer._offload._module.calibration_shift.fill_(0.1)
    with pytest.raises(ArtifactError, match=r"set worker\.precision to float32"):
        scorer.verify_golden()
