"""The folder of models."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.errors import ArtifactError, RegistryError
from models.serving.manifest import MANIFEST_FILE, Manifest
from models.serving.registry import Registry
from tests.models.serving.test_artifact import unpublished


def publish(registry: Registry, version: str, created_at: int = 1) -> Manifest:
    manifest, script = unpublished()
    manifest = msgspec.structs.replace(manifest, version=version, created_at=created_at)
    return registry.publish(manifest, script, {})


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "none")
    assert registry.versions() == []
    assert registry.latest() is None
    with pytest.raises(RegistryError, match=r"published here: none.*intentstream train"):
        registry.resolve("v1")


def test_published_versions_are_listed_and_resolved(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    publish(registry, "b", created_at=1)
    publish(registry, "a", created_at=2)
    assert registry.versions() == ["a", "b"]
    assert registry.resolve("b") == tmp_path / "b"
    latest = registry.latest()
    assert latest is not None
    assert latest.version == "a"
    with pytest.raises(RegistryError, match="published here: a, b"):
        registry.resolve("c")


def test_half_written_and_foreign_folders_are_no_versions(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    (tmp_path / ".v2.1.partial").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("x")
    publish(registry, "v1")
    assert registry.versions() == ["v1"]


def test_a_damaged_manifest_is_listed_with_its_error(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    publish(registry, "good")
    publish(registry, "torn")
    (tmp_path / "torn" / MANIFEST_FILE).write_text("{")
    found = dict(registry.manifests())
    assert isinstance(found["good"], Manifest)
    assert isinstance(found["torn"], ArtifactError)
    latest = registry.latest()
    assert latest is not None
    assert latest.version == "good"


@pytest.mark.parametrize("version", ["..", "../x", "/etc", "a/b", "", ".hidden", "a\n", "x" * 200])
def test_a_version_never_leads_out_of_the_folder(tmp_path: Path, version: str) -> None:
    with pytest.raises(RegistryError, match="is not a model version"):
        Registry(tmp_path).resolve(version)
