"""What a worker does before its first event, done once in the process that others are forked from.

A forked worker inherits the compiled kernels in place of reading them from their cache.
"""

from __future__ import annotations

from models.serving.scorer import Scorer
from stream.config.settings import Settings
from stream.config.targets import targets_of
from stream.worker.warming import warm_up

_settings = Settings()
warm_up(_settings, Scorer.rhythm(targets_of(_settings)))
