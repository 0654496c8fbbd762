"""Whom no alert is about: programs, and users whose money all went back.

Programs are crawlers, price bots, monitoring. Speed does not tell them apart, because an invoice of
a hundred lines comes in one moment. That a visit goes on and on does: a program never pauses for
long enough to end one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.history import PURCHASE, REFUND, Snapshot


def automated(state: Snapshot, session_events: int) -> NDArray[np.bool_]:
    """Which of N histories hold more than `session_events` events per session on average.

    It depends on nothing but the history. 0 means that nobody is automated.
    """
    if session_events == 0:
        return np.zeros(len(state.n), np.bool_)
    return np.asarray(state.n > session_events * state.sessions)


def refunded_in_full(state: Snapshot) -> NDArray[np.bool_]:
    """Which of N users have got all their money back: the shop has nothing of theirs to lose.

    This is so also where refunds were of more orders than are told apart. Where no price is known,
    as many refunds as purchases tell it.
    """
    bought, back = state.counts[:, PURCHASE], state.counts[:, REFUND]
    return np.asarray((state.spend < 0) | ((state.spend == 0) & (back > 0) & (back >= bought)))
