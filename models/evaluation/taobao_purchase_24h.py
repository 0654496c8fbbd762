"""Taobao: who buys within a day, asked at midnight of the shop's last two days in the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models.evaluation.contest import ContestConfig, Say, binary_task
from models.evaluation.cuts import Protocol
from models.evaluation.results import TaskResult
from models.evaluation.sources import DAY, TAOBAO, TAOBAO_START, find, read_taobao
from models.history import PURCHASE
from models.targets import OCCURS, Target

TASK: Final = "taobao_purchase_24h"
TRAIN_DAYS: Final = (2, 3, 4, 5, 6)
TEST_DAYS: Final = (7, 8)


BUYS: Final = Target("purchase", OCCURS, PURCHASE, DAY)


def protocol(target: Target = BUYS) -> Protocol:
    """Every user who was seen before the day; `target` has a horizon of a day."""
    train, test = (
        tuple(TAOBAO_START + day * DAY for day in days) for days in (TRAIN_DAYS, TEST_DAYS)
    )
    return Protocol(target, train, test)


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the task on the file in one of `folders`."""
    log = read_taobao(find(TAOBAO, folders))
    title = "Taobao: a purchase within 24 hours"
    return [binary_task(TASK, title, log, protocol(), config, say)]
