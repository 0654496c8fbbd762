"""The challenge's metrics, from their definition and their constants.

`training_pipeline/{metrics,metric_calculators,metrics_containers}.py` of Synerise/recsys2025 at
e91c1a6; AUROC as torchmetrics computes it there (`AUROC(task="multilabel")`: the mean over labels,
in which a label without a positive, or without a negative, counts as 0).

U clients, K labels. Predictions are logits: diversity and novelty depend on the probabilities, not
on their order alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.history import I64

F32 = NDArray[np.float32]

AUROC_WEIGHT: Final = 0.8
DIVERSITY_WEIGHT: Final = 0.1
NOVELTY_WEIGHT: Final = 0.1
TOP: Final = 10
"""Labels of a client whose popularity counts: the likeliest ones."""
NOVELTY_POWER: Final = 100
EPSILON: Final = 1e-9
BLOCK: Final = 65_536
"""Clients at a time, which bounds memory."""


def binary_auroc(labels_U: NDArray[np.bool_], logits_U: F32) -> float:
    """Area under the ROC curve, ties counted half; 0 where one class is absent."""
    return _auroc(_probabilities(logits_U), np.flatnonzero(labels_U))


def multilabel_auroc(row_P: I64, label_P: I64, logits_UK: F32) -> float:
    """Mean over K labels of each label's area under the ROC curve over clients.

    Args:
        row_P: client of each positive; a client has a label at most once.
        label_P: label of each positive.
        logits_UK: predictions.
    """
    order = np.argsort(label_P, kind="stable")
    edges = np.searchsorted(label_P[order], np.arange(logits_UK.shape[1] + 1))
    areas = [
        _auroc(_probabilities(logits_UK[:, label]), row_P[order[start:end]])
        for label, (start, end) in enumerate(pairwise(edges))
    ]
    return float(np.mean(areas))


def _probabilities(logits: F32) -> F32:
    """In single precision as in the challenge, where logits beyond about 17 are ties."""
    found: F32 = torch.sigmoid(torch.from_numpy(np.ascontiguousarray(logits, np.float32))).numpy()
    return found


def _auroc(scores_U: F32, positive_P: NDArray[Any]) -> float:
    negatives = len(scores_U) - len(positive_P)
    if len(positive_P) == 0 or negatives == 0:
        return 0.0
    ordered, wanted = np.sort(scores_U), scores_U[positive_P]
    below = np.searchsorted(ordered, wanted, side="left").astype(np.float64)
    upto = np.searchsorted(ordered, wanted, side="right").astype(np.float64)
    rank_sum = float(((below + upto + 1) / 2).sum())
    lowest = len(positive_P) * (len(positive_P) + 1) / 2
    return (rank_sum - lowest) / (len(positive_P) * negatives)


def diversity(logits_UK: F32) -> float:
    """Mean entropy, in bits over log2 K, of each client's probabilities scaled to sum to 1."""
    total = 0.0
    for block in _blocks(logits_UK):
        share = torch.sigmoid(block)
        share = share / share.sum(dim=1, keepdim=True)
        total -= float((share * torch.log2(share + EPSILON)).sum())
    clients, labels = logits_UK.shape
    return float(total / ((clients + EPSILON) * np.log2(labels)))


def novelty(logits_UK: F32, popularity_K: NDArray[Any]) -> float:
    """(1 - mean popularity of what is predicted) to the power of 100.

    The popularity of a client's prediction is that of its 10 likeliest labels, each weighed by its
    probability, over the sum of the 10 largest popularities.
    """
    top = min(TOP, len(popularity_K))
    scaled = torch.from_numpy(np.asarray(popularity_K, np.float64))
    scaled = scaled / scaled.topk(top).values.sum()
    total = 0.0
    for block in _blocks(logits_UK):
        likeliest = torch.sigmoid(block).topk(top, dim=1)
        total += float((likeliest.values * scaled[likeliest.indices]).sum())
    return float((1 - total / (len(logits_UK) + EPSILON)) ** NOVELTY_POWER)


def propensity_score(auroc: float, diverse: float, novel: float) -> float:
    """The score of a propensity task; that of churn is its AUROC."""
    return AUROC_WEIGHT * auroc + DIVERSITY_WEIGHT * diverse + NOVELTY_WEIGHT * novel


def propensity_figures(
    row_P: I64, label_P: I64, logits_UK: F32, popularity_K: NDArray[Any]
) -> dict[str, float]:
    """Score and its parts, and the mean AUROC of those labels alone that have a positive."""
    auroc = multilabel_auroc(row_P, label_P, logits_UK)
    present = len(np.unique(label_P))
    diverse, novel = diversity(logits_UK), novelty(logits_UK, popularity_K)
    return {
        "score": propensity_score(auroc, diverse, novel),
        "auroc": auroc,
        "diversity": diverse,
        "novelty": novel,
        "auroc_of_present": auroc * len(popularity_K) / max(present, 1),
    }


def _blocks(logits_UK: F32) -> Iterator[Tensor]:
    for start in range(0, len(logits_UK), BLOCK):
        yield torch.from_numpy(logits_UK[start : start + BLOCK])
