"""A published model as a network that goes on learning."""

from __future__ import annotations

import torch

from models.errors import TrainingError
from models.networks import build
from models.networks.base import Network
from models.networks.next_head import RECENT, NextConfig, NextHead
from models.serving.artifact import Artifact, open_script
from models.serving.scorer import network_spec
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


def warm_heads(artifact: Artifact, network: Network) -> dict[str, NextHead]:
    """The heads of a verified artifact, by what they rank; its `network` as `warm_network` gives.

    One that is built in another way than this release builds it is left out: it is fitted anew.
    """
    heads: dict[str, NextHead] = {}
    manifest = artifact.manifest
    spec = network_spec(manifest.targets)
    for what, ranked in artifact.ranked.items():
        saved = open_script(ranked.script, torch.device("cpu")).state_dict()
        codes = saved["codes"]
        config = NextConfig(what, recent=min(manifest.history_length, RECENT))
        counts = torch.zeros(len(codes) + 1)
        head = NextHead(spec, network.hidden_size, codes, counts, config)
        try:
            head.load_state_dict(saved)
        except RuntimeError:
            continue
        heads[what] = head
    return heads
