"""Profiles of records, as serving makes them."""

from __future__ import annotations

import numpy as np

from models.history import Records, SessionRules
from models.inputs import features


def profile_of(records: Records, rows: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Of records that hold a ring only, each at its own time, ms."""
    return features.profile_of(records, rows, now, SessionRules())
