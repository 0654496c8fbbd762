"""What would unpack to more than a bound is refused before it is unpacked."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.errors import ArtifactError
from models.serving.artifact import script_bytes
from models.serving.golden import GOLDEN_BATCH, GOLDEN_LENGTH
from models.serving.manifest import MAX_HIDDEN
from models.serving.unpacking import GOLDEN_BYTES, read_arrays, require_weights_unpacked
from tests.logs import random_gru

WHERE = Path("golden.npz")
LIMIT = 100_000


def packed(method: int = zipfile.ZIP_DEFLATED, **arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", file.getvalue())
    return out.getvalue()


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test where anything is unpacked."""

    def unpack(*_: object) -> None:
        pytest.fail("an archive was unpacked that had to be refused")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", unpack)


def test_arrays_come_back_as_they_were_saved() -> None:
    saved = {
        "ids": np.arange(24).reshape(2, 3, 4),
        "nums": np.asfortranarray(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)),
        "none": np.zeros((2, 0), np.float32),
        "one": np.array(7, np.int64),
    }
    found = read_arrays(packed(**saved), WHERE)
    assert list(found) == list(saved)
    for name, array in saved.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.usefixtures("untouched")
def test_small_archive_that_unpacks_to_much_is_refused() -> None:
    bomb = packed(a=np.zeros(LIMIT // 16), b=np.zeros(LIMIT // 16))
    assert len(bomb) < LIMIT / 50
    with pytest.raises(ArtifactError, match=r"would unpack to 100,\d+ bytes, at most 100,000"):
        read_arrays(bomb, WHERE, LIMIT)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(method: int) -> None:
    with pytest.raises(ArtifactError, match="in a way that NumPy does not use"):
        read_arrays(packed(method, a=np.zeros(3)), WHERE)


@pytest.mark.parametrize("shape", ["(4611686018427387904,)", "(9, 9)", "(-1,)"])
def test_header_that_promises_more_than_there_is_is_refused(shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 12
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy)
    with pytest.raises(ArtifactError, match="promises"):
        read_arrays(out.getvalue(), WHERE)


@pytest.mark.parametrize("dtype", ["U5", "S5", "M8[s]", "V8", "c16", "?"])
def test_what_is_no_number_is_refused(dtype: str) -> None:
    with pytest.raises(ArtifactError, match="has no numbers"):
        read_arrays(packed(a=np.zeros(3, dtype)), WHERE)


def test_objects_are_refused_unopened() -> None:
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, a=np.array([print], object))
    with pytest.raises(ArtifactError, match="has no numbers"):
        read_arrays(out.getvalue(), WHERE)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive", packed(a=np.zeros(3))[:-9]])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=str(WHERE)):
        read_arrays(data, WHERE)


@pytest.mark.slow
def test_model_that_torch_wrote_is_accepted() -> None:
    require_weights_unpacked(script_bytes(random_gru(0)), WHERE)


@pytest.mark.usefixtures("untouched")
def test_model_with_compressed_weights_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(LIMIT))
    with pytest.raises(ArtifactError, match=r"would unpack to 100,000.*does not compress"):
        require_weights_unpacked(out.getvalue(), WHERE, LIMIT // 2)


def test_bound_holds_the_largest_golden_vector() -> None:
    """The widest state of the longest golden sequence, of eight users."""
    assert GOLDEN_BATCH * (GOLDEN_LENGTH + 1) * MAX_HIDDEN * 4 < GOLDEN_BYTES
