"""Untrained networks of every architecture, and micro-batches for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from models.inputs import features
from models.networks import build
from models.serving.artifact import script_bytes
from models.serving.manifest import Manifest
from models.serving.scorer import manifest_of, network_spec
from models.steps import NOTHING, STORED, Steps
from models.targets import shop_targets

TARGETS = shop_targets(6, 86_400_000, 30 * 86_400_000)
P, F = len(features.PROFILE_FEATURES), len(features.NUM_FEATURES)
USERS, EVENTS, LENGTH = 40, 300, 20
ARCHITECTURES = ("gru", "lstm", "lru", "transformer", "logistic")

MicroBatch = tuple[np.ndarray, Steps, np.ndarray]
"""Stored states, steps and profiles."""


@cache
def published(architecture: str) -> tuple[bytes, Manifest]:
    """An untrained network whose outputs depend on all of its inputs."""
    torch.manual_seed(4)
    network = build(architecture, network_spec(TARGETS)).eval()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    manifest = manifest_of(
        network,
        "v1",
        architecture,
        history_length=LENGTH,
        targets=TARGETS,
        reference_profile=(0.0,) * P,
        created_at=1,
    )
    return script_bytes(network), manifest


def micro_batch(architecture: str, seed: int = 1, events: int = EVENTS) -> MicroBatch:
    """Stored states, steps and profiles of a batch with a busy user and some disorder."""
    rng = np.random.default_rng(seed)
    _, manifest = published(architecture)
    user = np.where(rng.random(events) < 0.2, 0, rng.integers(0, USERS, events))
    before, sizes = np.full(events, STORED), np.ones(events, np.int64)
    latest: dict[int, int] = {}
    for event, who in enumerate(user.tolist()):
        if not manifest.recurrent or rng.random() < 0.1:
            before[event], sizes[event] = NOTHING, rng.integers(1, LENGTH + 1)
        elif who in latest:
            before[event] = latest[who]
        latest[who] = event
    inputs = int(sizes.sum())
    ids = np.stack([rng.integers(1, top, inputs) for top in (8, 1 << 32, 1 << 16)], axis=1)
    nums = rng.normal(1, 1, (inputs, F)).astype(np.float32)
    steps = Steps(user, before, np.cumsum(sizes) - sizes, ids, nums)
    stored = rng.normal(0, 0.5, (USERS, manifest.hidden_size)).astype(np.float32)
    return stored, steps, np.abs(rng.normal(2, 2, (events, P))).astype(np.float32)
