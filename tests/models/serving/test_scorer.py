"""Scoring: shapes, padding, golden vector, the model before any model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.blocks import BLOCK
from models.encoding import hash64
from models.errors import ArtifactError
from models.inputs import features
from models.networks import build
from models.serving.artifact import script_bytes, write_artifact
from models.serving.golden import golden_inputs
from models.serving.scorer import (
    RHYTHM_VERSION,
    Scorer,
    make_golden,
    manifest_of,
    network_spec,
)
from models.targets import shop_targets

TARGETS = shop_targets(6, 86_400_000, 30 * 86_400_000)
P, F = len(features.PROFILE_FEATURES), len(features.NUM_FEATURES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    network = build("gru", network_spec(TARGETS))
    manifest = manifest_of(
        network,
        "v1",
        "gru",
        history_length=64,
        targets=TARGETS,
        reference_profile=tuple(float(i) for i in range(P)),
        created_at=1,
    )
    script = script_bytes(network)
    path = tmp_path_factory.mktemp("models") / "v1"
    write_artifact(path, manifest, script, make_golden(script, manifest))
    return path


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return Scorer.load(folder, "cpu")


@pytest.mark.slow
def test_a_loaded_model_knows_itself(scorer: Scorer) -> None:
    assert scorer.version == "v1"
    assert scorer.code == hash64("v1")
    assert scorer.targets == TARGETS
    assert (scorer.hidden_size, scorer.history_length) == (64, 64)
    assert scorer.feature_version == features.FEATURE_VERSION
    assert not scorer.cold_start
    assert scorer.reference_profile.dtype == np.float32
    assert scorer.reference_profile.tolist() == [float(i) for i in range(P)]


@pytest.mark.parametrize("batch", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_shapes_for_any_batch(scorer: Scorer, batch: int) -> None:
    ids = np.ones((batch, 5, 3), np.int64)
    nums = np.zeros((batch, 5, F), np.float32)
    length = np.full(batch, 5)
    hidden = scorer.encode(ids, nums, length)
    assert (hidden.shape, hidden.dtype) == ((batch, 64), np.float32)
    assert scorer.scan(hidden, ids, nums, length).shape == (batch, 5, 64)
    found = scorer.probabilities(hidden, np.zeros((batch, P), np.float32))
    assert (found.shape, found.dtype) == ((batch, 2), np.float32)
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_any_batch_gives_the_same_bits(scorer: Scorer, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rng = np.random.default_rng(1)
        size = 700
        ids = rng.integers(1, 1 << 16, (size, 6, 3))
        nums = rng.normal(size=(size, 6, F)).astype(np.float32)
        length = rng.integers(0, 7, size)
        profile = rng.normal(size=(size, P)).astype(np.float32)
        hidden = scorer.encode(ids, nums, length)
        probabilities = scorer.probabilities(hidden, profile)
        for _ in range(12):
            part = rng.permutation(size)[: int(rng.integers(1, size))]
            again = scorer.encode(ids[part], nums[part], length[part])
            assert np.array_equal(again, hidden[part])
            assert np.array_equal(scorer.probabilities(again, profile[part]), probabilities[part])
    finally:
        torch.set_num_threads(before)


def test_the_callers_arrays_are_left_alone(scorer: Scorer) -> None:
    ids = np.ones((BLOCK, 2, 3), np.int64)
    nums = np.zeros((BLOCK, 2, F), np.float32)
    length = np.full(BLOCK, 2)
    hidden = np.full((BLOCK, 64), 0.25, np.float32)
    for array in (ids, nums, length, hidden):
        array.flags.writeable = False
    states = scorer.scan(hidden, ids, nums, length)
    assert (hidden == 0.25).all()
    states[:] = 0
    assert not (scorer.scan(hidden, ids, nums, length) == 0).all()


def test_golden_vector_of_another_model_is_refused(folder: Path, scorer: Scorer) -> None:
    scorer.verify_golden()
    other = Scorer.rhythm(TARGETS)
    with pytest.raises(ArtifactError, match=r"golden\.npz has no"):
        other.verify_golden()
    golden = dict(scorer._golden)
    golden["probabilities"] = golden["probabilities"] + np.float32(1e-3)
    moved = Scorer.of_script((folder / "model.pt").read_bytes(), _manifest(), golden=golden)
    with pytest.raises(ArtifactError, match=r"golden probabilities differs by 0\.001"):
        moved.verify_golden()
    golden["probabilities"] = np.full_like(golden["probabilities"], np.nan)
    broken = Scorer.of_script((folder / "model.pt").read_bytes(), _manifest(), golden=golden)
    with pytest.raises(ArtifactError, match="golden probabilities differs by nan"):
        broken.verify_golden()


def _manifest() -> object:
    network = build("gru", network_spec(TARGETS))
    return manifest_of(
        network,
        "v1",
        "gru",
        history_length=64,
        targets=TARGETS,
        reference_profile=(0.0,) * P,
        created_at=1,
    )


def test_golden_inputs_hold_no_data_of_users() -> None:
    first, second = golden_inputs(64), golden_inputs(64)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_rhythm_serves_before_any_model_is_published() -> None:
    scorer = Scorer.rhythm(TARGETS)
    assert (scorer.version, scorer.cold_start, scorer.hidden_size) == (RHYTHM_VERSION, True, 0)
    hidden = scorer.encode(
        np.zeros((3, 4, 3), np.int64), np.zeros((3, 4, F), np.float32), np.zeros(3, np.int64)
    )
    assert hidden.shape == (3, 0)
    assert scorer.probabilities(hidden, np.zeros((3, P), np.float32)).shape == (3, 2)


def test_cuda_is_refused_where_there_is_none(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ArtifactError, match="torch sees no GPU"):
        Scorer.load(folder, "cuda")
    assert Scorer.load(folder, "auto").device == "cpu"


def test_an_unknown_device_is_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="--device tpu: choose one of auto, cpu, cuda"):
        Scorer.load(folder, "tpu")


def test_manifest_survives_json() -> None:
    manifest = _manifest()
    again = msgspec.json.decode(msgspec.json.encode(manifest), type=type(manifest))
    assert again == manifest
