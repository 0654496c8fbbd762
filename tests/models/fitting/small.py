"""A fit that takes a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.data.dataset import DatasetConfig, Examples, build_examples
from models.data.split import CALIBRATION, TRAIN, TimeSplit
from models.fitting.checkpoint import Checkpoint
from models.fitting.distributed import SINGLE, Group
from models.fitting.fit import FitConfig, Progress, fit_sequences
from models.log.eventlog import in_order
from models.networks.base import Network
from models.networks.embeddings import EmbeddingConfig
from models.networks.gru import Gru
from models.networks.sequence import SequenceConfig
from models.serving.scorer import network_spec
from models.targets import shop_targets
from tests.models.shop import DAY, PURCHASE, shop_log

TARGETS = shop_targets(PURCHASE, 2 * DAY, 8 * DAY)
CONFIG: dict[str, Any] = {
    "epochs": 3,
    "patience": 3,
    "min_gain": 0.0,
    "windows": 16,
    "learning_rate": 5e-3,
}


def small_examples(users: int = 60) -> Examples:
    """Of a shop with few users."""
    ordered = in_order(shop_log(users=users, days=60), None)
    times = ordered.log.events.time
    split = TimeSplit.of(int(times.min()), int(times.max()), 8 * DAY, 0, 0.2, 0.2)
    return build_examples(ordered, TARGETS, split, DatasetConfig(history_length=8, min_points=10))


def fitted(
    checkpoint: Checkpoint | None,
    *,
    dropout: float = 0.3,
    group: Group = SINGLE,
    examples: Examples | None = None,
    **changes: Any,
) -> tuple[Network, list[Progress]]:
    """A small GRU after its fit, and what it reported."""
    examples = small_examples() if examples is None else examples
    news: list[Progress] = []
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = Gru(
            network_spec(TARGETS),
            SequenceConfig(
                hidden_size=8,
                embedding=EmbeddingConfig(item_dropout=dropout),
                input_width=16,
                head_width=16,
                dropout=dropout,
                clock_dropout=dropout,
            ),
        )
        fit_sequences(
            network,
            examples,
            examples.of_slice(TRAIN),
            examples.of_slice(CALIBRATION),
            FitConfig(**(CONFIG | changes)),
            torch.device("cpu"),
            "gru",
            news.append,
            group=group,
            checkpoint=checkpoint,
        )
    return network, news


def weights(network: Network) -> dict[str, bytes]:
    """All tensors of a network, as bytes."""
    return {
        name: np.ascontiguousarray(tensor.numpy()).tobytes()
        for name, tensor in network.state_dict().items()
    }
