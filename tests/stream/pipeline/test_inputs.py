"""A sample of the inputs tells whether the shop is still the one that a model was trained on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from models.inputs.features import PROFILE_FEATURES
from models.monitoring.drift import MODERATE, SEVERE, Reference
from stream.pipeline.inputs import PER_BATCH, InputWatch


def seen(shift: float, reference: Reference | None = None) -> dict[str, float]:
    rng = np.random.default_rng(1)
    shape = (4000, len(PROFILE_FEATURES))
    reference = reference or Reference.of(rng.normal(2, 1, shape).astype(np.float32), {}, {})
    watch = InputWatch(SimpleNamespace(code=7, reference=reference))
    for _ in range(300):
        batch = rng.normal(2, 1, (20, shape[1])).astype(np.float32)
        batch[:, 3] += shift
        # Beyond the sample nothing is looked at.
        batch[PER_BATCH:] = 99
        watch.add(batch)
    return watch.indices()


def test_the_feature_that_moved_is_named() -> None:
    found = seen(shift=1.0)
    assert len(found) == len(PROFILE_FEATURES)
    assert found.pop(f"feature.{PROFILE_FEATURES[3]}") > SEVERE
    assert max(found.values()) < MODERATE


def test_a_model_without_a_reference_is_not_watched() -> None:
    assert seen(1.0, Reference()) == {}
    watch = InputWatch(SimpleNamespace(code=7))
    watch.add(np.ones((3, len(PROFILE_FEATURES)), np.float32))
    assert watch.indices() == {}
