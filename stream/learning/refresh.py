"""Training that goes on: the first round reads the whole log, later ones only what is new.

What was read is kept as histories and points (`models.training.rolling`); a later round gives the
published model the new points and a reminder of old ones. Every `train.full_every` rounds a model
is fitted from the beginning, on the points that are kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from models.errors import ArtifactError, RegistryError
from models.inputs.features import FEATURE_VERSION
from models.log.eventlog import EventLog, Until
from models.serving.artifact import read_artifact, read_gated
from models.serving.registry import Registry
from models.training.candidates import Course, Lesson
from models.training.rolling import Rolling
from models.training.train import TrainConfig, Trained, train_on
from models.training.warm import warm_heads, warm_network
from stream.config.trust import manifest_check
from stream.errors import NothingNew
from stream.kafka.erased import read_erased

if TYPE_CHECKING:
    from models.data.dataset import Examples
    from models.serving.scorer import Scorer
    from models.targets import Target
    from models.training.gather import Gathered
    from stream.config.settings import Settings
    from stream.learning.logreader import Count
    from stream.learning.sources import Source

STATE_FILE: Final = "training.state"
_ERASED: Final = "erased/"
"""Begins the names under which the state notes the requests to be forgotten that it heeded."""


@dataclass
class Refresher:
    """The rounds of one trainer."""

    settings: Settings
    source: Source
    targets: tuple[Target, ...]
    config: TrainConfig
    path: Path | None = None
    """Where the state is kept between processes; None: in memory only."""
    rounds: int = 0
    """Published since the last whole fit."""
    _state: Rolling = field(init=False)
    _gathered: Gathered | None = None

    def __post_init__(self) -> None:
        """Go on from the file, where there is one.

        Raises:
            CheckpointError: it is damaged or of other settings.
        """
        self._state = Rolling(self.targets, self.config.dataset, self.config.drop_late)
        if self.path is not None and self._state.load(self.path):
            self.source.go_on(self._state.position, self._state.names)

    @property
    def gathered(self) -> Gathered | None:
        """The examples of the last round; None before the first."""
        return self._gathered

    def open_examples(self) -> Examples:
        """The points that are kept, with what is known of their labels so far."""
        return self._state.open_examples()

    def train(
        self,
        until: int | None,
        created_at: int,
        course: Course,
        count: Count | None,
        champion: Scorer | None = None,
    ) -> Trained:
        """Take in what is new and fit.

        Raises:
            NothingNew: no example came since the published model, which is there.
            IntentStreamError: nothing is to be published, and why.
        """
        state = self._state
        heeded = self._requests() if not state.begun else {}
        log = self.source.read(count)
        log = log if until is None else Until(log, until)
        if state.begun:
            state.advance(EventLog.join([EventLog.none(), *log.parts()]), created_at)
        else:
            state.begin(log, created_at, self.source.refused)
            state.position |= heeded
        self._forget()
        self.source.drop()
        state.position |= self.source.position
        gathered, lesson = self._lesson(state.gathered())
        self._gathered = gathered
        if lesson is not None and not len(lesson.fresh):
            self._keep()
            raise NothingNew(
                f"nothing new to learn from since model {state.version}: nothing is published"
            )
        return train_on(
            gathered,
            self.config,
            created_at=created_at,
            course=course,
            lesson=lesson,
            champion=champion,
            names=self.source.names,
        )

    @property
    def begun(self) -> bool:
        """Whether the log was taken in, and is no longer kept event by event."""
        return self._state.begun

    def published(self, version: str) -> None:
        """Note that what was trained last is published as `version`.

        Raises:
            CheckpointError: the state cannot be written.
        """
        if self._gathered is not None:
            self._state.learned(self._gathered, version)
            self.rounds += 1
        self._keep()

    def _keep(self) -> None:
        """Write the state where it is to be kept; raises CheckpointError."""
        if self.path is not None:
            self._state.names = {what: own.rows() for what, own in self.source.names.items()}
            self._state.save(self.path)

    def _lesson(self, gathered: Gathered) -> tuple[Gathered, Lesson | None]:
        """Examples of the published model's targets, and its lesson; None: a whole fit is due."""
        state = self._state
        if not state.version:
            return gathered, None
        registry = Registry(self.settings.models_dir)
        try:
            published = read_artifact(
                registry.resolve(state.version),
                feature_version=FEATURE_VERSION,
                check=manifest_check(self.settings.models),
            )
            # What serves has seen labels by which this round is judged; the gated fit has not.
            artifact = read_gated(published)
        except (ArtifactError, RegistryError):
            return gathered, None
        targets = artifact.manifest.targets
        if not set(targets) <= set(gathered.targets) and set(targets) <= set(self.targets):
            return gathered, None
        whole = gathered
        if set(targets) <= set(gathered.targets):
            gathered = gathered.only(targets, artifact.manifest.left_out)
        fresh, memory = state.lesson(gathered, self.config.refresh.replay)
        if len(fresh) and self.rounds >= self.settings.train.full_every:
            self.rounds = 0
            return whole, None
        network = warm_network(artifact, gathered.targets, self.config.hidden_size)
        heads = warm_heads(artifact, network)
        manifest = artifact.manifest
        return gathered, Lesson(
            manifest.architecture,
            network,
            artifact.script,
            fresh,
            memory,
            heads,
            manifest.self_supervision,
        )

    def _forget(self) -> None:
        """Remove who asked to be forgotten since the last round, with all that is kept of them."""
        state = self._state
        news = {k: v for k, v in self._requests().items() if state.position.get(k) != v}
        if news:
            users = [int(name.removeprefix(_ERASED)) for name in news]
            state.forget(np.array(users, np.uint64))
            state.position |= news

    def _requests(self) -> dict[str, int]:
        """Requests to be forgotten as the state notes them: user -> time of the last one."""
        if not self.settings.kafka.bootstrap_servers:
            return {}
        erased = asyncio.run(read_erased(self.settings))
        return {f"{_ERASED}{user}": time for user, time in erased.requests().items()}
