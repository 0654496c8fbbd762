"""What a model said when it was published: shown the same again, it must say the same.

The inputs are synthetic, so no user's data leaves with a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ArtifactError
from models.inputs import features

GOLDEN_TOLERANCE: Final = 1e-5
GOLDEN_BATCH: Final = 8
GOLDEN_LENGTH: Final = 12


def golden_inputs(hidden_size: int) -> dict[str, NDArray[Any]]:
    """Inputs of the golden vector, for a state of this width; equal on every call."""
    rng = np.random.default_rng(hidden_size)
    batch, length = GOLDEN_BATCH, GOLDEN_LENGTH
    ids = np.zeros((batch, length, len(features.INT_FEATURES)), np.int64)
    ids[:, :, 0] = rng.integers(1, 8, (batch, length))
    ids[:, :, 1] = rng.integers(0, 1 << 32, (batch, length))
    ids[:, :, 2] = rng.integers(0, 1 << 16, (batch, length))
    return {
        "ids": ids,
        "nums": rng.normal(1, 1, (batch, length, len(features.NUM_FEATURES))).astype(np.float32),
        "length": np.linspace(0, length, batch).astype(np.int64),
        "profile": np.abs(rng.normal(2, 2, (batch, len(features.PROFILE_FEATURES)))).astype(
            np.float32
        ),
    }


def require_close(
    what: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float, otherwise: str
) -> None:
    """Refuse a model whose numbers are not those expected.

    Args:
        what: names the numbers, and the model.
        found: what it says now.
        expected: what it should say.
        tolerance: greatest difference allowed.
        otherwise: what follows, and what to do.

    Raises:
        ArtifactError: they differ by more, in shape, or are not finite.
    """
    same_shape = found.shape == expected.shape
    worst = float(np.abs(found - expected).max(initial=0.0)) if same_shape else float("inf")
    if not worst <= tolerance:
        raise ArtifactError(f"{what} differs by {worst:.3g} (allowed {tolerance:.3g}) {otherwise}")


def require_shapes(
    version: str,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    hidden_size: int,
    targets: int,
) -> None:
    """Refuse a model whose outputs have other shapes than its manifest promises.

    Args:
        version: of the model, for the error.
        inputs: as `golden_inputs` gives them.
        outputs: what the model makes of them, of them "hidden", "states" and "probabilities".
        hidden_size: of the manifest, H.
        targets: how many the manifest has, K.

    Raises:
        ArtifactError: one has another shape.
    """
    batch, length, _ = inputs["ids"].shape
    expected = {
        "hidden": (batch, hidden_size),
        "states": (batch, length, hidden_size),
        "probabilities": (batch, targets),
    }
    for name, shape in expected.items():
        if outputs[name].shape != shape:
            raise ArtifactError(
                f"model {version}: {name} have shape {outputs[name].shape}, not {shape} as its"
                " manifest promises; train and publish a model with this release"
            )
