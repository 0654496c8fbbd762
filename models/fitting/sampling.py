"""Learning from a part of the negative labels without changing what a probability means.

With a share r of the negatives the odds of the sample are 1/r times those of the shop, so the
logit that fits the sample is too high by -log r (King and Zeng, "Logistic Regression in Rare Events
Data", 2001). The loss adds that shift to the network's logits; the network itself speaks of the
shop.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.data.dataset import F32, Examples, Index
from models.data.points import mix, uniform


def sample_negatives(
    examples: Examples, points: Index, negatives: float, seed: int
) -> tuple[Examples, Index, F32]:
    """Leave out negative labels of `points` until there are `negatives` per positive, per target.

    Returns:
        The examples with the labels left out, those of `points` that still have any, and the shift
        of each target's logits [K] in the sample.
    """
    targets = examples.labels.shape[1]
    shift = np.zeros(targets, np.float32)
    if negatives == 0:
        return examples, points, shift
    labels = examples.labels.copy()
    bits = mix(examples.user[points] ^ mix(examples.now[points].astype(np.uint64)), seed)
    for column in range(targets):
        known = labels[points, column]
        if ((known > 0) & (known < 1)).any():
            # Amounts: what leaving out zeros does to their mean is no shift of the logit.
            continue
        positive, negative = int((known == 1).sum()), int((known == 0).sum())
        rate = min(negatives * positive / max(negative, 1), 1.0)
        if rate == 1.0 or positive == 0:
            continue
        draws = uniform(mix(bits, column))
        gone = (known == 0) & (draws >= rate)
        labels[points[gone], column] = np.nan
        kept = negative - int(gone.sum())
        shift[column] = -np.log(kept / negative)
    left = points[~np.isnan(labels[points]).all(axis=1)]
    return replace(examples, labels=labels), left, shift
