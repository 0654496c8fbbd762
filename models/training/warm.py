"""A published model as a network that goes on learning."""

from __future__ import annotations

import torch

from models.artifact import Artifact, open_script
from models.errors import TrainingError
from models.networks import build
from models.networks.base import Network
from models.scorer import network_spec
from models.targets import Target


def warm_network(artifact: Artifact, targets: tuple[Target, ...], hidden_size: int) -> Network:
    """The network of a verified artifact, with its weights, scales and tables.

    Raises:
        TrainingError: it predicts something else, or is built in another way than this release
            builds it: only a whole fit helps.
    """
    manifest = artifact.manifest
    if manifest.targets != targets:
        raise TrainingError(
            f"model {manifest.version} has other targets or horizons than the settings: train anew"
            " without --refresh"
        )
    network = build(manifest.architecture, network_spec(targets), hidden_size)
    if network.hidden_size != manifest.hidden_size:
        raise TrainingError(
            f"model {manifest.version} keeps a state of {manifest.hidden_size} numbers, not of "
            f"{network.hidden_size} (state.hidden_size): train anew without --refresh"
        )
    script = open_script(artifact.script, torch.device("cpu"))
    try:
        network.load_state_dict(script.state_dict())
    except RuntimeError as error:
        raise TrainingError(
            f"model {manifest.version} is built in another way than this release does: {error}; "
            "train anew without --refresh"
        ) from error
    return network
