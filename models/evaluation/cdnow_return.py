"""CDNOW: who buys again in the first half of 1998, told from everything up to the end of 1997."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from models.evaluation.contest import ContestConfig, Say, binary_task
from models.evaluation.cuts import Protocol
from models.evaluation.results import TaskResult
from models.evaluation.sources import CDNOW, DAY, find, read_cdnow
from models.history import PURCHASE
from models.targets import OCCURS, Target

TASK: Final = "cdnow_return"
TEST: Final = int(np.datetime64("1998-01-01", "ms").astype(np.int64))
HORIZON: Final = 181 * DAY
"""To the end of June."""
MONTH: Final = 30 * DAY
TRAIN: Final = tuple(TEST - HORIZON - months * MONTH for months in (2, 1, 0))
"""The last moment with a whole label before the test, and one and two months earlier. Customers
all begin in the first quarter and age together, so each older cut resembles the test less: it
counts half of the next."""


def protocol() -> Protocol:
    """All customers, scored at the turn of the year."""
    target = Target("return", OCCURS, PURCHASE, HORIZON)
    return Protocol(target, TRAIN, (TEST,), half_life_ms=MONTH)


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the task on the file in one of `folders`."""
    log = read_cdnow(find(CDNOW, folders))
    title = "CDNOW: a purchase within 181 days"
    return [binary_task(TASK, title, log, protocol(), config, say)]
