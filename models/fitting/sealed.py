"""Named arrays in one file that is whole and unaltered, or refused. Nothing in it is code.

    magic, SHA-256 of what follows, then an npz of arrays without any pickle

A file is replaced as a whole: a crash leaves the one before.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import CheckpointError

Arrays = Mapping[str, NDArray[Any]]

_DIGEST = 64
_UNREADABLE = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def write_sealed(path: Path, magic: bytes, arrays: Arrays) -> None:
    """Write the arrays in place of the file before.

    Raises:
        CheckpointError: they cannot be written.
    """
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    body = packed.getbuffer()
    staged = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.write(magic + hashlib.sha256(body).hexdigest().encode())
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path}: {error}; check space and permissions"
        ) from error


def read_sealed(path: Path, magic: bytes, remedy: str) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file, None where there is no file.

    Raises:
        CheckpointError: it is damaged, or no such file at all; ends with the `remedy`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    head = len(magic) + _DIGEST
    if not data.startswith(magic):
        name = magic.decode().strip()
        raise CheckpointError(f"{path} is no file of the kind '{name}'; {remedy}")
    body = memoryview(data)[head:]
    if hashlib.sha256(body).hexdigest().encode() != data[len(magic) : head]:
        raise CheckpointError(
            f"{path} is damaged ({len(data)} bytes, its SHA-256 does not fit); nothing of it is "
            f"used; {remedy}"
        )
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _UNREADABLE as error:
        raise CheckpointError(f"cannot read {path}: {error}; {remedy}") from error
