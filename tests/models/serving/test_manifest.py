"""A manifest with a field that would fail later is refused when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.errors import ArtifactError
from models.inputs.features import PROFILE_FEATURES
from models.monitoring.drift import Histogram, Reference
from models.serving.manifest import MANIFEST_BYTES, MANIFEST_FILE, Manifest, read_manifest
from models.serving.rankings import Ranking
from models.serving.registry import Registry
from models.survival import hazard_targets
from models.targets import ANY, CHURN, OCCURS, SPEND, Target, shop_targets
from tests.logs import gru_manifest, random_gru

TARGETS = shop_targets(6, 1_000, 2_000)
PROFILE = (0.0,) * len(PROFILE_FEATURES)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Write a good manifest with some fields changed; return its folder."""

    def write(**changes: Any) -> Path:
        manifest = gru_manifest(random_gru(0), "v1")
        folder = tmp_path / "v1"
        folder.mkdir(exist_ok=True)
        fields = json.loads(msgspec.json.encode(manifest)) | json.loads(
            msgspec.json.encode(changes)
        )
        (folder / MANIFEST_FILE).write_text(json.dumps(fields))
        return folder

    return write


def test_good_manifest_is_read(written: Callable[..., Path]) -> None:
    reference = Reference({"feature.x": Histogram((0.0, 1.0), (0.5, 0.25, 0.25))})
    targets = (*TARGETS, *hazard_targets(6, [10, 20]), Target(SPEND, "amount", 6, 9, most=5.0))
    found = read_manifest(
        written(
            reference=reference, targets=targets, rankings=[Ranking("item"), Ranking("category")]
        )
    )
    assert (found.reference, found.targets) == (reference, targets)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reference_profile": ()}, f"0 numbers, not one for each of the {len(PROFILE)}"),
        ({"reference_profile": PROFILE[:-1]}, "not one for each"),
        ({"reference_profile": (*PROFILE, 0.0)}, "not one for each"),
        ({"reference_profile": (*PROFILE[:-1], 1e300)}, "not finite in single precision"),
        ({"reference_profile": (*PROFILE[:-1], "a")}, "reference_profile"),
        ({"hidden_size": -1}, "hidden_size is -1, not from 0 to"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"hidden_size": 10**30}, "hidden_size is 1000000"),
        ({"hidden_size": 1.5}, "hidden_size"),
        ({"history_length": 0}, "history_length is 0, not from 1"),
        ({"history_length": 10**9}, "history_length"),
        ({"created_at": 10**18}, "created_at"),
        ({"created_at": -1}, "created_at"),
        ({"window": {"last_event": 10**18}}, "window.last_event"),
        ({"window": {"first_event": -(10**18)}}, "window.first_event"),
        ({"version": "../v1"}, "version '../v1'"),
        ({"version": ""}, "version ''"),
        ({"architecture": ""}, "architecture is empty"),
        ({"targets": ()}, "targets are empty"),
        ({"targets": (TARGETS[0], TARGETS[0])}, "a name twice: purchase, purchase"),
        ({"targets": (Target("a b", OCCURS, 6, 1),)}, "lower-case letters"),
        ({"targets": (Target("a", "guess", 6, 1),)}, "kind 'guess' is none of"),
        ({"targets": (Target(CHURN, OCCURS, 6, 1),)}, "but alerts need 'absent'"),
        ({"targets": (Target("a", OCCURS, 99, 1),)}, "event_type 99 is no type"),
        ({"targets": (Target("a", OCCURS, 6, 0),)}, "horizon_ms is 0"),
        ({"targets": (Target("a", OCCURS, 6, 2**62),)}, "horizon_ms"),
        ({"targets": (Target("a", OCCURS, 6, 5, 5),)}, "after_ms is 5, not from 0 to 4"),
        ({"targets": (Target(SPEND, "amount", 6, 5, most=0.0),)}, "most is 0.0"),
        ({"targets": (Target(SPEND, "amount", 6, 5, most=1e300),)}, r"most is 1e\+300"),
        (
            {"targets": (Target("a", OCCURS, 6, 5, in_session=True),)},
            "in_session without at_events",
        ),
        ({"targets": (Target("a", OCCURS, ANY, 5),)}, "all events decide it, but"),
        ({"targets": hazard_targets(6, [10, 20])[1:]}, "must follow one another"),
        ({"rankings": (Ranking("shoe"),)}, "ranks 'shoe'"),
        ({"rankings": (Ranking("item"), Ranking("item"))}, "a name twice: item, item"),
        ({"reference": Reference({"x": Histogram((0.0,), (1.0,))})}, "1 shares for 1 edges"),
        ({"reference": Reference({"x": Histogram((1.0, 0.0), (0.5, 0.5, 0.0))})}, "do not ascend"),
        ({"reference": Reference({"x": Histogram((0.0,), (0.9, 0.9))})}, "do not sum to 1"),
        ({"reference": Reference({"x": Histogram((0.0,), (-1.0, 2.0))})}, "do not sum to 1"),
    ],
)
def test_impossible_field_is_refused(
    written: Callable[..., Path], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArtifactError, match=said):
        read_manifest(written(**changes))


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"\xff", b'{"schema": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=["empty", "list", "no UTF-8", "deep"],
)
def test_broken_manifest_is_refused(written: Callable[..., Path], text: bytes) -> None:
    folder = written()
    (folder / MANIFEST_FILE).write_bytes(text)
    with pytest.raises(ArtifactError, match=MANIFEST_FILE):
        read_manifest(folder)


def test_manifest_that_is_too_long_is_not_read(written: Callable[..., Path]) -> None:
    folder = written()
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.truncate(MANIFEST_BYTES + 1)
    with pytest.raises(ArtifactError, match="at most"):
        read_manifest(folder)


def test_a_list_of_models_survives_bad_ones(written: Callable[..., Path]) -> None:
    folder = written(created_at=10**18)
    for name, target in (("loop", "loop"), ("nowhere", "gone")):
        (folder.parent / name).symlink_to(folder.parent / target)
    (folder.parent / "file").write_text("")
    (folder.parent / "loop2").mkdir()
    (folder.parent / "loop2" / MANIFEST_FILE).symlink_to(MANIFEST_FILE)

    ((version, found),) = Registry(folder.parent).manifests()

    assert version == "v1"
    assert not isinstance(found, Manifest)
