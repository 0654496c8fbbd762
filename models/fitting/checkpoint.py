"""A fit on disk, so that it can go on after a crash: arrays and numbers, nothing that is code.

A file that is damaged or belongs to another fit is refused; a fit never goes on from something that
it did not write.
"""

from __future__ import annotations

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
from models.fitting.sealed import read_sealed, write_sealed

MAGIC: Final = b"intentstream checkpoint 1\n"
_STATE: Final = "state"


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
    weights: list[float] = []
    """Of the targets in the loss, until the next look at the stopping slice."""
    best_epoch: int = 0
    """Epochs after which the loss was lowest."""
    ended: bool = False
    """Nothing is left to do but to take the best weights."""


@dataclass
class Saved:
    """All that a fit needs to go on."""

    counters: Counters
    network: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    """Of the head of the next action, which no published network has."""


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
    arrays: dict[str, NDArray[Any]] = {
        f"{part}/{name}": tensor.detach().cpu().numpy()
        for part in ("network", "best", "optimiser", "auxiliary")
        for name, tensor in getattr(saved, part).items()
    }
    arrays[_STATE] = np.frombuffer(msgspec.msgpack.encode(saved.counters), np.uint8)
    write_sealed(path, MAGIC, arrays)


def load(path: Path, fit: str) -> Saved | None:
    """Read the checkpoint of the fit with this fingerprint; None where there is no file.

    Raises:
        CheckpointError: it is damaged, no checkpoint at all, or that of another fit.
    """
    remedy = f"remove {path} or train without --resume"
    arrays = read_sealed(path, MAGIC, remedy)
    if arrays is None:
        return None
    try:
        counters = msgspec.msgpack.decode(arrays.pop(_STATE).tobytes(), type=Counters)
        saved = Saved(counters)
        for key, array in arrays.items():
            part, _, name = key.partition("/")
            getattr(saved, part)[name] = torch.from_numpy(array)
    except (AttributeError, KeyError, TypeError, msgspec.MsgspecError) as error:
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
