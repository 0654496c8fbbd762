"""A published model on disk: TorchScript, manifest and golden vector, checked before use.

    <models_dir>/<version>/model.pt        the scripted network, the whole model in one file
                           manifest.json   what it is, with the SHA-256 of the other files
                           golden.npz      inputs and the outputs that they must give
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
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.errors import ArtifactError, ModelError
from models.files import read_bounded
from models.log.cleaning import Cleaning
from models.monitoring.drift import Reference
from models.networks.base import Network
from models.serving.rankings import Ranked, Ranking, read_ranked
from models.serving.signing import SIGNATURE_FILE, ManifestCheck, Sign
from models.survival import Bins
from models.targets import Target

MANIFEST_SCHEMA: Final = 1
MODEL_FILE: Final = "model.pt"
MANIFEST_FILE: Final = "manifest.json"
GOLDEN_FILE: Final = "golden.npz"
MANIFEST_BYTES: Final = 16 << 20
FILE_BYTES: Final = 4 << 30
"""Longer files are refused before they are read: a model lies in memory as a whole."""

Golden = Mapping[str, NDArray[Any]]


class TrainingWindow(msgspec.Struct, frozen=True):
    """The data that a model was fitted on."""

    first_event: int = 0
    """Earliest event time, ms."""
    last_event: int = 0
    """Latest event time, ms."""
    events: int = 0
    users: int = 0
    examples: dict[str, int] = {}
    """Labelled points per slice: train, calibration, validation, stopping."""
    positives: dict[str, dict[str, float]] = {}
    """Slice -> target -> share of its labels that are positive: how uneven the classes are."""


class Manifest(msgspec.Struct, frozen=True):
    """What a published model is and how it was judged."""

    version: str
    architecture: str
    feature_version: str
    hidden_size: int
    history_length: int
    """Events of the ring that `encode` is given, at most."""
    targets: tuple[Target, ...]
    profile_features: tuple[str, ...]
    reference_profile: tuple[float, ...]
    """Training means of the profile features; what an alert's reasons are compared with."""
    created_at: int
    """ms since the epoch."""
    torch_version: str
    recurrent: bool = True
    """Whether `scan` carries a state on; if not, `encode` makes each anew from the last events."""
    schema: int = MANIFEST_SCHEMA
    digests: dict[str, str] = {}
    """File name -> SHA-256, hexadecimal."""
    calibration: dict[str, dict[str, float]] = {}
    """Target -> {slope, shift} of its Platt calibration."""
    metrics: dict[str, float] = {}
    """"purchase.roc_auc" and the like, on the validation slice."""
    baselines: dict[str, dict[str, float]] = {}
    """Baseline -> the same figures of it."""
    window: TrainingWindow = TrainingWindow()
    cleaning: Cleaning = msgspec.field(default_factory=Cleaning)
    """What was wrong in the log, and what was left out of it."""
    choice: str = ""
    """Why this architecture was chosen."""
    cold_start: bool = False
    """The model was not trained on the shop's data."""
    reference: Reference = Reference()
    """How features, scores and labels were distributed; what drift is measured against."""
    rankings: tuple[Ranking, ...] = ()
    """What it ranks, besides its targets, and how well."""


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


def read_manifest(folder: Path, check: ManifestCheck | None = None) -> Manifest:
    """Read and judge the manifest of an artifact; no other file is touched.

    Raises:
        ArtifactError: missing, truncated, of an unknown schema, or refused by `check`.
    """
    data = _read(folder / MANIFEST_FILE, MANIFEST_BYTES)
    if check is not None:
        check(data, folder)
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"{folder / MANIFEST_FILE}: not a manifest: {error}; publish the model again"
        ) from error
    if schema != MANIFEST_SCHEMA:
        raise ArtifactError(
            f"{folder / MANIFEST_FILE}: manifest schema {schema}, this program reads "
            f"{MANIFEST_SCHEMA}; use the matching release or publish the model again"
        )
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactError(
            f"{folder / MANIFEST_FILE}: {error}; publish the model again"
        ) from error


class _SchemaOnly(msgspec.Struct):
    schema: int


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
    try:
        Bins.of(manifest.targets)
    except ModelError as error:
        raise ArtifactError(f"{folder}: {error}; train and publish a model") from error
    script = _read_verified(folder, MODEL_FILE, manifest)
    if expected_digest is not None and manifest.digests[MODEL_FILE] != expected_digest:
        raise ArtifactError(
            f"{folder / MODEL_FILE}: digest {manifest.digests[MODEL_FILE]} is not the announced "
            f"{expected_digest}; publish the model again"
        )
    packed = _read_verified(folder, GOLDEN_FILE, manifest)
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            golden = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{folder / GOLDEN_FILE}: {error}; publish the model again") from error
    ranked = read_ranked(
        manifest.rankings,
        folder,
        lambda name, limit: _read_verified(folder, name, manifest, limit),
    )
    return Artifact(folder, manifest, script, golden, ranked)


def read_document(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Read a document that was published with a model, such as its card.

    Raises:
        ArtifactError: it is not there, or its digest is wrong.
    """
    return _read_verified(folder, name, manifest)


def _read(path: Path, limit: int = FILE_BYTES) -> bytes:
    try:
        return read_bounded(path, limit)
    except OSError as error:
        raise ArtifactError(
            f"{path}: {error.strerror or error}; the model was never published here, or its folder "
            "is not mounted"
        ) from error


def _read_verified(folder: Path, name: str, manifest: Manifest, limit: int = FILE_BYTES) -> bytes:
    data = _read(folder / name, limit)
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
