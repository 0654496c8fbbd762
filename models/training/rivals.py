"""What a model is compared with: base rate, recency and a purchase process, on the same examples.

The base rate is that of each population (`models.populations`): the rate of all predictions is too
easy to beat in each. Recency is what a shop without a model would use, one table for all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from models.data.dataset import F32, Examples
from models.data.spend import figures_of
from models.data.split import TRAIN, VALIDATION
from models.evaluate import F64, RecencyBaseline
from models.inputs import features
from models.networks.rhythm import Rhythm
from models.populations import populations
from models.serving.scorer import network_spec
from models.targets import AMOUNT, Target
from models.training.candidates import Figures, labelled, named

NEVER_BOUGHT: Final = 20.0
"""Stands for the inactivity of a user without a purchase: longer than log1p of any hours."""
_LEAST: Final = 30
"""Labels of a population below which its rate is that of both."""


def baselines_of(
    examples: Examples, targets: tuple[Target, ...]
) -> tuple[dict[str, Figures], dict[str, F64]]:
    """Baselines fitted on the training slice: figures and probabilities on the validation slice.

    Returns:
        Baseline -> its figures by "target.metric"; baseline -> probabilities [J,K] of the J
        examples of the validation slice.
    """
    silence = _silence(examples)
    later = examples.of_slice(VALIDATION)
    rhythm = Rhythm(network_spec(targets))
    said: dict[str, F64] = {
        "base_rate": np.empty((len(later), len(targets))),
        "recency": np.empty((len(later), len(targets))),
        "rhythm": torch.sigmoid(
            rhythm.heads(rhythm.initial(len(later)), torch.from_numpy(examples.profile[later]))
        )
        .numpy()
        .astype(np.float64),
    }
    found: dict[str, Figures] = {name: {} for name in said}
    for column, target in enumerate(targets):
        all_of_them = labelled(examples, TRAIN, column)
        for part in populations(examples.at_event).values():
            fit_on = all_of_them[part[all_of_them]]
            fit_on = all_of_them if len(fit_on) < _LEAST else fit_on
            said["base_rate"][part[later], column] = examples.labels[fit_on, column].mean()
        past = examples.labels[all_of_them, column]
        recency = RecencyBaseline.fit(silence[all_of_them], past)
        said["recency"][:, column] = recency.predict(silence[later])
        truth = examples.labels[later, column]
        known = ~np.isnan(truth)
        for name, probabilities in said.items():
            if name == "rhythm" and target.kind == AMOUNT:
                continue  # It knows of purchases, not of amounts.
            told = figures_of(target, truth[known], probabilities[known, column])
            found[name] |= named(target, told)
    return found, said


def _silence(examples: Examples) -> F32:
    names = features.PROFILE_FEATURES
    since = examples.profile[:, names.index("log_since_purchase_hours")]
    bought = examples.profile[:, names.index("has_purchase")] > 0
    return np.where(bought, since, np.float32(NEVER_BOUGHT))
