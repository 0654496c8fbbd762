"""Recalibrations: maps of a published model's probabilities, a small signed file of their own.

    <models_dir>/recalibrations/<model version>/<version>.json   the maps and their figures
                                                <version>.sig    signature over that file

A model has a map per target and population (`models.populations`): one for predictions at events
and one for timers. A recalibration belongs to one model, by version and digest. Its announcement on
the model-registry topic, within the model's own, names version, digest and signature; all are
checked before the file is read. It is data, never code.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from models.encoding import hash64
from models.errors import ArtifactError, RegistryError
from models.files import read_bounded
from models.kernels.betamap import map_all
from models.populations import POPULATIONS
from models.serving.artifact import sha256
from models.serving.manifest import MAX_TIME_MS, VERSION_PATTERN
from models.serving.signing import RECALIBRATION_CONTEXT, Sign, TrustedKeys
from models.serving.thresholds import RaiseAt, problems_of
from models.steps import F32
from models.targets import Target

FOLDER: Final = "recalibrations"
SCHEMA: Final = 1
SLOPE_FLOOR: Final = 0.05
"""Least a and b: the map increases strictly at both ends."""
LARGEST: Final = 100.0
"""Bound of the parameters: beyond it a file is damaged."""
FILE_BYTES: Final = 1 << 20
_LOW_BITS: Final = 0xFFFF
_REMEDY: Final = "recalibrate the model again: intentstream recalibrate"


class BetaMap(msgspec.Struct, frozen=True):
    """logit p' = a ln p - b ln(1 - p) + c."""

    a: float
    b: float
    c: float


IDENTITY: Final = BetaMap(1.0, 1.0, 0.0)


class Finding(msgspec.Struct, frozen=True):
    """What the gate found for one target in one population."""

    target: str
    population: str
    kept: bool
    """The map is in effect; else the identity."""
    why: str
    figures: dict[str, float] = {}
    """On labels of held-out users: "before.ece", "after.log_loss", "low", "high" (of the log-loss
    after less before), "points", "users", "ece_chance"."""


class Recalibration(msgspec.Struct, frozen=True):
    """The content of the file."""

    version: str
    model_version: str
    model_digest: str
    """SHA-256 of the model's model.pt."""
    created_at: int
    """ms since the epoch."""
    until: int
    """Labels that were complete at this event time were learnt from, ms."""
    window_ms: int
    """Labels that became complete within this time before."""
    maps: dict[str, dict[str, BetaMap]] = {}
    """Population -> target -> map; the identity where there is none."""
    findings: tuple[Finding, ...] = ()
    schema: int = SCHEMA
    raise_at: RaiseAt | None = None
    """From which mapped risk on alerts are raised, where `churn.target_precision` or
    `churn.alert_budget_per_day` asks for it."""

    @property
    def changes(self) -> bool:
        """Whether anything is another with it than without."""
        learnt = None if self.raise_at is None else self.raise_at.threshold
        return bool(self.maps) or learnt is not None


class Recalibrator:
    """A recalibration as it is applied to one model's probabilities."""

    def __init__(self, found: Recalibration, targets: tuple[Target, ...]) -> None:
        """`targets`: of the model, in its order."""
        self.version = found.version
        self.code: int = hash64(found.version) % _LOW_BITS + 1
        """1 to 65535; 0 stands for no recalibration."""
        self.raise_at = found.raise_at
        places = {target.name: column for column, target in enumerate(targets)}
        self._maps = {
            population: [
                (places[name], one.a, one.b, one.c) for name, one in maps.items() if name in places
            ]
            for population, maps in found.maps.items()
        }

    def apply(self, population: str, probabilities_NK: F32) -> F32:
        """Probabilities [N,K] of a population, mapped; the same bits in any batch."""
        maps = self._maps.get(population)
        return map_all(probabilities_NK, maps) if maps else probabilities_NK


class Recalibrated(Protocol):
    """A model that may have a recalibration."""

    code: int
    recalibration: Recalibrator | None


def recalibrated(scorer: Recalibrated, population: str, probabilities_NK: F32) -> F32:
    """What a model's probabilities [N,K] are in a population, by its recalibration."""
    found = scorer.recalibration
    return probabilities_NK if found is None else found.apply(population, probabilities_NK)


def risk_code(scorer: Recalibrated) -> int:
    """Code of a model and its recalibration; of a model alone its own code.

    Differs from the model's code in the lowest 16 bits only, see `same_model`.
    """
    return scorer.code ^ (0 if scorer.recalibration is None else scorer.recalibration.code)


def same_model(one: int, other: int) -> bool:
    """Whether two of these codes are of the same model, whatever its recalibrations."""
    return (one ^ other) <= _LOW_BITS


def folder_of(models_dir: Path, model_version: str) -> Path:
    """Where the recalibrations of a model lie.

    Raises:
        RegistryError: the name is not a version, so that it never leads elsewhere.
    """
    return models_dir / FOLDER / _checked(model_version)


def versions_of(models_dir: Path, model_version: str) -> list[str]:
    """The recalibrations of a model, the oldest first: versions begin with their time."""
    folder = folder_of(models_dir, model_version)
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


def write_recalibration(
    models_dir: Path, found: Recalibration, sign: Sign | None
) -> tuple[str, str | None]:
    """Write a new recalibration, signed where there is a key.

    Returns:
        Digest of the file, and its signature.

    Raises:
        ArtifactError: it exists already, cannot be written, or would not be read.
    """
    problem = next(_problems(found), None)
    folder = folder_of(models_dir, found.model_version)
    path = folder / f"{_checked(found.version)}.json"
    if problem is not None or path.exists():
        raise ArtifactError(f"{path}: {problem or 'exists already'}; nothing was written")
    data = msgspec.json.format(msgspec.json.encode(found), indent=2)
    signature = None if sign is None else sign(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if signature is not None:
            _write(path.with_suffix(".sig"), f"{signature}\n".encode())
        _write(path, data)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written: {error}; check space and rights"
        ) from error
    return sha256(data), signature


def read_recalibration(
    models_dir: Path,
    model_version: str,
    version: str,
    *,
    digest: str | None = None,
    model_digest: str | None = None,
    trusted: TrustedKeys | None = None,
    announced: str | None = None,
    required: bool = True,
) -> Recalibration:
    """Read and verify a recalibration.

    Args:
        models_dir: folder of published models.
        model_version: of the model that it is for.
        version: its own.
        digest: SHA-256 of the file as announced.
        model_digest: SHA-256 of the model's model.pt, likewise.
        trusted: keys whose signatures count; None: signatures are not asked for.
        announced: the announcement's signature.
        required: whether one without any signature is refused, where `trusted` is given.

    Raises:
        ArtifactError: missing, altered, not signed as demanded, or of another model.
    """
    path = folder_of(models_dir, model_version) / f"{_checked(version)}.json"
    data, signature = _read(path)
    if digest is not None and sha256(data) != digest:
        raise ArtifactError(f"{path}: its digest is not the announced {digest}; {_REMEDY}")
    if trusted is not None:
        if signature is None and required:
            raise ArtifactError(f"{path}: not signed, as models.trusted_keys demands; {_REMEDY}")
        for each, where in ((signature, str(path)), (announced, f"the announcement of {version}")):
            if each is not None:
                trusted.verify(data, each, where, RECALIBRATION_CONTEXT)
    try:
        found = msgspec.json.decode(data, type=Recalibration)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: {error}; {_REMEDY}") from error
    problem = next(_problems(found), None)
    if (found.model_version, found.version) != (model_version, version):
        problem = f"it is {found.version} of model {found.model_version}"
    elif model_digest is not None and found.model_digest != model_digest:
        problem = "it is of another model.pt of that version"
    if problem is not None:
        raise ArtifactError(f"{path}: {problem}; {_REMEDY}")
    return found


def announced_form(models_dir: Path, model_version: str, version: str) -> tuple[str, str | None]:
    """Digest and signature of a recalibration that was written before."""
    data, signature = _read(folder_of(models_dir, model_version) / f"{_checked(version)}.json")
    return sha256(data), signature


def _read(path: Path) -> tuple[bytes, str | None]:
    """Content and signature, None where there is no signature."""
    beside = path.with_suffix(".sig")
    try:
        data = read_bounded(path, FILE_BYTES)
        signature = read_bounded(beside, FILE_BYTES) if beside.exists() else None
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}; {_REMEDY}") from error
    return data, None if signature is None else signature.decode("ascii", "replace").strip()


def _problems(found: Recalibration) -> Iterator[str]:
    if found.schema != SCHEMA:
        yield f"schema {found.schema}, this program reads {SCHEMA}"
    if not 0 <= found.created_at <= MAX_TIME_MS:
        yield f"created_at is {found.created_at}"
    yield from problems_of(found.raise_at)
    for population, maps in found.maps.items():
        if population not in POPULATIONS:
            yield f"population {population!r} is none of {', '.join(POPULATIONS)}"
        for name, one in maps.items():
            values = (one.a, one.b, one.c)
            if not all(math.isfinite(v) and abs(v) <= LARGEST for v in values):
                yield f"{population}.{name}: {values} are no parameters of a map"
            elif min(one.a, one.b) < SLOPE_FLOOR:
                yield f"{population}.{name}: the map does not increase"


def _checked(version: str) -> str:
    if not VERSION_PATTERN.fullmatch(version):
        raise RegistryError(f"{version!r} is not a version: letters, digits, '.', '_' and '-' only")
    return version


def _write(path: Path, data: bytes) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with staged.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
