"""A published model on disk: TorchScript, manifest and golden vector, checked before use.

    <models_dir>/<version>/model.pt        the scripted network, the whole model in one file
                           manifest.json   what it is, with the SHA-256 of the other files
                           golden.npz      inputs and the outputs that they must give
                           gated.pt        the network that the gate judged, see `read_gated`
                           card.md, .json  the model card
                           next_*.pt, .json  what it ranks, see `models.serving.rankings`
                           manifest.sig    signature over manifest.json, where models are signed

A scripted file is code: its digest (and, where asked for, the manifest's signature) is checked
before torch sees a byte of it, and torch is given the very bytes that were checked.
`torch.jit` is deprecated in torch 2.15; what makes and opens scripts is in this module.
"""

from __future__ import annotations

import gc
import hashlib
import io
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.errors import ArtifactError
from models.files import read_bounded
from models.inputs.features import PROFILE_FEATURES
from models.networks.base import Network
from models.serving.manifest import MANIFEST_FILE, Manifest, read_manifest, unreadable
from models.serving.rankings import Ranked, read_ranked, script_file
from models.serving.signing import SIGNATURE_FILE, ManifestCheck, Sign
from models.serving.unpacking import read_arrays, require_weights_unpacked

MODEL_FILE: Final = "model.pt"
GOLDEN_FILE: Final = "golden.npz"
GATED_FILE: Final = "gated.pt"
"""The fit that the gate judged, where another one is served; only trainers read it."""
FILE_BYTES: Final = 4 << 30
"""Longer files are refused before they are read: a model lies in memory as a whole."""

Golden = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Artifact:
    """A verified artifact in memory, not yet opened by torch."""

    folder: Path
    manifest: Manifest
    script: bytes
    golden: Golden
    ranked: Mapping[str, Ranked] = field(default_factory=dict)
    """The heads that rank, by what they rank."""


def sha256(data: bytes) -> str:
    """SHA-256 of `data`, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _jit_deprecation_accepted() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is", FutureWarning)
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is", DeprecationWarning)
        yield


def script_bytes(network: nn.Module) -> bytes:
    """A network or a head in evaluation mode as the bytes of a TorchScript file."""
    buffer = io.BytesIO()
    with _jit_deprecation_accepted(), _no_collection():
        torch.jit.save(torch.jit.script(network.eval()), buffer)
    return buffer.getvalue()


def restated(script: bytes, network: Network) -> bytes:
    """A verified TorchScript file with the weights and tables of `network`, whose code it is.

    Cheaper than to script the network again, and surely the same code.
    """
    module = open_script(script, torch.device("cpu"))
    module.load_state_dict(network.state_dict())
    buffer = io.BytesIO()
    with _jit_deprecation_accepted():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep finalisers out of the parser that `torch.jit.script` runs.

    One that prints a traceback parses too, and the parser of Python 3.11 and 3.12 counts its depth
    in one place for all: "AST constructor recursion depth mismatch" (CPython issue 106905).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_script(script: bytes, device: torch.device) -> Any:
    """TorchScript bytes -> module on `device`. Call with verified bytes only: they are code."""
    try:
        with _jit_deprecation_accepted():
            return torch.jit.load(io.BytesIO(script), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"torch {torch.__version__} cannot open the scripted model: {error}; publish it again "
            "with this version of torch"
        ) from error


def write_artifact(
    folder: Path,
    manifest: Manifest,
    script: bytes,
    golden: Golden,
    sign: Sign | None = None,
    documents: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write a complete artifact to `folder`, which must not exist yet, all of it or nothing.

    Args:
        folder: of the version.
        manifest: without the digests.
        script: TorchScript file.
        golden: inputs and outputs.
        sign: signs the manifest's bytes; none: the artifact stays unsigned.
        documents: file name -> content of what lies beside, such as the model card.

    Returns:
        The manifest as written, with the digests filled in.

    Raises:
        ArtifactError: the folder exists already or cannot be written.
    """
    if folder.exists():
        raise ArtifactError(f"{folder} exists already; a version is never overwritten")
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **golden)
    files = {**(documents or {}), MODEL_FILE: script, GOLDEN_FILE: packed.getvalue()}
    digests = {name: sha256(data) for name, data in files.items()}
    manifest = msgspec.structs.replace(manifest, digests=digests)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    if sign is not None:
        files[SIGNATURE_FILE] = f"{sign(text)}\n".encode()
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        staged.mkdir(parents=True)
        for name, data in {**files, MANIFEST_FILE: text}.items():
            _write_durably(staged / name, data)
        staged.rename(folder)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise ArtifactError(
            f"{folder}: cannot write the artifact: {error}; check space and permissions"
        ) from error
    return manifest


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_artifact(
    folder: Path,
    *,
    feature_version: str,
    expected_version: str | None = None,
    expected_digest: str | None = None,
    check: ManifestCheck | None = None,
) -> Artifact:
    """Read an artifact and verify all of it. Nothing is executed.

    Args:
        folder: the version's folder.
        feature_version: what the running featuriser produces.
        expected_version: from the announcement, where there is one.
        expected_digest: SHA-256 of model.pt, likewise.
        check: signature check of the manifest, see `models.serving.signing`.

    Raises:
        ArtifactError: what is wrong and what to do about it.
    """
    manifest = read_manifest(folder, check)
    if expected_version is not None and manifest.version != expected_version:
        raise ArtifactError(
            f"{folder} holds model {manifest.version}, not {expected_version} as announced; it was"
            " not opened; restore the folder or publish the model again"
        )
    if manifest.feature_version != feature_version:
        raise ArtifactError(
            f"{folder}: trained on features {manifest.feature_version}, this worker computes "
            f"{feature_version}; train and publish a model with this release"
        )
    if manifest.profile_features != PROFILE_FEATURES:
        raise ArtifactError(
            f"{folder}: its profile_features are not those of features {feature_version}; train and"
            " publish a model with this release"
        )
    script = _read_verified(folder, MODEL_FILE, manifest)
    require_weights_unpacked(script, folder / MODEL_FILE)
    if expected_digest is not None and manifest.digests[MODEL_FILE] != expected_digest:
        raise ArtifactError(
            f"{folder / MODEL_FILE}: digest {manifest.digests[MODEL_FILE]} is not the announced "
            f"{expected_digest}; publish the model again"
        )
    packed = _read_verified(folder, GOLDEN_FILE, manifest)
    golden = read_arrays(packed, folder / GOLDEN_FILE)
    ranked = read_ranked(
        manifest.rankings,
        folder,
        lambda name, limit: _read_verified(folder, name, manifest, limit),
    )
    for what, one in ranked.items():
        require_weights_unpacked(one.script, folder / script_file(what))
    return Artifact(folder, manifest, script, golden, ranked)


def read_gated(artifact: Artifact) -> Artifact:
    """The artifact with the fit that the gate judged as its script.

    What serves has learnt from labels of the time in which the next models are judged. This fit has
    not, so a trainer compares new models with it and goes on from it.

    Raises:
        ArtifactError: the file is missing or altered.
    """
    if artifact.manifest.served is None:
        return artifact
    script = _read_verified(artifact.folder, GATED_FILE, artifact.manifest)
    require_weights_unpacked(script, artifact.folder / GATED_FILE)
    return replace(artifact, script=script, golden={}, ranked={})


def read_document(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Read a document that was published with a model, such as its card.

    Raises:
        ArtifactError: it is not there, or its digest is wrong.
    """
    return _read_verified(folder, name, manifest)


def _read_verified(folder: Path, name: str, manifest: Manifest, limit: int = FILE_BYTES) -> bytes:
    try:
        data = read_bounded(folder / name, limit)
    except OSError as error:
        raise unreadable(folder / name, error) from error
    expected = manifest.digests.get(name)
    if expected is None:
        raise ArtifactError(
            f"{folder / MANIFEST_FILE}: no digest for {name}; publish the model again"
        )
    if sha256(data) != expected:
        raise ArtifactError(
            f"{folder / name}: SHA-256 {sha256(data)} differs from the manifest's {expected}: "
            f"truncated or altered ({len(data)} bytes); it was not opened; restore the file or "
            "publish the model again"
        )
    return data
