"""Where a model runs, and with how many bits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal

import torch

from models.errors import ArtifactError

DEVICES: Final = ("auto", "cpu", "cuda")

Precision = Literal["float32", "half"]
"""Of scoring away from the CPU; on the CPU it is single precision, always."""

HALF_TOLERANCE: Final = {torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest difference of a probability from single precision: 8 and 11 bits are left."""


def pick_device(device: str) -> torch.device:
    """The device named "cpu", "cuda", or "auto" (a GPU where there is one).

    Raises:
        ArtifactError: CUDA was asked for and is not there, or there is no such device.
    """
    if device not in DEVICES:
        raise ArtifactError(f"--device {device}: choose one of {', '.join(DEVICES)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ArtifactError("--device cuda: torch sees no GPU here; use --device auto or cpu")
    if device == "cuda":
        # TF32 keeps 10 bits of the mantissa: far from what the golden vector allows.
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(device)


def arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """What a network is run under: nothing, or autocast to float16 for "half".

    Autocast takes the matrix products down and leaves sums, logarithms and the purchase process in
    single precision, where 11 bits would not do.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.float16)
