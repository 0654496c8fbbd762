"""A damaged, altered or foreign artifact is refused before torch sees it."""

from __future__ import annotations

import ast
import gc
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.errors import ArtifactError
from models.inputs.features import FEATURE_VERSION, PROFILE_FEATURES
from models.networks import build
from models.serving import artifact
from models.serving.artifact import (
    GOLDEN_FILE,
    MODEL_FILE,
    read_artifact,
    script_bytes,
    sha256,
    write_artifact,
)
from models.serving.manifest import MANIFEST_FILE, Manifest, read_manifest
from models.serving.scorer import Scorer, make_golden, manifest_of, network_spec
from models.survival import hazard_targets
from models.targets import shop_targets

TARGETS = shop_targets(6, 1000, 2000)


def unpublished(architecture: str = "logistic") -> tuple[Manifest, bytes]:
    network = build(architecture, network_spec(TARGETS))
    manifest = manifest_of(
        network,
        "v1",
        architecture,
        history_length=8,
        targets=TARGETS,
        reference_profile=(0.5,) * len(PROFILE_FEATURES),
        created_at=1,
    )
    return manifest, script_bytes(network)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest, script = unpublished()
    path = tmp_path / "models" / "v1"
    write_artifact(path, manifest, script, make_golden(script, manifest))
    return path


def read(folder: Path, **options: object) -> artifact.Artifact:
    return read_artifact(folder, feature_version=FEATURE_VERSION, **options)  # type: ignore[arg-type]


@pytest.fixture
def torch_untouched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary: once the artifact is written, opening anything with torch fails the test."""
    del folder

    def opened(*_: object, **__: object) -> None:
        pytest.fail("torch opened a file that had to be refused")

    monkeypatch.setattr(torch.jit, "load", opened)
    monkeypatch.setattr(torch, "load", opened)


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_was_written_is_read(folder: Path) -> None:
    found = read(folder)
    assert found.manifest.targets == TARGETS
    assert found.manifest.digests[MODEL_FILE] == sha256((folder / MODEL_FILE).read_bytes())
    assert sorted(p.name for p in folder.iterdir()) == [GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["v1"]
    Scorer.load(folder, "cpu")


def test_a_version_is_never_overwritten(folder: Path) -> None:
    manifest, script = unpublished()
    with pytest.raises(ArtifactError, match="never overwritten"):
        write_artifact(folder, manifest, script, {})


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "_write_durably", full)
    manifest, script = unpublished()
    with pytest.raises(ArtifactError, match=r"No space left.*check space"):
        write_artifact(tmp_path / "v1", manifest, script, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("torch_untouched")
class TestRefused:
    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="never published here, or its folder is not"):
            Scorer.load(tmp_path / "nothing", "cpu")

    @pytest.mark.parametrize("name", [MODEL_FILE, GOLDEN_FILE, MANIFEST_FILE])
    def test_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=name):
            Scorer.load(folder, "cpu")

    @pytest.mark.parametrize("name", [MODEL_FILE, GOLDEN_FILE])
    @pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
    def test_damaged_file(self, folder: Path, name: str, damage: str) -> None:
        data = bytearray((folder / name).read_bytes())
        if damage == "truncated":
            del data[-10:]
        elif damage == "altered":
            data[len(data) // 2] ^= 1
        else:
            data.clear()
        (folder / name).write_bytes(data)
        with pytest.raises(ArtifactError, match=r"truncated or altered.*not opened"):
            Scorer.load(folder, "cpu")

    def test_swapped_for_another_model_with_its_own_manifest(self, folder: Path) -> None:
        announced = read_manifest(folder).digests[MODEL_FILE]
        (folder / MODEL_FILE).write_bytes(b"other")
        digests = read_manifest(folder).digests | {MODEL_FILE: sha256(b"other")}
        edit_manifest(folder, digests=digests)
        with pytest.raises(ArtifactError, match="is not the announced"):
            Scorer.load(folder, "cpu", expected_digest=announced)

    def test_truncated_manifest(self, folder: Path) -> None:
        text = (folder / MANIFEST_FILE).read_text()
        (folder / MANIFEST_FILE).write_text(text[: len(text) // 2])
        with pytest.raises(ArtifactError, match="not a manifest"):
            Scorer.load(folder, "cpu")

    def test_manifest_with_a_wrong_field(self, folder: Path) -> None:
        edit_manifest(folder, targets="all")
        with pytest.raises(ArtifactError, match=r"targets.*publish"):
            Scorer.load(folder, "cpu")

    def test_unknown_schema(self, folder: Path) -> None:
        edit_manifest(folder, schema=99, targets="of the future")
        with pytest.raises(ArtifactError, match="manifest schema 99, this program reads 1"):
            Scorer.load(folder, "cpu")

    def test_other_features(self, folder: Path) -> None:
        edit_manifest(folder, feature_version="0")
        with pytest.raises(ArtifactError, match="trained on features 0"):
            Scorer.load(folder, "cpu")

    def test_bins_of_a_wait_with_a_gap(self, folder: Path) -> None:
        bins = hazard_targets(6, (1000, 2000, 3000))
        edit_manifest(folder, targets=msgspec.to_builtins((*TARGETS, bins[0], bins[2])))
        with pytest.raises(ArtifactError, match="bins of a hazard must follow one another"):
            Scorer.load(folder, "cpu")

    def test_a_file_without_digest(self, folder: Path) -> None:
        edit_manifest(folder, digests={})
        with pytest.raises(ArtifactError, match=r"no digest for model\.pt"):
            Scorer.load(folder, "cpu")

    def test_signature_check_comes_first(self, folder: Path) -> None:
        seen = []

        def refuse(manifest: bytes, where: Path) -> None:
            seen.append((manifest, where))
            raise ArtifactError("not signed")

        (folder / MODEL_FILE).unlink()
        with pytest.raises(ArtifactError, match="not signed"):
            Scorer.load(folder, "cpu", check=refuse)
        assert seen == [((folder / MANIFEST_FILE).read_bytes(), folder)]

    def test_pickled_golden_arrays(self, folder: Path) -> None:
        with (folder / GOLDEN_FILE).open("wb") as file:
            np.savez(file, allow_pickle=True, ids=np.array([{"canary": 1}], object))
        digest = sha256((folder / GOLDEN_FILE).read_bytes())
        edit_manifest(folder, digests=read_manifest(folder).digests | {GOLDEN_FILE: digest})
        with pytest.raises(ArtifactError, match=GOLDEN_FILE):
            Scorer.load(folder, "cpu")


def test_bytes_that_are_no_script_give_a_clear_error(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"no script")
    digests = read_manifest(folder).digests | {MODEL_FILE: sha256(b"no script")}
    edit_manifest(folder, digests=digests)
    with pytest.raises(ArtifactError, match=r"cannot open the scripted model.*publish it again"):
        Scorer.load(folder, "cpu")


class Litter:
    """Garbage whose finaliser parses source, as printing a traceback does, and leaves more."""

    left = 10_000

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        ast.parse("-" * 40 + "a")
        if Litter.left:
            Litter.left -= 1
            Litter()


def test_a_network_is_scripted_amid_garbage_that_parses() -> None:
    before = gc.get_threshold()
    Litter()
    gc.set_threshold(50)
    try:
        _, script = unpublished()
    finally:
        gc.set_threshold(*before)
        Litter.left = 0
    assert script
