"""The manifest of a published model, and what each of its fields may contain.

A worker uses these fields long after a model is loaded: at the first alert, at the first drift
index, in each prediction. So a value that would fail there is refused when the manifest is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from models.errors import ArtifactError, ModelError
from models.files import read_bounded
from models.log.cleaning import Cleaning
from models.monitoring.drift import Reference
from models.networks.next_head import WHATS
from models.serving.rankings import Ranking
from models.serving.thresholds import RaiseAt, problems_of
from models.survival import Bins
from models.targets import ABSENT, AMOUNT, ANY, CHURN, HAZARD, OCCURS, Target
from schemas.events import EventType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.serving.signing import ManifestCheck

MANIFEST_SCHEMA: Final = 1
MANIFEST_FILE: Final = "manifest.json"
MANIFEST_BYTES: Final = 16 << 20
VERSION_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_HIDDEN: Final = 4096
"""Widest hidden state: the warm-up allocates memory for it before anything else is known."""
MAX_LENGTH: Final = 4096
"""Longest window of events, likewise."""
MAX_TIME_MS: Final = 253_402_300_799_999
"""The end of the year 9999: the last time that Python's calendar knows, ms since the epoch."""
MIN_TIME_MS: Final = -62_135_596_800_000
"""The beginning of the year 1."""
MAX_HORIZON_MS: Final = 100 * 366 * 86_400_000
"""A century: time plus horizon stays far from the end of 64 bits."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_KINDS: Final = (OCCURS, ABSENT, HAZARD, AMOUNT)
_MOST: Final = 1e9
"""Bound of an amount, which is kept in units of 1/10,000 in 64 bits."""
_MOST_GAPS: Final = 1e6
_SHARE_ERROR: Final = 1e-6


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


class FitSpan(msgspec.Struct, frozen=True):
    """What a fit has learnt from."""

    first: int = 0
    """Moment of its earliest point, ms."""
    last: int = 0
    """Moment of its latest point, ms."""
    points: int = 0
    calibrated_on: int = 0
    """Points of other users, or later ones, that calibrated it."""


class SelfSupervision(msgspec.Struct, frozen=True):
    """What a network over sequences has learnt of events themselves, without labels."""

    pretrain_task: str = ""
    """What it learnt before the fit, "next_event" or "masked_event"; empty: nothing."""
    pretrain_epochs: int = 0
    """Passes over the training windows."""
    pretrain_mask: float = 0.0
    """Share of the events that were masked."""
    next_action_weight: float = 0.0
    """Weight of the auxiliary next-action loss during the fit; 0: none."""


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
    penalties: dict[str, float] = {}
    """Target -> L2 penalty of the linear part; empty where a fit did not touch it."""
    metrics: dict[str, float] = {}
    """"purchase.roc_auc" and the like, on the validation slice."""
    baselines: dict[str, dict[str, float]] = {}
    """Baseline -> the same figures of it."""
    window: TrainingWindow = TrainingWindow()
    gated: FitSpan = FitSpan()
    """What the fit has learnt from that the gate judged; all figures are of it."""
    served: FitSpan | None = None
    """What the published weights have learnt from, where they were fitted again after the gate."""
    cleaning: Cleaning = msgspec.field(default_factory=Cleaning)
    """What was wrong in the log, and what was left out of it."""
    left_out: dict[str, str] = {}
    """Target that was asked for -> why it is not predicted."""
    self_supervision: SelfSupervision = SelfSupervision()
    """What it has learnt without labels."""
    choice: str = ""
    """Why this architecture was chosen."""
    cold_start: bool = False
    """The model learnt from no labels of the shop's data."""
    raises: bool = True
    """Whether it may raise alerts; a cold-start model whose check failed may not."""
    raise_at: RaiseAt | None = None
    """From which risk on alerts are raised, where `churn.target_precision` or
    `churn.alert_budget_per_day` asks for it."""
    reference: Reference = Reference()
    """How features, scores and labels were distributed; what drift is measured against."""
    rankings: tuple[Ranking, ...] = ()
    """What it ranks, besides its targets, and how well."""


class _SchemaOnly(msgspec.Struct):
    schema: int


def read_manifest(folder: Path, check: ManifestCheck | None = None) -> Manifest:
    """Read and verify the manifest of an artifact; no other file is read but its signature.

    Raises:
        ArtifactError: missing, truncated, of an unknown schema, with a field that cannot be, or
            refused by `check`.
    """
    path = folder / MANIFEST_FILE
    try:
        data = read_bounded(path, MANIFEST_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if check is not None:
        check(data, folder)
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a manifest: {error}; publish the model again") from error
    if schema != MANIFEST_SCHEMA:
        raise ArtifactError(
            f"{path}: manifest schema {schema}, this program reads {MANIFEST_SCHEMA}; use the"
            " matching release or publish the model again"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: {error}; publish the model again") from error
    problem = next(problems(manifest), None)
    if problem is not None:
        raise ArtifactError(f"{path}: {problem}; it was not opened; publish the model again")
    return manifest


def unreadable(path: Path, error: OSError) -> ArtifactError:
    """What to raise where a file of an artifact cannot be read."""
    return ArtifactError(
        f"{path}: {error.strerror or error}; the model was never published here, or its folder is"
        " not mounted"
    )


def problems(manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong in the fields of a manifest, each with the field and the limit."""
    if not VERSION_PATTERN.fullmatch(manifest.version):
        yield f"version {manifest.version!r}: letters, digits, '.', '_' and '-' only"
    if not manifest.architecture:
        yield "architecture is empty"
    yield from _out_of_range("hidden_size", manifest.hidden_size, 0, MAX_HIDDEN)
    yield from _out_of_range("history_length", manifest.history_length, 1, MAX_LENGTH)
    yield from _out_of_range("created_at", manifest.created_at, 0, MAX_TIME_MS)
    yield from _out_of_range(
        "window.first_event", manifest.window.first_event, MIN_TIME_MS, MAX_TIME_MS
    )
    yield from _out_of_range(
        "window.last_event", manifest.window.last_event, MIN_TIME_MS, MAX_TIME_MS
    )
    expected = len(manifest.profile_features)
    if len(manifest.reference_profile) != expected:
        yield (
            f"reference_profile has {len(manifest.reference_profile)} numbers, not one for each of"
            f" the {expected} profile_features"
        )
    # As the worker uses it: in single precision a large number is infinite.
    with np.errstate(over="ignore"):
        if not np.isfinite(np.array(manifest.reference_profile, np.float32)).all():
            yield "reference_profile has a number that is not finite in single precision"
    yield from _in_targets(manifest.targets)
    yield from _in_reference(manifest.reference)
    yield from _in_rankings(manifest.rankings)
    yield from problems_of(manifest.raise_at)


def _out_of_range(field: str, value: int, low: int, high: int) -> Iterator[str]:
    if not low <= value <= high:
        yield f"{field} is {value}, not from {low} to {high}"


def _in_targets(targets: tuple[Target, ...]) -> Iterator[str]:
    if not targets:
        yield "targets are empty"
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        yield f"targets have a name twice: {', '.join(names)}"
    types = {ANY, *(int(each) for each in EventType)}
    for target in targets:
        yield from _in_intent(target)
        where = f"target {target.name!r}"
        if not _NAME.fullmatch(target.name):
            yield f"{where}: a name has lower-case letters, digits and '_' only"
        if target.kind not in _KINDS:
            yield f"{where}: kind {target.kind!r} is none of {', '.join(_KINDS)}"
        if target.name == CHURN and target.kind != ABSENT:
            yield f"{where}: kind {target.kind!r}, but alerts need {ABSENT!r}"
        if target.event_type not in types:
            yield f"{where}: event_type {target.event_type} is no type of an event"
        yield from _out_of_range(f"{where}: horizon_ms", target.horizon_ms, 1, MAX_HORIZON_MS)
        yield from _out_of_range(f"{where}: after_ms", target.after_ms, 0, target.horizon_ms - 1)
        yield from _in_own_horizon(target, where)
        if target.kind == AMOUNT and not 0 < target.most < _MOST:
            yield f"{where}: most is {target.most}, not an amount of money"
    try:
        Bins.of(targets)
    except ModelError as error:
        yield str(error)


def _in_own_horizon(target: Target, where: str) -> Iterator[str]:
    if not 0 <= target.gaps <= _MOST_GAPS:
        yield f"{where}: gaps is {target.gaps}, not from 0 to {_MOST_GAPS:g}"
    yield from _out_of_range(f"{where}: floor_ms", target.floor_ms, 0, target.horizon_ms)
    yield from _out_of_range(f"{where}: prior_gap_ms", target.prior_gap_ms, 0, MAX_HORIZON_MS)
    if target.gaps and not target.needs_orders:
        yield f"{where}: gaps between orders are of {ABSENT!r} purchases only"


def _in_intent(target: Target) -> Iterator[str]:
    where = f"target {target.name!r}"
    if target.in_session and not (target.at_events and target.kind == OCCURS):
        yield f"{where}: in_session without at_events or not of kind {OCCURS!r}"
    if target.event_type == ANY and not target.at_events:
        yield f"{where}: all events decide it, but it is not predicted at_events"


def _in_reference(reference: Reference) -> Iterator[str]:
    for name, found in reference.histograms.items():
        edges, shares = np.array(found.edges), np.array(found.shares)
        if len(shares) != len(edges) + 1:
            yield f"reference {name!r}: {len(shares)} shares for {len(edges)} edges, not one more"
        elif not (np.diff(edges) > 0).all() or not np.isfinite(edges).all():
            yield f"reference {name!r}: the edges do not ascend"
        elif (shares < 0).any() or not abs(shares.sum() - 1) <= _SHARE_ERROR:
            yield f"reference {name!r}: the shares do not sum to 1"


def _in_rankings(rankings: tuple[Ranking, ...]) -> Iterator[str]:
    names = [ranking.what for ranking in rankings]
    if len(set(names)) < len(names):
        yield f"rankings have a name twice: {', '.join(names)}"
    unknown = sorted(set(names) - set(WHATS))
    if unknown:
        yield f"it ranks {', '.join(map(repr, unknown))}, this release {' and '.join(WHATS)}"
