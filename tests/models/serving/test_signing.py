"""A model that was not signed by a trusted key is refused before anything of it is opened."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import msgspec
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from models.errors import ArtifactError, SigningError
from models.inputs.features import FEATURE_VERSION
from models.serving.artifact import MODEL_FILE, read_artifact, write_artifact
from models.serving.manifest import MANIFEST_FILE, read_manifest
from models.serving.registry import Registry
from models.serving.scorer import Scorer, make_golden
from models.serving.signing import (
    SIGNATURE_FILE,
    ManifestCheck,
    TrustedKeys,
    generate_key,
    load_private_key,
    read_signature,
    signer,
    write_signature,
)
from tests.models.serving.test_artifact import unpublished


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "shop"
    generate_key(path)
    return path


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def trusting(*keys: Path, required: bool = True, announced: str | None = None) -> ManifestCheck:
    trusted = TrustedKeys.load(key.with_name(f"{key.name}.pub") for key in keys)
    return trusted.check(required=required, announced=announced)


def publish(registry: Registry, version: str = "v1", key: Path | None = None) -> Path:
    manifest, script = unpublished()
    manifest = msgspec.structs.replace(manifest, version=version)
    sign = signer(key) if key else None
    registry.publish(manifest, script, make_golden(script, manifest), sign)
    return registry.path(version)


def read(folder: Path, check: ManifestCheck) -> None:
    read_artifact(folder, feature_version=FEATURE_VERSION, check=check)


def another(key: Path, name: str = "stranger") -> Path:
    path = key.with_name(name)
    generate_key(path)
    return path


def test_a_signed_model_is_served(registry: Registry, key: Path) -> None:
    folder = publish(registry, key=key)
    assert Scorer.load(folder, "cpu", check=trusting(key)).version == "v1"
    assert Scorer.load(folder, "cpu", check=trusting(another(key), key)).version == "v1"


def test_the_private_key_is_its_owners_alone_and_nothing_is_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(SigningError, match="never overwritten"):
        generate_key(key)
    key.rename(key.with_name("elsewhere"))
    with pytest.raises(SigningError, match=r"shop\.pub exists already"):
        generate_key(key)
    assert key.with_name("elsewhere").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_private_key_that_others_may_touch_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(SigningError, match=rf"mode {mode:04o}.*chmod 600"):
        load_private_key(key)


def test_what_is_no_key_is_refused(key: Path, tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    ours = load_pem_private_key(key.read_bytes(), None)
    spki = PublicFormat.SubjectPublicKeyInfo
    for number, data in enumerate(
        [
            b"",
            b"no key",
            os.urandom(100),
            other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            other.public_key().public_bytes(Encoding.PEM, spki),
        ]
    ):
        path = tmp_path / str(number)
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(SigningError, match="models keygen"):
            load_private_key(path)
        with pytest.raises(SigningError, match="models keygen"):
            TrustedKeys.load([path])
    with pytest.raises(SigningError, match="trusted_keys"):
        TrustedKeys.load([tmp_path / "none"])
    # The private key in place of the public one would have to be copied to every worker.
    with pytest.raises(SigningError, match="no ed25519 public key"):
        TrustedKeys.load([key])


def resign_as(folder: Path, key: Path) -> None:
    write_signature(folder, signer(key)((folder / MANIFEST_FILE).read_bytes()))


@pytest.mark.slow
def test_whatever_is_changed_is_refused(
    registry: Registry, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = publish(registry, "v2", key)

    def flip(folder: Path) -> None:
        data = bytearray((folder / MANIFEST_FILE).read_bytes())
        data[-2] ^= 1
        (folder / MANIFEST_FILE).write_bytes(data)

    def append(folder: Path) -> None:
        with (folder / MANIFEST_FILE).open("ab") as file:
            file.write(b" ")

    def cut(folder: Path) -> None:
        text = (folder / SIGNATURE_FILE).read_text()
        (folder / SIGNATURE_FILE).write_text(text[:40])

    def borrow(folder: Path) -> None:
        (folder / SIGNATURE_FILE).write_bytes((other / SIGNATURE_FILE).read_bytes())

    def without_context(folder: Path) -> None:
        raw = load_private_key(key).sign((folder / MANIFEST_FILE).read_bytes())
        write_signature(folder, base64.b64encode(raw).decode())

    stranger = another(key)
    tampering = [
        flip,
        append,
        cut,
        borrow,
        without_context,
        lambda folder: resign_as(folder, stranger),
        lambda folder: (folder / SIGNATURE_FILE).unlink(),
        lambda folder: (folder / SIGNATURE_FILE).write_bytes(b""),
        lambda folder: (folder / SIGNATURE_FILE).write_bytes(b"\xff" * 88),
        lambda folder: (folder / SIGNATURE_FILE).write_bytes(b"A" * 5000),
        lambda folder: (folder / MODEL_FILE).write_bytes((other / MODEL_FILE).read_bytes()[:-9]),
    ]
    folders = [publish(registry, f"w{i}", key) for i in range(len(tampering))]
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("torch opened it"))
    for spoil, folder in zip(tampering, folders, strict=True):
        read(folder, trusting(key))
        spoil(folder)
        with pytest.raises(ArtifactError):
            Scorer.load(folder, "cpu", check=trusting(key))


def test_a_pipe_in_place_of_a_file_is_refused_at_once(registry: Registry, key: Path) -> None:
    for name in (SIGNATURE_FILE, MANIFEST_FILE, MODEL_FILE):
        folder = publish(registry, f"with-{name}", key)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ArtifactError, match="no regular file"):
            read(folder, trusting(key))


def test_an_unsigned_model_is_refused_unless_that_is_allowed(registry: Registry, key: Path) -> None:
    folder = publish(registry)
    with pytest.raises(ArtifactError, match=r"not signed.*intentstream models sign v1"):
        read(folder, trusting(key))
    read(folder, trusting(key, required=False))
    resign_as(folder, another(key))
    with pytest.raises(ArtifactError, match="not a signature of this content by a trusted key"):
        read(folder, trusting(key, required=False))


def test_the_announced_signature_counts_too(registry: Registry, key: Path) -> None:
    folder = publish(registry, key=key)
    good = read_signature(folder)
    read(folder, trusting(key, announced=good))
    other = read_signature(publish(registry, "v2", key))
    for announced in (other, "", "no base64!"):
        with pytest.raises(ArtifactError, match="announcement of v1"):
            read(folder, trusting(key, announced=announced))


def test_signing_afterwards(registry: Registry, key: Path) -> None:
    folder = publish(registry)
    assert registry.sign("v1", signer(key)) == folder
    read(folder, trusting(key))
    registry.sign("v1", signer(another(key)))
    with pytest.raises(ArtifactError):
        read(folder, trusting(key))


def test_a_damaged_model_is_not_signed(registry: Registry, key: Path) -> None:
    folder = publish(registry)
    (folder / MODEL_FILE).write_bytes(b"else")
    with pytest.raises(ArtifactError, match="truncated or altered"):
        registry.sign("v1", signer(key))
    assert read_signature(folder) is None


def test_a_signature_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="cannot write the signature"):
        write_signature(tmp_path / "none", "AAAA")


def test_the_signature_is_written_with_the_artifact(tmp_path: Path, key: Path) -> None:
    manifest, script = unpublished()
    write_artifact(tmp_path / "v1", manifest, script, {}, signer(key))
    read_manifest(tmp_path / "v1", trusting(key))
