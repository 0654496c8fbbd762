"""Taobao: who adds to the cart, and who marks a favourite, within a day; cuts as for purchases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models.evaluation.contest import ContestConfig, Say, binary_task
from models.evaluation.results import TaskResult
from models.evaluation.sources import DAY, TAOBAO, find, read_taobao
from models.evaluation.taobao_purchase_24h import protocol
from models.targets import CART, FAVOURITE, OCCURS, Target
from schemas.events import EventType

TASK: Final = "taobao_interest_24h"
TARGETS: Final = {
    "taobao_cart_24h": (
        "Taobao: an addition to the cart within 24 hours",
        Target(CART, OCCURS, EventType.CART_ADD, DAY),
    ),
    "taobao_favourite_24h": (
        "Taobao: a favourite within 24 hours",
        Target(FAVOURITE, OCCURS, EventType.FAVOURITE, DAY),
    ),
}
"""Task -> its title and target."""


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run both tasks on the file in one of `folders`."""
    log = read_taobao(find(TAOBAO, folders))
    return [
        binary_task(task, title, log, protocol(target), config, say)
        for task, (title, target) in TARGETS.items()
    ]
