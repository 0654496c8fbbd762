"""A fit on disk, so that it can go on after a crash: arrays and numbers, nothing that is code.

    magic, SHA-256 of what follows, then an npz of arrays without any pickle

A file is replaced whole: a crash leaves the one before. One that is damaged or belongs to another
fit is refused; a fit never goes on from something that it did not write.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import CheckpointError

MAGIC: Final = b"intentstream checkpoint 1\n"
_DIGEST: Final = 64
_STATE: Final = "state"
_UNREADABLE: Final = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    IndexError,
    zipfile.BadZipFile,
    zlib.error,
    msgspec.MsgspecError,
)


class Counters(msgspec.Struct):
    """Where a fit stands."""

    fit: str
    """Fingerprint of data, configuration and network: what it may go on with."""
    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done in all."""
    total: float = 0.0
    """Losses of the running epoch so far."""
    since: int = 0
    """Epochs since the last gain worth its time."""
    best_loss: float = float("inf")
    gained_from: float = float("inf")
    ended: bool = False
    """Nothing is left to do but to take the best weights."""


@dataclass
class Saved:
    """All that a fit needs to go on."""

    counters: Counters
    network: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit is kept, and how often."""

    path: Path
    steps: int = 200
    """A file is written after this many steps and after every epoch."""
    resume: bool = False
    """Go on from the file where there is one; without it the file is overwritten."""


def save(path: Path, saved: Saved) -> None:
    """Write a checkpoint in place of the one before.

    Raises:
        CheckpointError: it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for part in ("network", "best", "optimiser"):
        for name, tensor in getattr(saved, part).items():
            arrays[f"{part}/{name}"] = tensor.detach().cpu().numpy()
    counters = msgspec.msgpack.encode(saved.counters)
    arrays[_STATE] = np.frombuffer(counters, np.uint8)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    body = packed.getvalue()
    staged = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.write(MAGIC + hashlib.sha256(body).hexdigest().encode() + body)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}; check space and permissions"
        ) from error


def load(path: Path, fit: str) -> Saved | None:
    """Read the checkpoint of the fit with this fingerprint; None where there is no file.

    Raises:
        CheckpointError: it is damaged, no checkpoint at all, or that of another fit.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    remedy = f"remove {path} or train without --resume"
    head = len(MAGIC) + _DIGEST
    if not data.startswith(MAGIC):
        raise CheckpointError(f"{path} is no checkpoint of this release; {remedy}")
    digest, body = data[len(MAGIC) : head], data[head:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(
            f"the checkpoint {path} is damaged ({len(data)} bytes, its SHA-256 does not fit); "
            f"nothing of it is used; {remedy}"
        )
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            counters = msgspec.msgpack.decode(arrays[_STATE].tobytes(), type=Counters)
            saved = Saved(counters)
            for key in arrays.files:
                part, _, name = key.partition("/")
                if name:
                    getattr(saved, part)[name] = torch.from_numpy(arrays[key])
    except _UNREADABLE as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}; {remedy}") from error
    if counters.fit != fit:
        raise CheckpointError(
            f"the checkpoint {path} is of another fit: events, settings or architecture differ; "
            f"give the same files or --until and the same settings, or {remedy}"
        )
    return saved


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}/{name}": value
        for number, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state of one over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
