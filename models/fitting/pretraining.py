"""Pre-training of an encoder on the log: it predicts next events, or recovers masked ones.

Labels are rare and say little about the order of events; the next event says something at every
step. A network that predicts type, category, repetition and time of a user's next event has learnt
what its state must remember, before it sees a label (Radford et al., "Improving Language
Understanding by Generative Pre-Training", 2018; for recommendation Sun et al., "BERT4Rec", CIKM
2019, and the reconstruction of whole sequences in RecSys Challenge 2025). The other task is to
recover masked events, see `models.fitting.masking`. The heads of both are discarded.

Windows are those of the training examples, up to the last of them, so no event of a later slice of
time is read. Order and dropout are drawn from the seed and the step: the result is a function of
examples, configuration and seed.

Shape suffixes: B windows, L events of a window, C, F, H: see `models/networks/base.py`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from models.data.dataset import Examples, Index
from models.fitting.batches import Batch, Batches
from models.fitting.config import FitConfig
from models.fitting.masking import MaskedEvent
from models.fitting.next_action import followed
from models.fitting.schedule import learning_rate
from models.fitting.stepping import take_step
from models.inputs.features import NUM_FEATURES
from models.networks.embeddings import TYPE_ROWS, bucket
from models.networks.sequence import SequenceNetwork

GAP_BANDS: Final = 24
BANDS_PER_UNIT: Final = 3.0
"""Bands of log(1 + minutes) until the next event."""
_SEED_STEP: Final = 1_000_003


class NextEvent(nn.Module):
    """States -> the cross-entropy of what comes next."""

    def __init__(self, network: SequenceNetwork) -> None:
        """Draw the heads from torch's generator."""
        super().__init__()
        self.item_column = network.embedding.item_column
        self.type_column = network.embedding.type_column
        self.category_column = network.embedding.category_column
        self.buckets = network.embedding.category_buckets
        self.gap_column = NUM_FEATURES.index("log_gap_hours")
        self.sizes = (TYPE_ROWS, self.buckets, GAP_BANDS, 2, 2)
        width = network.read(network.initial(1)).size(1)
        self.heads = nn.Linear(width, sum(self.sizes))

    def forward(self, network: SequenceNetwork, batch: Batch) -> Tensor:
        """Mean over the events that another follows, summed over the five questions."""
        ids_BLC, nums_BLF, length_B = batch.ids, batch.nums, batch.length
        start_BH = network.initial(ids_BLC.size(0))
        states_BLH = network.scan(start_BH, ids_BLC, nums_BLF, length_B)
        asked, now, following = followed(ids_BLC, length_B)
        logits = self.heads(network.read(states_BLH[:, :-1][asked]))
        hours = torch.expm1(nums_BLF[:, 1:, self.gap_column][asked])
        band = (torch.log1p(hours * 60) * BANDS_PER_UNIT).long().clamp(0, GAP_BANDS - 1)
        answers = (
            following[:, self.type_column].clamp(0, TYPE_ROWS - 1),
            bucket(following[:, self.category_column], self.buckets),
            band,
            (following[:, self.item_column] == now[:, self.item_column]).long(),
            (following[:, self.category_column] == now[:, self.category_column]).long(),
        )
        losses = [
            nn.functional.cross_entropy(part, answer)
            for part, answer in zip(logits.split(self.sizes, dim=1), answers, strict=True)
        ]
        return torch.stack(losses).sum()


def pretrain(
    network: SequenceNetwork,
    examples: Examples,
    train: Index,
    config: FitConfig,
    device: torch.device,
) -> list[float]:
    """Fit the layers below the heads to the task of `config`, without labels.

    Args:
        network: standardised; its weights are changed. It comes back to the CPU.
        examples: whose events are read.
        train: examples of the training slice.
        config: task, `pretrain_epochs`, batches, learning rate, clipping and seed.
        device: where the network is fitted.

    Returns:
        Mean loss of each epoch.

    Raises:
        TrainingError: the share of masked events is not between 0 and 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        task = _task(network, config)
    network.to(device).train()
    task.to(device)
    both = nn.ModuleList([network, task])
    optimiser = torch.optim.AdamW(
        both.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    batches = Batches(examples, train, config.windows, device)
    steps, step, means = config.pretrain_epochs * len(batches), 0, []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for epoch in range(config.pretrain_epochs):
            losses = []
            for batch in batches.shuffled(np.random.default_rng([config.seed, epoch, 1])):
                if batch.ids.size(1) > 1 and bool((batch.length > 1).any()):
                    torch.manual_seed(config.seed * _SEED_STEP + step)
                    rate = learning_rate(step, steps, config)
                    loss = task(network, batch)
                    take_step(optimiser, both, loss, rate, config.clip_norm)
                    losses.append(float(loss.detach()))
                step += 1
            means.append(float(np.mean(losses)) if losses else float("nan"))
    network.to("cpu").eval()
    return means


def _task(network: SequenceNetwork, config: FitConfig) -> NextEvent | MaskedEvent:
    if config.pretrain_task == "masked_event":
        return MaskedEvent(network, config.pretrain_mask)
    return NextEvent(network)
