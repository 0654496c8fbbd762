"""Which device is picked, and what half precision means."""

from __future__ import annotations

import pytest
import torch

from models.devices import arithmetic, pick_device
from models.errors import ArtifactError

CPU = torch.device("cpu")


def test_auto_is_a_gpu_where_there_is_one() -> None:
    found = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto") == torch.device(found)
    assert pick_device("cpu") == CPU


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ArtifactError, match="--device cuda: torch sees no GPU here"):
        pick_device("cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ArtifactError, match="--device tpu: choose one of auto, cpu, cuda"):
        pick_device("tpu")


def test_half_precision_is_of_products_alone() -> None:
    ones = torch.ones(3, 3)
    with arithmetic(CPU, "half"):
        assert (ones @ ones).dtype == torch.float16
        assert (ones + ones).dtype == torch.float32
    with arithmetic(CPU, "float32"):
        assert (ones @ ones).dtype == torch.float32
