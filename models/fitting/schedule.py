"""The learning rate at a step: a pure function, so that a fit can go on at any step."""

from __future__ import annotations

from math import cos, pi

from models.fitting.config import FitConfig


def learning_rate(step: int, total: int, config: FitConfig) -> float:
    """Rate of step `step` (0-based) of `total`: up to the peak, then down to zero.

    The cosine is that of Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.
    """
    rising = max(round(config.warm_up * total), 1)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    done = min((step - rising) / max(total - rising, 1), 1.0)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + cos(pi * done)) / 2
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate
