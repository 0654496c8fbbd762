"""UCI Online Retail: who of the buyers before September 2011 buys within 91 days."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from models.evaluation.contest import ContestConfig, Say, binary_task
from models.evaluation.cuts import Protocol
from models.evaluation.results import TaskResult
from models.evaluation.sources import DAY, ONLINE_RETAIL, find, read_online_retail
from models.history import PURCHASE
from models.targets import OCCURS, Target

TASK: Final = "online_retail_return"
TEST: Final = int(np.datetime64("2011-09-01", "ms").astype(np.int64))
HORIZON: Final = 91 * DAY
TRAIN: Final = tuple(
    int(np.datetime64(f"2011-{month:02d}-01", "ms").astype(np.int64)) for month in (3, 4, 5, 6)
)
"""The months' beginnings with a quarter of history before and a whole label after them. Rates rise
and fall with the season, so all count the same."""


def protocol() -> Protocol:
    """Customers with a purchase that is no cancellation."""
    target = Target("return", OCCURS, PURCHASE, HORIZON)
    return Protocol(target, TRAIN, (TEST,), buyers_only=True)


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the task on the file in one of `folders`."""
    log = read_online_retail(find(ONLINE_RETAIL, folders))
    title = "Online Retail: a purchase within 91 days"
    return [binary_task(TASK, title, log, protocol(), config, say)]
