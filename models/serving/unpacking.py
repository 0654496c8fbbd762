"""Compressed parts of an artifact, whose sizes are checked before anything is unpacked.

A few kilobytes of zeros unpack to gigabytes. Both files are zip archives: the golden vector of
`.npy` files, a TorchScript file of weights, which torch does not compress, and code, which it does.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.errors import ArtifactError

GOLDEN_BYTES: Final = 64 << 20
"""All arrays of a golden vector, unpacked: the widest state and the longest ranking fit in."""
CODE_BYTES: Final = 64 << 20
"""What a TorchScript file may have more unpacked than packed: its code, which is short."""
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes. Of these, Python unpacks no more than it is asked for."""
_UNREADABLE: Final = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a damaged archive raises; NotImplementedError is a RuntimeError."""
_SUFFIX: Final = ".npy"
_HEADER_BYTES: Final = 10_000
_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(
    packed: bytes, where: Path, limit: int = GOLDEN_BYTES
) -> Mapping[str, NDArray[Any]]:
    """The arrays of numbers in an `.npz` file, by name.

    Args:
        packed: the file.
        where: names it in errors.
        limit: bytes of all arrays together, unpacked.

    Raises:
        ArtifactError: no such file, larger than `limit`, or with anything but numbers.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            _check_entries(archive.infolist(), limit)
            return dict(_arrays(archive))
    except _UNREADABLE as error:
        raise ArtifactError(f"{where}: {error}; publish the model again") from error


def _check_entries(entries: list[zipfile.ZipInfo], limit: int) -> None:
    size = sum(entry.file_size for entry in entries)
    if size > limit:
        raise ValueError(f"it would unpack to {size:,} bytes, at most {limit:,} are unpacked")
    for entry in entries:
        if entry.compress_type not in _METHODS:
            raise ValueError(f"{entry.filename} is compressed in a way that NumPy does not use")


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, NDArray[Any]]]:
    for entry in archive.infolist():
        with archive.open(entry) as file:
            yield entry.filename.removesuffix(_SUFFIX), _read_array(file, entry)


def _read_array(file: IO[bytes], entry: zipfile.ZipInfo) -> NDArray[Any]:
    """Return one array; it takes the bytes that the archive has, whatever its own header says."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{entry.filename} has version {version}")
    shape, fortran, dtype = _HEADERS[version](file, max_header_size=_HEADER_BYTES)
    if dtype.kind not in "iuf":
        raise ValueError(f"{entry.filename} has no numbers but {dtype}")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError(f"{entry.filename} promises {shape} of {dtype} in {entry.file_size} bytes")
    data = file.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()


def require_weights_unpacked(script: bytes, where: Path, limit: int = CODE_BYTES) -> None:
    """Refuse a TorchScript file that would take more memory than its bytes and its code.

    Args:
        script: the file.
        where: names it in the error.
        limit: bytes that it may have more unpacked than packed.

    Raises:
        ArtifactError: its weights are compressed, or its records overlap.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(script)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except _UNREADABLE:
        return  # No archive: torch says so.
    if size > len(script) + limit:
        raise ArtifactError(
            f"{where}: {len(script):,} bytes would unpack to {size:,}, and torch does not compress"
            " weights: it was not opened; publish the model again"
        )
