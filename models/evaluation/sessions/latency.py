"""How long the scorer takes for one event, and for a micro-batch, with a fitted network."""

from __future__ import annotations

from typing import Final

from models.inputs import features
from models.networks.base import Network
from models.serving.artifact import script_bytes
from models.serving.measuring import measure
from models.serving.scorer import Scorer, manifest_of
from models.targets import Target

BATCHES: Final = (1, 256)
"""Events of a micro-batch, each of another user."""
SECONDS: Final = 0.5
HISTORY: Final = 64


def scoring_times(
    network: Network, architecture: str, targets: tuple[Target, ...]
) -> tuple[str, ...]:
    """One sentence: milliseconds from an event's inputs to its probabilities, on this machine."""
    manifest = manifest_of(
        network,
        f"{architecture}-measured",
        architecture,
        history_length=HISTORY,
        targets=targets,
        reference_profile=(0.0,) * len(features.PROFILE_FEATURES),
        created_at=1,
    )
    scorer = Scorer.of_script(script_bytes(network), manifest)
    found = [measure(scorer, events, SECONDS) for events in BATCHES]
    told = ", ".join(f"{one.batch}: {one.milliseconds:.2f} ms" for one in found)
    return (f"Scoring time of {architecture} by events of a micro-batch (median): {told}.",)
