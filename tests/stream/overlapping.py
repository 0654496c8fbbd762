"""A scorer that launches as one on a GPU does, with the numbers of the CPU's, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from models.serving.scorer import Scorer
from models.steps import Steps

Numbers = tuple[np.ndarray, np.ndarray]


class Overlapping:
    """Makes the numbers when they are fetched, of what the arguments were at the launch."""

    overlaps = True

    def __init__(
        self, scorer: Scorer, answer: Callable[[Numbers], Numbers] = lambda right: right
    ) -> None:
        """`answer` may change or refuse what a launch says."""
        self._scorer = scorer
        self._answer = answer
        self.under_way = self.launches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def launch(self, stored: np.ndarray, steps: Steps, profile: np.ndarray) -> _Late:
        self.under_way += 1
        self.launches += 1
        return _Late(self, stored.copy(), copy.deepcopy(steps), profile.copy())

    def numbers(self, stored: np.ndarray, steps: Steps, profile: np.ndarray) -> Numbers:
        self.under_way -= 1
        hidden = self._scorer.advance(stored, steps)
        return self._answer((hidden, self._scorer.probabilities(hidden, profile)))


class _Late:
    def __init__(self, scorer: Overlapping, *arguments: Any) -> None:
        self._scorer, self._arguments = scorer, arguments

    def fetch(self) -> Numbers:
        return self._scorer.numbers(*self._arguments)
