"""The last N rankings that met their truth, and their figures next to the last name's."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["JudgedRanking", "RankingFigures", "RankingWindow"]


@dataclass(frozen=True)
class RankingFigures:
    """Figures of the rankings of a window."""

    total: int
    """Judged ever; the window holds the last of them."""
    judged: int
    """In the window."""
    hit_rate: float
    """Share of them with the truth among the names told."""
    ndcg: float
    """Mean discounted gain of the names told: 1 for a truth told first, 0 for one not told."""
    last_hit_rate: float
    """Share of the same moments at which the truth was the user's last one again."""


@dataclass(slots=True)
class JudgedRanking:
    """A ranking and its truth; a later one of the same moment is written over it."""

    offset: int
    """Of the event that it was made after."""
    truth: str
    last: bool
    """Whether the truth was the user's last one again."""
    gain: float
    """0: the truth was not told."""


class RankingWindow:
    """The last so many judged rankings."""

    def __init__(self, size: int) -> None:
        """Hold the last `size` rankings."""
        self._rows: deque[JudgedRanking] = deque(maxlen=size)
        self._total = 0

    def add(self, judged: JudgedRanking) -> None:
        """Take in one more; what is written over it later shows in the figures."""
        self._rows.append(judged)
        self._total += 1

    def figures(self) -> RankingFigures | None:
        """Compute the figures; None while the window is empty."""
        count = len(self._rows)
        if count == 0:
            return None
        return RankingFigures(
            total=self._total,
            judged=count,
            hit_rate=sum(row.gain > 0 for row in self._rows) / count,
            ndcg=sum(row.gain for row in self._rows) / count,
            last_hit_rate=sum(row.last for row in self._rows) / count,
        )
