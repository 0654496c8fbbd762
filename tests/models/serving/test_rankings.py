"""Heads in an artifact: read whole and verified, or refused before torch sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from models.encoding import item_code
from models.errors import ArtifactError
from models.inputs.features import FEATURE_VERSION
from models.networks.next_head import RECENT, NextConfig, NextHead
from models.serving.artifact import read_artifact, sha256
from models.serving.manifest import MANIFEST_FILE, Manifest, read_manifest
from models.serving.rankings import (
    CODES,
    MAX_VOCABULARY,
    Ranked,
    Ranking,
    check_names,
    files_of,
    names_file,
    script_file,
)
from models.serving.registry import Registry
from models.serving.scorer import Scorer, make_golden, network_spec
from stream.config import learning_settings
from tests.models.serving.test_artifact import TARGETS, unpublished
from tests.ranked import random_head

pytestmark = pytest.mark.slow

WHATS = ("category", "item")
RANKINGS = tuple(Ranking(what, 12, 345, 0.9, {"ndcg_10": 0.5}) for what in WHATS)
FILES = [name(what) for what in WHATS for name in (script_file, names_file)]


def published(
    folder: Path, rankings: tuple[Ranking, ...] = RANKINGS, ranked: dict[str, Ranked] | None = None
) -> Path:
    if ranked is None:
        ranked = {what: random_head(what, 0) for what in WHATS}
    manifest, script = unpublished()
    manifest = msgspec.structs.replace(manifest, rankings=rankings)
    golden = make_golden(script, manifest, ranked)
    registry = Registry(folder)
    written = registry.publish(manifest, script, golden, documents=files_of(ranked))
    return registry.resolve(written.version)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return published(tmp_path / "models")


def alter(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes in a file's place, with a manifest that knows of it."""
    (folder / name).write_bytes(data)
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["digests"][name] = sha256(data)
    path.write_text(json.dumps(manifest))


def rank(scorer: Scorer, what: str, k: int = 5) -> tuple[Any, Any]:
    ids, nums = np.zeros((2, 1, 3), np.int64), np.zeros((2, 1, 8), np.float32)
    return scorer.rank(what, np.zeros((2, 0), np.float32), ids, nums, np.zeros(2, np.int64), k)


def test_what_is_published_ranks(folder: Path) -> None:
    scorer = Scorer.load(folder, "cpu")
    assert set(scorer.ranks) == set(WHATS)
    assert scorer.shown == RECENT
    for what in WHATS:
        names, shares = rank(scorer, what)
        assert names.shape == shares.shape == (2, 5)
        assert all(name.startswith(f"{what}-") for name in names.ravel())
    manifest = read_manifest(folder)
    assert manifest.rankings == RANKINGS
    assert set(FILES) < set(manifest.digests)


def test_no_more_names_are_told_than_there_are(folder: Path) -> None:
    names, shares = rank(Scorer.load(folder, "cpu"), "item", 10_000)
    assert len(set(names[0])) == names.shape[1] == shares.shape[1] < 100


def test_a_model_without_rankings_opens_as_before(tmp_path: Path) -> None:
    scorer = Scorer.load(published(tmp_path, (), {}), "cpu")
    assert (scorer.ranks, scorer.shown) == ((), 0)


def test_a_manifest_of_before_there_were_rankings_is_read(tmp_path: Path) -> None:
    folder = published(tmp_path, (), {})
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    del manifest["rankings"]
    path.write_text(json.dumps(manifest))
    assert read_manifest(folder).rankings == ()
    Scorer.load(folder, "cpu")


class TestRefused:
    @pytest.fixture(autouse=True)
    def torch_untouched(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def opened(*_: object, **__: object) -> None:
            pytest.fail("torch opened a file that had to be refused")

        monkeypatch.setattr(torch.jit, "load", opened)

    @pytest.mark.parametrize("name", FILES)
    def test_a_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=name):
            Scorer.load(folder, "cpu")

    @pytest.mark.parametrize("name", FILES)
    def test_an_altered_file(self, folder: Path, name: str) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(ArtifactError, match=r"truncated or altered.*not opened"):
            Scorer.load(folder, "cpu")

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_that_is_too_long(
        self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("models.serving.rankings.NAMES_BYTES", 100)
        monkeypatch.setattr("models.serving.rankings.HEAD_BYTES", 100)
        with pytest.raises(ArtifactError, match=r"bytes, at most 100 are read"):
            Scorer.load(folder, "cpu")

    @pytest.mark.parametrize("what", ["type", "../../etc/passwd"])
    def test_what_nobody_ranks(self, folder: Path, what: str) -> None:
        path = folder / MANIFEST_FILE
        manifest = json.loads(path.read_text())
        manifest["rankings"][0]["what"] = what
        path.write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError, match="this release category and item"):
            Scorer.load(folder, "cpu")

    @pytest.mark.parametrize(
        "data",
        [
            b"[]",
            b"{",
            b'{"what":"item","names":[]}',
            b'{"what":"item","names":[""]}',
            b'{"what":"item","names":[3]}',
        ],
    )
    def test_names_that_are_none(self, folder: Path, data: bytes) -> None:
        alter(folder, "next_item.json", data)
        with pytest.raises(ArtifactError, match=r"next_item\.json: "):
            Scorer.load(folder, "cpu")


def test_a_head_that_is_no_script_is_refused(folder: Path) -> None:
    alter(folder, "next_item.pt", b"no script")
    with pytest.raises(ArtifactError, match="cannot open the scripted model"):
        Scorer.load(folder, "cpu")


def test_a_network_in_place_of_a_head_is_refused(folder: Path) -> None:
    alter(folder, "next_item.pt", (folder / "model.pt").read_bytes())
    with pytest.raises(ArtifactError, match="does not run as networks of this release do"):
        Scorer.load(folder, "cpu")


def test_names_of_other_codes_are_refused(folder: Path) -> None:
    data = json.loads((folder / "next_item.json").read_bytes())
    data["names"][3] = "another"
    alter(folder, "next_item.json", json.dumps(data).encode())
    with pytest.raises(ArtifactError, match=r"next_item\.json: .* not those of the .* codes"):
        Scorer.load(folder, "cpu")


def test_the_head_of_another_vocabulary_is_refused_by_its_golden_numbers(
    tmp_path: Path, folder: Path
) -> None:
    other = random_head("item", 0, seed=9)
    alter(folder, "next_item.pt", other.script)
    with pytest.raises(ArtifactError, match="golden next_item differs by"):
        Scorer.load(folder, "cpu")


def test_names_are_checked_one_by_one() -> None:
    names = ("shoe", "sock")
    codes = np.array([item_code(name) for name in names])
    check_names("item", names, codes)
    for wrong in (codes[::-1], codes[:1], codes + 1):
        with pytest.raises(ArtifactError, match="not those"):
            check_names("item", names, wrong)


def test_all_that_is_ranked_has_codes() -> None:
    assert set(CODES) == set(WHATS)
    spec = network_spec(TARGETS)
    for what in CODES:
        codes = torch.tensor([1, 2])
        NextHead(spec, 0, codes, torch.ones(3), NextConfig(what))


def test_rankings_in_the_manifest_survive_json() -> None:
    manifest, _ = unpublished()
    manifest = msgspec.structs.replace(manifest, rankings=RANKINGS)
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


def test_an_artifact_holds_what_is_ranked(folder: Path) -> None:
    artifact = read_artifact(folder, feature_version=FEATURE_VERSION)
    assert set(artifact.ranked) == set(WHATS)
    assert artifact.ranked["item"].script == (folder / "next_item.pt").read_bytes()


def test_the_settings_know_the_bound() -> None:
    assert learning_settings.MAX_VOCABULARY == MAX_VOCABULARY
