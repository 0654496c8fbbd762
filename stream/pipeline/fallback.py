"""What serves when a model fails: it is tried again, then the one before it takes over.

A model that raises, or returns numbers that are not finite or not of the right shape, may fail in
the middle of a micro-batch, when records have already changed in memory. Nothing of that batch is
durable then, so the partition is opened anew from what is, and the batch is done again, whole, by
the next model of the line: the one served before, and at last the closed-form model. What these
score is marked `stale`. Each record is thus scored by one model, once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import structlog

from models.monitoring.drift import Reference
from models.serving.joining import Joining
from models.serving.offload import Ready
from stream.errors import ScorerFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.history import I64
    from models.inputs.features import F32
    from models.serving.offload import Launch
    from models.serving.recalibration import Recalibrator
    from models.serving.thresholds import RaiseAt
    from models.steps import Steps
    from stream.pipeline.hidden import ScorerLike

RETRY_S: Final = 90.0
"""A model that failed is tried again after this long, then after twice as long, and so on. Longer
than a partition must run for its failures in a row to count anew."""
RETRY_MAX_S: Final = 3600.0
_TRIES: Final = 2

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


class CheckedScorer:
    """A model whose answers are looked at before anyone believes them; a `ScorerLike`."""

    def __init__(self, scorer: ScorerLike, *, stale: bool = False) -> None:
        """`stale`: a newer model should be serving."""
        self._scorer = scorer
        self.stale = stale
        self.version = scorer.version
        self.code = scorer.code
        self.targets = scorer.targets
        self.hidden_size = scorer.hidden_size
        self.history_length = scorer.history_length
        self.recurrent = scorer.recurrent
        self.rebuilds = scorer.rebuilds
        self.ranks = scorer.ranks
        self.shown = scorer.shown
        self.overlaps = scorer.overlaps
        self.feature_version = scorer.feature_version
        self.cold_start = scorer.cold_start
        self.raises = scorer.raises
        self.raise_at: RaiseAt | None = getattr(scorer, "raise_at", None)
        self.reference_profile = scorer.reference_profile
        self.reference: Reference = getattr(scorer, "reference", Reference())
        self.recalibration: Recalibrator | None = getattr(scorer, "recalibration", None)
        self._joining = Joining()

    def with_recalibration(self, found: Recalibrator | None) -> CheckedScorer:
        """The same model with another recalibration, or none."""
        other = CheckedScorer(self._scorer, stale=self.stale)
        other.recalibration = found
        return other

    def encode(self, ids_BLC: I64, nums_BLF: F32, length_B: I64) -> F32:
        """Hidden states [B,H]; raises `ScorerFailed`."""
        shape = (len(ids_BLC), self.hidden_size)
        return self._ask("encode", _of_shape(shape), ids_BLC, nums_BLF, length_B)

    def launch(self, stored_SH: F32, steps: Steps, profile_NP: F32) -> Launch:
        """Begin to make states and probabilities of N events; this or `fetch` may fail.

        Raises:
            ScorerFailed: as `advance` and `probabilities` do, which are the second try.
        """
        if not self.overlaps:
            return self._joining.launch(self._step_by_step, stored_SH, steps, profile_NP)
        again = functools.partial(self._step_by_step, stored_SH, steps, profile_NP)
        try:
            under_way = self._scorer.launch(stored_SH, steps, profile_NP)
        except Exception as error:  # noqa: BLE001  # whatever a model's code may raise
            self._warn("launch", 0, _raised(error))
            return Ready(*again())
        count = len(steps)
        shapes = (count, self.hidden_size), (count, len(self.targets))
        return _Checked(under_way, shapes, functools.partial(self._warn, "launch", 0), again)

    def _step_by_step(self, stored_SH: F32, steps: Steps, profile_NP: F32) -> tuple[F32, F32]:
        hidden_NH = self.advance(stored_SH, steps)
        return hidden_NH, self.probabilities(hidden_NH, profile_NP)

    def advance(self, stored_SH: F32, steps: Steps) -> F32:
        """The hidden states [N,H] of N events; raises `ScorerFailed`."""
        shape = (len(steps), self.hidden_size)
        return self._ask("advance", _of_shape(shape), stored_SH, steps)

    def probabilities(self, hidden_BH: F32, profile_BP: F32) -> F32:
        """Probabilities [B,K] before any recalibration; raises `ScorerFailed`."""
        shape = (len(profile_BP), len(self.targets))
        return self._ask("probabilities", _of_shape(shape), hidden_BH, profile_BP)

    def rank(
        self, what: str, hidden_NH: F32, ids_NRC: I64, nums_NRF: F32, length_N: I64, k: int
    ) -> tuple[NDArray[np.object_], F32]:
        """Names of the likeliest next ones and their probabilities; raises `ScorerFailed`."""

        def problem(answer: tuple[NDArray[np.object_], F32]) -> str:
            names, probabilities = answer
            return _problem(probabilities, (len(length_N), *names.shape[1:]))

        rows = hidden_NH, ids_NRC, nums_NRF, length_N
        return self._ask("rank", problem, what, *rows, k)

    def _ask(self, method: str, problem_of: Callable[[Answer], str], *arguments: Any) -> Answer:
        problem = ""
        for attempt in range(_TRIES):
            try:
                answer: Answer = getattr(self._scorer, method)(*arguments)
            except Exception as error:  # noqa: BLE001  # whatever a model's code may raise
                problem = _raised(error)
            else:
                problem = problem_of(answer)
                if not problem:
                    return answer
            self._warn(method, attempt, problem)
        raise ScorerFailed(self.version, f"{method} {problem}")

    def _warn(self, method: str, attempt: int, problem: str) -> None:
        log.warning(
            "model fails", model=self.version, method=method, attempt=attempt + 1, why=problem
        )


class _Checked:
    """A launch whose numbers are looked at when they come; if they are wrong it is done again."""

    over = False

    def __init__(
        self,
        under_way: Launch,
        shapes: tuple[tuple[int, int], tuple[int, int]],
        warn: Callable[[str], None],
        again: Callable[[], tuple[F32, F32]],
    ) -> None:
        """`again`: the same step by step, which raises `ScorerFailed` if it is no better."""
        self._under_way = under_way
        self._shapes = shapes
        self._warn = warn
        self._again = again

    def fetch(self) -> tuple[F32, F32]:
        """See `Launch`."""
        try:
            numbers = self._under_way.fetch()
        except Exception as error:  # noqa: BLE001  # whatever a model's code may raise
            problem = _raised(error)
        else:
            problem = " ".join(filter(None, map(_problem, numbers, self._shapes)))
            if not problem:
                return numbers
        self._warn(problem)
        return self._again()


def _raised(error: Exception) -> str:
    return f"raises {type(error).__name__}: {' '.join(str(error).split())[-300:]}"


def _of_shape(shape: tuple[int, ...]) -> Callable[[F32], str]:
    return functools.partial(_problem, shape=shape)


def _problem(answer: F32, shape: tuple[int, ...]) -> str:
    if answer.shape != shape:
        return f"returns an array of shape {answer.shape} instead of {shape}"
    if not np.isfinite(answer).all():
        return "returns numbers that are not finite"
    return ""


def checked(scorer: ScorerLike) -> CheckedScorer:
    """The scorer with its answers checked; one that is checked already as it is."""
    return scorer if isinstance(scorer, CheckedScorer) else CheckedScorer(scorer)


class Lineup:
    """The models of a worker in the order in which they serve. On the event loop only."""

    def __init__(
        self,
        champion: Any,
        last_resort: Callable[[], ScorerLike] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with `champion`; `last_resort` makes the model that serves when all others fail."""
        self.champion = champion
        """The newest model, whether it serves or not."""
        self.serving = champion
        """What scores now: the champion, or a `CheckedScorer` of an older model."""
        self._last_resort = last_resort
        self._clock = clock
        self._before: list[ScorerLike] = []
        self._waiting: list[ScorerLike] = []
        self._retry_at: float | None = None
        self._pause = RETRY_S

    def promote(self, scorer: Any) -> None:
        """Serve a new champion; the one that serves now stands behind it.

        The same model with another recalibration takes its own place, serving or set aside.
        """
        if scorer.version == self.champion.version:
            if self.serving is self.champion:
                self.serving = scorer
            self.champion = scorer
            return
        if self.serving is self.champion:
            self._before = [self.champion]
        self.champion = self.serving = scorer
        self._retry_at, self._pause = None, RETRY_S

    def set_aside(self, version: str) -> bool:
        """Serve the next model in line because `version` failed; False if there is no other.

        True also when that version does not serve any more: somebody else saw it fail.
        """
        if self.serving.version != version:
            return True
        if self.serving is self.champion:
            self._waiting = self._line()
            self._retry_at = self._clock() + self._pause
            self._pause = min(self._pause * 2, RETRY_MAX_S)
        if not self._waiting:
            return False
        self.serving = CheckedScorer(self._waiting.pop(0), stale=True)
        log.error("a model is set aside", model=version, serving=self.serving.version)
        return True

    def reinstate(self) -> bool:
        """Serve the champion again if it has been set aside for long enough; whether it does."""
        if self._retry_at is None or self._clock() < self._retry_at:
            return False
        self._retry_at, self.serving = None, self.champion
        log.info("the model that failed is tried again", model=self.champion.version)
        return True

    def _line(self) -> list[ScorerLike]:
        line = [scorer for scorer in self._before if scorer.version != self.champion.version]
        if self._last_resort is not None:
            line.append(self._last_resort())
        return line
