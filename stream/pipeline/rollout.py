"""Which models serve whom: a champion all, a canary a share of the users, a shadow nobody.

Pure. What is announced on `models.published` decides: each version has the role of its last
announcement, a tombstone takes it back, and of several canaries or shadows the newest counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import structlog
import xxhash

from models.inputs.features import ring_inputs
from models.populations import EVENT
from models.serving.recalibration import recalibrated
from stream.errors import ScorerFailed, TrainerError
from stream.pipeline.fallback import CheckedScorer, checked
from stream.pipeline.ranking import Ranks, ranks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from models.history import Records
    from models.inputs.features import F32
    from schemas.control import ModelPublished
    from schemas.control import Rollout as Role
    from stream.pipeline.hidden import ScorerLike

log = structlog.get_logger(__name__)

_SHARES: Final = 1_000_000


def in_canary(user_id: bytes, version: str, share: float) -> bool:
    """Whether a canary serves this user: by hash, so that it is the same ones everywhere.

    The version is in the hash, so that each canary has users of its own; with a greater share those
    who were in stay in.
    """
    place = xxhash.xxh3_64_intdigest(version.encode() + b"\0" + user_id) % _SHARES
    return place < round(share * _SHARES)


@dataclass(frozen=True)
class Trials:
    """The models on trial, opened; scorers as the engine takes them."""

    canary: Any = None
    share: float = 0.0
    """Of the users that the canary serves."""
    shadow: Any = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.canary is not None or self.shadow is not None

    def without(self, version: str) -> Trials:
        """The same but for the models of this version."""
        left = self
        if self.canary is not None and self.canary.version == version:
            left = replace(left, canary=None, share=0.0)
        if self.shadow is not None and self.shadow.version == version:
            left = replace(left, shadow=None)
        return left

    def checked(self) -> Trials:
        """The same with the models' answers checked."""
        return replace(
            self,
            canary=None if self.canary is None else checked(self.canary),
            shadow=None if self.shadow is None else checked(self.shadow),
        )

    def versions(self) -> tuple[str | None, str | None]:
        """Of the canary and of the shadow."""
        return (
            None if self.canary is None else self.canary.version,
            None if self.shadow is None else self.shadow.version,
        )


@dataclass(frozen=True)
class Serving:
    """All models of a partition."""

    champion: Any
    trials: Trials = field(default_factory=Trials)

    @property
    def rebuilds(self) -> int:
        """Events up to which each of them makes the state that it had before of the ring."""
        canary = self.trials.canary
        rebuilds: int = self.champion.rebuilds
        return rebuilds if canary is None else min(rebuilds, canary.rebuilds)

    def without(self, version: str) -> Serving:
        """The same but for models on trial of this version."""
        return replace(self, trials=self.trials.without(version))

    def split(
        self, user_ids: Iterable[bytes], size: int
    ) -> Iterator[tuple[Any, NDArray[np.intp] | None]]:
        """Yield each model that serves any of the users, and whose: None for everybody's.

        Args:
            user_ids: of `size` users or events; not looked at without a canary.
            size: how many.
        """
        canary, share = self.trials.canary, self.trials.share
        if canary is None or share <= 0:
            yield self.champion, None
            return
        version = canary.version
        chosen = (in_canary(user, version, share) for user in user_ids)
        mask = np.fromiter(chosen, np.bool_, size)
        for scorer, mine in ((self.champion, ~mask), (canary, mask)):
            if mine.any():
                yield scorer, None if mine.all() else np.flatnonzero(mine)


def serving_of(scorer: ScorerLike | Serving) -> Serving:
    """One model, or several, with their answers checked."""
    if not isinstance(scorer, Serving):
        return Serving(checked(scorer))
    return Serving(checked(scorer.champion), scorer.trials.checked())


def shadow_scores(
    shadow: CheckedScorer, records: Records, rows: NDArray[np.intp], profile_NP: F32, most: int
) -> tuple[F32, dict[str, Ranks]] | None:
    """Probabilities [N,K] of users (each once) as they are, and what they turn to next.

    Of that `most` are told. A shadow keeps no hidden states: they are rebuilt from the rings, and
    the records stay as they are. None when it fails, which must take nothing else with it.
    """
    try:
        hidden_NH = shadow.encode(*ring_inputs(records, rows, shadow.history_length))
        ranks: dict[str, Ranks] = {}
        if shadow.ranks and most:
            ranks = ranks_of(shadow, hidden_NH, ring_inputs(records, rows, shadow.shown), most)
        told_NK = shadow.probabilities(hidden_NH, profile_NP)
        return recalibrated(shadow, EVENT, told_NK), ranks
    except ScorerFailed as error:
        log.warning("the shadow fails and is dropped", model=shadow.version, why=str(error))
        return None


@dataclass
class Announced:
    """What `models.published` says, read from its beginning, in order."""

    _by_version: dict[str, ModelPublished] = field(default_factory=dict)

    def note(self, version: str, published: ModelPublished | None) -> None:
        """Take in one announcement; None withdraws the version."""
        self._by_version.pop(version, None)
        if published is not None:
            self._by_version[version] = published

    def of(self, role: Role) -> list[ModelPublished]:
        """Versions of a role, the one that was announced last first."""
        return [each for each in reversed(self._by_version.values()) if each.rollout == role]

    def get(self, version: str) -> ModelPublished | None:
        """The last announcement of a version that is not withdrawn."""
        return self._by_version.get(version)

    def role(self, version: str) -> str:
        """Role of a version now, in words: "-" without one, "former champion" if another came."""
        published = self._by_version.get(version)
        if published is None:
            return "-"
        current = self.of(published.rollout)[0].version == version
        share = f" {published.canary_share:.1%}" if published.rollout == "canary" else ""
        return f"{'' if current else 'former '}{published.rollout}{share if current else ''}"

    def rollback(self, version: str | None = None) -> tuple[str, str]:
        """The version to withdraw, the canary or else the champion unless given; the champion then.

        Raises:
            TrainerError: it has no role, or no champion would be left.
        """
        if version is None:
            serving = [*self.of("canary")[:1], *self.of("champion")[:1]]
            if not serving:
                raise TrainerError("no model is announced: there is nothing to roll back")
            version = serving[0].version
        if version not in self._by_version:
            raise TrainerError(f"model {version} is not announced: see `intentstream models list`")
        left = [each.version for each in self.of("champion") if each.version != version]
        if not left:
            others = ", ".join(
                f"{each} is {self.role(each)}" for each in self._by_version if each != version
            )
            raise TrainerError(
                f"model {version} is the only champion that is announced now"
                f"{f' ({others})' if others else ''}: promote another one first, or name the model"
                " to take back"
            )
        return version, left[0]
