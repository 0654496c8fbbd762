"""The model of the benchmark: an untrained GRU of 64 units, which costs what a trained one does."""

from pathlib import Path

import torch

from models.artifact import Manifest, script_bytes
from models.features import PROFILE_FEATURES
from models.networks import build
from models.registry import Registry
from models.scorer import Scorer, make_golden, manifest_of, network_spec
from models.targets import shop_targets
from schemas.events import EventType
from stream.durations import DAY_MS

HISTORY = 50


def version_of(architecture: str) -> str:
    """The version under which an untrained network is published."""
    return f"{architecture}-untrained"


def untrained(architecture: str = "gru") -> tuple[bytes, Manifest]:
    """Return the TorchScript file and manifest of an untrained network; equal on every call."""
    torch.manual_seed(0)
    targets = shop_targets(EventType.PURCHASE.value, DAY_MS, 30 * DAY_MS)
    network = build(architecture, network_spec(targets)).eval()
    manifest = manifest_of(
        network,
        version_of(architecture),
        architecture,
        history_length=HISTORY,
        targets=targets,
        reference_profile=(0.0,) * len(PROFILE_FEATURES),
        created_at=1,
    )
    return script_bytes(network), manifest


def scorer(architecture: str = "gru") -> Scorer:
    """The network, ready to score."""
    return Scorer.of_script(*untrained(architecture))


def publish(models_dir: Path, architecture: str = "gru") -> Manifest:
    """Publish the network, as a worker loads it; its file is also what the peers read."""
    script, manifest = untrained(architecture)
    return Registry(models_dir).publish(manifest, script, make_golden(script, manifest))
