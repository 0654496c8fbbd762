"""Whatever a scripted model does when it is tried ends as a refusal with its reason."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.errors import ArtifactError
from models.serving.artifact import script_bytes, write_artifact
from models.serving.golden import golden_inputs
from models.serving.scorer import Scorer, make_golden
from tests.logs import gru_manifest, random_gru

H, K = 4, 2


class Stub(nn.Module):
    """The interface of a network, right in all that follows it."""

    @torch.jit.export
    def encode(self, ids: Tensor, nums: Tensor, length: Tensor) -> Tensor:
        return torch.zeros(ids.size(0), 4)

    @torch.jit.export
    def scan(self, hidden: Tensor, ids: Tensor, nums: Tensor, length: Tensor) -> Tensor:
        return torch.zeros(ids.size(0), ids.size(1), 4)

    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> Tensor:
        return torch.zeros(hidden.size(0), 2)


class Raises(Stub):
    @torch.jit.export
    def encode(self, ids: Tensor, nums: Tensor, length: Tensor) -> Tensor:
        raise ValueError("no such shop")


class Asserts(Stub):
    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> Tensor:
        assert hidden.size(0) < 0, "no such user"
        return hidden


class TooManyTargets(Stub):
    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> Tensor:
        return torch.zeros(hidden.size(0), 3)


class NotFinite(Stub):
    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> Tensor:
        return torch.full((hidden.size(0), 2), float("nan"))


class OtherWidth(Stub):
    @torch.jit.export
    def encode(self, ids: Tensor, nums: Tensor, length: Tensor) -> Tensor:
        return torch.zeros(ids.size(0), 5)


class OtherRows(Stub):
    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> Tensor:
        return torch.zeros(1, 2)


class NoTensor(Stub):
    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> int:
        return 7


class TakesAllMemory(Stub):
    @torch.jit.export
    def heads(self, hidden: Tensor, profile: Tensor) -> Tensor:
        return torch.zeros(1 << 60)


class WithoutHeads(nn.Module):
    @torch.jit.export
    def encode(self, ids: Tensor, nums: Tensor, length: Tensor) -> Tensor:
        return torch.zeros(ids.size(0), 4)


def published(folder: Path, module: nn.Module) -> Path:
    """A model whose digests and golden vector fit what it gives, where it gives anything."""
    script = script_bytes(module)
    manifest = msgspec.structs.replace(gru_manifest(random_gru(0), "v1"), hidden_size=H)
    try:
        golden = make_golden(script, manifest)
    except Exception:  # noqa: BLE001  # the model is broken, that is the case
        golden = {**golden_inputs(H), "hidden": np.zeros((8, H), np.float32)}
    write_artifact(folder / "v1", manifest, script, golden)
    return folder / "v1"


def test_stub_itself_is_accepted(tmp_path: Path) -> None:
    assert Scorer.load(published(tmp_path, Stub()), "cpu").hidden_size == H


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Raises(), "no such shop"),
        (Asserts(), "no such user"),
        (TooManyTargets(), rf"probabilities have shape \(8, 3\), not \(8, {K}\)"),
        (NotFinite(), "golden probabilities differs by nan"),
        (OtherWidth(), "hidden have shape"),
        (OtherRows(), r"probabilities have shape \(1, 2\)"),
        (NoTensor(), "v1: the model does not run"),
        (TakesAllMemory(), "memory"),
        (WithoutHeads(), "scan"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_model_is_refused(tmp_path: Path, module: nn.Module, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        Scorer.load(published(tmp_path, module), "cpu")


@pytest.mark.parametrize("error", [torch.jit.Error("x"), MemoryError(), KeyError("x"), Exception()])
def test_any_exception_ends_as_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder = published(tmp_path, Stub())

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(Scorer, "warm_up", fails)
    with pytest.raises(ArtifactError, match=type(error).__name__):
        Scorer.load(folder, "cpu")


def test_empty_golden_vector_proves_nothing(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(gru_manifest(random_gru(0), "v1"), hidden_size=H)
    golden = make_golden(script_bytes(Stub()), manifest)
    golden = {name: array[:0] for name, array in golden.items()}
    write_artifact(tmp_path / "v1", manifest, script_bytes(Stub()), golden)
    with pytest.raises(ArtifactError, match=r"golden\.npz is empty"):
        Scorer.load(tmp_path / "v1", "cpu")
