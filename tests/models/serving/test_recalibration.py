"""A recalibration is signed, belongs to one model, and maps to the same bits in any batch."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.encoding import hash64
from models.errors import ArtifactError, RegistryError
from models.populations import EVENT, TIMER
from models.serving.recalibration import (
    BetaMap,
    Finding,
    Recalibration,
    Recalibrator,
    folder_of,
    read_recalibration,
    risk_code,
    same_model,
    versions_of,
    write_recalibration,
)
from models.serving.signing import (
    RECALIBRATION_CONTEXT,
    TrustedKeys,
    generate_key,
    signer,
)
from models.targets import shop_targets

TARGETS = shop_targets(6, 1, 2)
FOUND = Recalibration(
    version="20261201T000000Z",
    model_version="m1",
    model_digest="a" * 64,
    created_at=5,
    until=4,
    window_ms=3,
    maps={EVENT: {"purchase": BetaMap(0.5, 2.0, -0.2)}, TIMER: {"churn": BetaMap(1.5, 0.3, 0.4)}},
    findings=(Finding("purchase", TIMER, False, "3 labels, at least 300 are needed"),),
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    digest, signature = write_recalibration(tmp_path, FOUND, None)
    assert signature is None
    read = read_recalibration(tmp_path, "m1", FOUND.version, digest=digest, model_digest="a" * 64)
    assert read == FOUND
    assert versions_of(tmp_path, "m1") == [FOUND.version]
    assert versions_of(tmp_path, "m2") == []
    with pytest.raises(ArtifactError, match="exists already"):
        write_recalibration(tmp_path, FOUND, None)


def test_a_signed_one_is_refused_once_altered(tmp_path: Path) -> None:
    public = generate_key(tmp_path / "key")
    trusted = TrustedKeys.load([public])
    digest, signature = write_recalibration(
        tmp_path, FOUND, signer(tmp_path / "key", RECALIBRATION_CONTEXT)
    )
    trust = {"trusted": trusted, "announced": signature}
    read_recalibration(tmp_path, "m1", FOUND.version, digest=digest, **trust)
    path = folder_of(tmp_path, "m1") / f"{FOUND.version}.json"
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))
    with pytest.raises(ArtifactError, match="not the announced"):
        read_recalibration(tmp_path, "m1", FOUND.version, digest=digest, **trust)
    with pytest.raises(ArtifactError, match="not a signature of this content by a trusted key"):
        read_recalibration(tmp_path, "m1", FOUND.version, **trust)


def test_one_that_is_not_signed_is_refused_where_keys_are_trusted(tmp_path: Path) -> None:
    trusted = TrustedKeys.load([generate_key(tmp_path / "key")])
    write_recalibration(tmp_path, FOUND, None)
    with pytest.raises(ArtifactError, match="not signed"):
        read_recalibration(tmp_path, "m1", FOUND.version, trusted=trusted)
    read_recalibration(tmp_path, "m1", FOUND.version, trusted=trusted, required=False)


def test_a_signature_of_a_manifest_is_none_of_a_recalibration(tmp_path: Path) -> None:
    trusted = TrustedKeys.load([generate_key(tmp_path / "key")])
    write_recalibration(tmp_path, FOUND, signer(tmp_path / "key"))
    with pytest.raises(ArtifactError, match="not a signature of this content"):
        read_recalibration(tmp_path, "m1", FOUND.version, trusted=trusted)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_digest": "b" * 64}, "of another model.pt"),
        ({"maps": {"event": {"churn": {"a": 0.0, "b": 1.0, "c": 0.0}}}}, "does not increase"),
        ({"maps": {"event": {"churn": {"a": 1e9, "b": 1.0, "c": 0.0}}}}, "no parameters"),
        ({"maps": {"all": {}}}, "population 'all'"),
        ({"model_version": "m2"}, "of model m2"),
        ({"schema": 2}, "schema 2"),
        ({"version": 7}, "Expected `str`"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, change: dict, why: str) -> None:
    write_recalibration(tmp_path, FOUND, None)
    path = folder_of(tmp_path, "m1") / f"{FOUND.version}.json"
    content = msgspec.json.decode(path.read_bytes()) | change
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(ArtifactError, match=why):
        read_recalibration(tmp_path, "m1", FOUND.version, model_digest="a" * 64)


def test_a_missing_one_and_a_name_that_leads_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="recalibrate the model again"):
        read_recalibration(tmp_path, "m1", "gone")
    with pytest.raises(RegistryError, match="is not a version"):
        read_recalibration(tmp_path, "..", "gone")


@pytest.mark.slow
def test_the_same_bits_alone_and_in_any_batch() -> None:
    maps = Recalibrator(FOUND, TARGETS)
    rng = np.random.default_rng(4)
    said = np.concatenate([rng.random((997, 2)), np.eye(2), np.full((2, 2), 1e-9)])
    said = said.astype(np.float32)
    for population, column in ((EVENT, 0), (TIMER, 1)):
        whole = maps.apply(population, said)
        assert np.array_equal(whole[:, 1 - column], said[:, 1 - column]), "no map of the other"
        alone = np.concatenate([maps.apply(population, said[i : i + 1]) for i in range(len(said))])
        assert np.array_equal(whole, alone)
        strided = maps.apply(population, np.asfortranarray(said)[::-1])[::-1]
        assert np.array_equal(whole, strided)
        order = np.argsort(said[:, column], kind="stable")
        assert (np.diff(whole[order, column]) >= 0).all()
        one = FOUND.maps[population]["purchase" if column == 0 else "churn"]
        p = np.clip(said[:, column].astype(np.float64), 1e-7, 1 - 1e-7)
        logit = one.a * np.log(p) - one.b * np.log1p(-p) + one.c
        assert whole[:, column] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_the_code_tells_a_model_from_its_recalibrations() -> None:
    class Model:
        def __init__(self, version: str, recalibration: Recalibrator | None = None) -> None:
            self.code, self.recalibration = hash64(version), recalibration

    plain, mapped = Model("m1"), Model("m1", Recalibrator(FOUND, TARGETS))
    assert risk_code(plain) == plain.code != risk_code(mapped)
    assert same_model(risk_code(mapped), plain.code)
    assert not same_model(risk_code(mapped), Model("m2").code)
