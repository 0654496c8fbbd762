"""How fast a scorer is: micro-batches of one size, each launched before the last one is fetched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch

from models.devices import Precision
from models.inputs import features
from models.networks import build
from models.serving.artifact import script_bytes
from models.serving.manifest import Manifest
from models.serving.scorer import Scorer, manifest_of, network_spec
from models.steps import NOTHING, STORED, Steps
from models.targets import shop_targets
from schemas.events import EventType

if TYPE_CHECKING:
    from models.steps import F32

BATCHES: Final = tuple(4**power for power in range(8))
"""1 to 16,384 events."""
WARM_UP_ROUNDS: Final = 5
"""Micro-batches before the first that counts: kernels are loaded and memory is had by then."""
MIN_ROUNDS: Final = 3
HISTORY: Final = 50
_DAY_MS: Final = 86_400_000


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one size."""

    precision: Precision
    batch: int
    """Events of a micro-batch, each of another user."""
    milliseconds: float
    """From launch to fetch with nothing else under way; median."""
    events_per_second: float
    """With the next micro-batch launched before each fetch."""
    rounds: int
    """Micro-batches of which these are."""


def version_of(architecture: str) -> str:
    """The version of the untrained network."""
    return f"{architecture}-untrained"


def untrained(architecture: str = "gru") -> tuple[bytes, Manifest]:
    """TorchScript file and manifest of an untrained network; equal on every call.

    It costs what a trained one does. States have the default width, 64 of the GRU.
    """
    targets = shop_targets(EventType.PURCHASE.value, _DAY_MS, 30 * _DAY_MS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(architecture, network_spec(targets)).eval()
    manifest = manifest_of(
        network,
        version_of(architecture),
        architecture,
        history_length=HISTORY,
        targets=targets,
        reference_profile=(0.0,) * len(features.PROFILE_FEATURES),
        created_at=1,
    )
    return script_bytes(network), manifest


def micro_batch(scorer: Scorer, events: int) -> tuple[F32, Steps, F32]:
    """Stored states [N,H], steps and profiles [N,P] of N events; equal on every call.

    Each event goes on from a state of its own, or brings its whole window where the model is not
    recurrent.
    """
    rng = np.random.default_rng(events)
    inputs = 1 if scorer.recurrent else scorer.history_length
    total = events * inputs
    steps = Steps(
        state_N=np.arange(events),
        before_N=np.full(events, STORED if scorer.recurrent else NOTHING),
        start_N=np.arange(events) * inputs,
        ids_MC=np.stack([rng.integers(1, top, total) for top in (8, 1 << 32, 1 << 16)], axis=1),
        nums_MF=rng.normal(1, 1, (total, len(features.NUM_FEATURES))).astype(np.float32),
    )
    stored_NH = rng.normal(0, 0.5, (events, scorer.hidden_size)).astype(np.float32)
    profile_NP = np.abs(rng.normal(2, 2, (events, len(features.PROFILE_FEATURES))))
    return stored_NH, steps, profile_NP.astype(np.float32)


def measure(
    scorer: Scorer,
    events: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Figure:
    """Score micro-batches of so many events for about so long, after a warm-up.

    Args:
        scorer: what is measured.
        events: of a micro-batch, 1 or more.
        seconds: half of it is one at a time, half with two under way.
        clock: seconds.
    """
    batch = micro_batch(scorer, events)
    for _ in range(WARM_UP_ROUNDS):
        scorer.launch(*batch).fetch()
    alone = []
    for begun in _rounds(seconds / 2, clock):
        scorer.launch(*batch).fetch()
        alone.append(clock() - begun)
    first, rounds = clock(), 0
    under_way = scorer.launch(*batch)
    for _ in _rounds(seconds / 2, clock):
        following = scorer.launch(*batch)
        under_way.fetch()
        under_way, rounds = following, rounds + 1
    under_way.fetch()
    return Figure(
        precision=scorer.precision,
        batch=events,
        milliseconds=float(np.median(alone)) * 1000,
        events_per_second=(rounds + 1) * events / (clock() - first),
        rounds=len(alone) + rounds + 1,
    )


def _rounds(seconds: float, clock: Callable[[], float]) -> Iterator[float]:
    """Yield the time at the beginning of each round, until the time is over."""
    first = now = clock()
    done = 0
    while done < MIN_ROUNDS or now - first < seconds:
        yield now
        done, now = done + 1, clock()
