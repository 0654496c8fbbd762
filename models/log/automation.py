"""Who is no person: crawlers, price bots, monitoring.

Speed does not tell them apart, as an invoice of a hundred lines comes in one moment. That a visit
goes on and on does: a program never pauses for long enough to end one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.history import Snapshot


def automated(state: Snapshot, session_events: int) -> NDArray[np.bool_]:
    """Which of N histories hold more than `session_events` events per session on average.

    It depends on nothing but the history. 0 means that nobody is automated.
    """
    if session_events == 0:
        return np.zeros(len(state.n), np.bool_)
    return np.asarray(state.n > session_events * state.sessions)
