"""The model of the benchmark: an untrained GRU of 64 units, which costs what a trained one does."""

from pathlib import Path

from models.serving.manifest import Manifest
from models.serving.measuring import untrained
from models.serving.registry import Registry
from models.serving.scorer import Scorer, make_golden


def scorer(architecture: str = "gru") -> Scorer:
    """The network, ready to score."""
    return Scorer.of_script(*untrained(architecture))


def publish(models_dir: Path, architecture: str = "gru") -> Manifest:
    """Publish the network, as a worker loads it; its file is also what the peers read."""
    script, manifest = untrained(architecture)
    return Registry(models_dir).publish(manifest, script, make_golden(script, manifest))
