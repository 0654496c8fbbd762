"""Small micro-batches of several partitions, made by one call of the network.

On a CPU such a call costs its few dozen operations, whether it has ten rows or thirty. So what is
launched waits until somebody fetches, and all that waits by then is computed at once. A row's
numbers are the same bits in any company (`models/serving/scorer.py`), so this changes none.

Shape suffixes as in `models/steps.py`; P profile features, K targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import numpy as np

from models.serving.offload import Launch, Ready
from models.steps import F32, Steps

LARGE: Final = 256
"""Events that are company enough for themselves: more rows at once would only leave the cache."""

Compute = Callable[[F32, Steps, F32], tuple[F32, F32]]
"""(stored_SH, steps, profile_NP) -> states [N,H] and probabilities [N,K]."""


class Joining:
    """Launches of one model that wait for one another. One thread at a time."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: list[_Waiting] = []

    def launch(self, compute: Compute, stored_SH: F32, steps: Steps, profile_NP: F32) -> Launch:
        """Let N events wait for others; many are computed at once.

        Args:
            compute: the model's, always the same; gives each row the same numbers in any company.
                It is not kept here: a model that is swapped has to be gone at once.
            stored_SH: states that the steps go on from.
            steps: the way to N states.
            profile_NP: profiles of the users after these events.

        Returns:
            Where to fetch the numbers, which raises what `compute` does. The arguments may change
            at once.
        """
        if len(steps) > LARGE:
            return Ready(*compute(stored_SH, steps, profile_NP))
        waiting = _Waiting(self, compute, *compact(stored_SH, steps), profile_NP)
        self._waiting.append(waiting)
        return waiting

    def make(self, wanted: _Waiting) -> None:
        """Compute what is wanted, and all that waits with it.

        After an error each is computed alone when it is fetched, so that only the one at fault
        fails.
        """
        together, self._waiting = self._waiting, []
        if wanted not in together:
            together = [wanted]
        parts = [(waiting.stored_SH, waiting.steps) for waiting in together]
        profile_NP = np.concatenate([waiting.profile_NP for waiting in together])
        try:
            hidden_NH, probabilities_NK = wanted.compute(*joined(parts), profile_NP)
        except Exception:
            if len(together) == 1:
                raise
            self.make(wanted)
            return
        at = 0
        for waiting in together:
            part = slice(at, at + len(waiting.steps))
            waiting.numbers = hidden_NH[part], probabilities_NK[part]
            at = part.stop


class _Waiting:
    """A launch whose numbers are made when the first of its company is fetched."""

    def __init__(
        self, joining: Joining, compute: Compute, stored_SH: F32, steps: Steps, profile_NP: F32
    ) -> None:
        self._joining, self.compute = joining, compute
        self.stored_SH, self.steps, self.profile_NP = stored_SH, steps, profile_NP
        self.numbers: tuple[F32, F32] | None = None

    @property
    def over(self) -> bool:
        """See `Launch`."""
        return self.numbers is not None

    def fetch(self) -> tuple[F32, F32]:
        """See `Launch`."""
        if self.numbers is None:
            self._joining.make(self)
        return cast("tuple[F32, F32]", self.numbers)  # `make` has set them, or raised


def compact(stored_SH: F32, steps: Steps) -> tuple[F32, Steps]:
    """The same with a copy of only those stored states that the events go on from."""
    # Of five events np.unique takes five times as long, of 200 as long.
    place_of: dict[int, int] = {}
    state_N = [place_of.setdefault(row, len(place_of)) for row in steps.state_N.tolist()]
    rows = np.fromiter(place_of, np.int64, len(place_of))
    own = Steps(
        np.array(state_N, np.int64), steps.before_N, steps.start_N, steps.ids_MC, steps.nums_MF
    )
    return stored_SH[rows], own


def joined(parts: list[tuple[F32, Steps]]) -> tuple[F32, Steps]:
    """Stored states and the steps on top of them, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    states = events = inputs = 0
    state, before, start = [], [], []
    for stored_SH, steps in parts:
        state.append(steps.state_N + states)
        before.append(np.where(steps.before_N < 0, steps.before_N, steps.before_N + events))
        start.append(steps.start_N + inputs)
        states += len(stored_SH)
        events += len(steps)
        inputs += len(steps.ids_MC)
    return np.concatenate([stored_SH for stored_SH, _ in parts]), Steps(
        np.concatenate(state),
        np.concatenate(before),
        np.concatenate(start),
        np.concatenate([steps.ids_MC for _, steps in parts]),
        np.concatenate([steps.nums_MF for _, steps in parts]),
    )
