"""Signatures of published models: ed25519 over the manifest, and through its digests over all else.

The private key is the trainer's; a worker has public keys alone. Beside the manifest lies
`manifest.sig`, the signature in base64. Keys are PEM files (PKCS #8; SubjectPublicKeyInfo).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from models.errors import ArtifactError, SigningError
from models.files import read_bounded

SIGNATURE_FILE: Final = "manifest.sig"
PUBLIC_SUFFIX: Final = ".pub"
CONTEXT: Final = b"intentstream model manifest 1\n"
"""Goes before the manifest's bytes, so that a signature made for anything else is none here."""
RECALIBRATION_CONTEXT: Final = b"intentstream recalibration 1\n"
"""Likewise of a recalibration (`models.serving.recalibration`)."""
_SIGNATURE_BYTES: Final = 1 << 10
_KEY_BYTES: Final = 64 << 10
_PRIVATE_MODE: Final = 0o600
_OTHERS: Final = 0o077

ManifestCheck = Callable[[bytes, Path], None]
"""Called with the manifest's bytes and the artifact's folder before any other file is read; raises
ArtifactError to refuse."""

Sign = Callable[[bytes], str]
"""Manifest's bytes -> signature in base64."""


def generate_key(path: Path) -> Path:
    """Write a new private key to `path`, for its owner alone, and the public one beside it.

    Returns:
        The public key's file, `path` + ".pub".

    Raises:
        SigningError: one of the files exists already or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    if public.exists():
        raise SigningError(f"{public} exists already; a key is never overwritten")
    _write_new(
        path,
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        _PRIVATE_MODE,
    )
    _write_new(
        public,
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        0o644,
    )
    return public


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a signing key.

    Raises:
        SigningError: it is missing, others than its owner may read it, or it is no ed25519 key.
    """
    data, mode = _read_key(path)
    if mode & _OTHERS:
        raise SigningError(
            f"{path}: others than its owner may read this private key (mode"
            f" {stat.S_IMODE(mode):04o}): it is not used; chmod 600 it, or make a new one with"
            " `intentstream models keygen`"
        )
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningError(
            f"{path} holds no unencrypted ed25519 private key in PEM: make one with `intentstream"
            " models keygen`"
        )
    return key


def signer(path: Path, context: bytes = CONTEXT) -> Sign:
    """What signs manifests, or what `context` stands for, with the private key in `path`.

    Raises:
        SigningError: the key cannot be used.
    """
    key = load_private_key(path)

    def sign(manifest: bytes) -> str:
        return base64.b64encode(key.sign(context + manifest)).decode("ascii")

    return sign


def key_id(key: Ed25519PublicKey) -> str:
    """A short name of a public key: the start of its SHA-256, 16 hexadecimal digits."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys whose signatures count."""

    keys: dict[str, Ed25519PublicKey]
    """Key id -> key."""

    @classmethod
    def load(cls, paths: Iterable[Path]) -> Self:
        """Read public keys.

        Raises:
            SigningError: one is missing or no ed25519 public key.
        """
        keys = [_load_public_key(path) for path in paths]
        return cls({key_id(key): key for key in keys})

    def verify(self, manifest: bytes, signature: str, where: str, context: bytes = CONTEXT) -> str:
        """Return the id of the key that made the signature; `where` names it in the error.

        Raises:
            ArtifactError: none of these did.
        """
        raw = _decode(signature, where)
        for name, key in self.keys.items():
            try:
                key.verify(raw, context + manifest)
            except InvalidSignature:
                continue
            return name
        raise ArtifactError(
            f"{where}: not a signature of this content by a trusted key"
            f" ({', '.join(self.keys) or 'none is set'}): altered, or signed by somebody else;"
            " nothing of the model was opened; sign it with the shop's key, or add the signer's"
            " public key to models.trusted_keys"
        )

    def check(self, *, required: bool, announced: str | None = None) -> ManifestCheck:
        """What refuses manifests without a good signature.

        Args:
            required: whether a model without any signature is refused too.
            announced: the announcement's own signature, which must be good as well.
        """

        def check(manifest: bytes, folder: Path) -> None:
            signature = read_signature(folder)
            if signature is not None:
                self.verify(manifest, signature, str(folder / SIGNATURE_FILE))
            elif required:
                raise ArtifactError(
                    f"{folder / SIGNATURE_FILE}: the model is not signed, and models.trusted_keys"
                    " asks for it: it was not opened; run `intentstream models sign"
                    f" {folder.name}` with the shop's key"
                )
            if announced is not None:
                self.verify(manifest, announced, f"the announcement of {folder.name}")

        return check


def read_signature(folder: Path) -> str | None:
    """The signature that lies in an artifact's folder, None where there is no such file.

    Raises:
        ArtifactError: it cannot be read.
    """
    path = folder / SIGNATURE_FILE
    try:
        data = read_bounded(path, _SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}; sign the model again") from error
    return data.decode("ascii", "replace").strip()


def write_signature(folder: Path, signature: str) -> None:
    """Put a signature beside the manifest, in place of an earlier one.

    Raises:
        SigningError: the folder cannot be written.
    """
    staged = folder / f".{SIGNATURE_FILE}.{os.getpid()}.partial"
    try:
        staged.write_text(signature + "\n", encoding="ascii")
        staged.replace(folder / SIGNATURE_FILE)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise SigningError(f"{folder}: cannot write the signature: {error}") from error


def _load_public_key(path: Path) -> Ed25519PublicKey:
    data, _ = _read_key(path)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(
            f"{path} holds no ed25519 public key in PEM: give the {PUBLIC_SUFFIX} file that"
            " `intentstream models keygen` wrote"
        )
    return key


def _read_key(path: Path) -> tuple[bytes, int]:
    try:
        return read_bounded(path, _KEY_BYTES), path.stat().st_mode
    except OSError as error:
        raise SigningError(
            f"{path}: cannot read the key: {error.strerror or error}; check models.signing_key and"
            " models.trusted_keys"
        ) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError as error:
        raise SigningError(f"{path} exists already; a key is never overwritten") from error
    except OSError as error:
        raise SigningError(f"{path}: cannot write the key: {error.strerror or error}") from error


def _decode(signature: str, where: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArtifactError(f"{where}: the signature is no base64; sign the model again") from error
