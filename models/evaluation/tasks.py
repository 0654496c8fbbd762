"""The tasks by name, and running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import EvaluationError
from models.evaluation import (
    cdnow_return,
    live_recalibration,
    online_retail_return,
    online_retail_spend,
    published,
    simulated_return,
    simulated_shop,
    taobao_interest_24h,
    taobao_next,
    taobao_purchase_24h,
)
from models.evaluation.contest import ContestConfig, Say
from models.evaluation.recsys2025 import task as recsys2025
from models.evaluation.results import TaskResult
from models.evaluation.sessions import tasks as sessions
from models.evaluation.simulated_shop import SimulatedShop

Evaluate = Callable[[Sequence[Path], ContestConfig, Say], list[TaskResult]]

ON_FILES: Final[dict[str, Evaluate]] = {
    cdnow_return.TASK: cdnow_return.evaluate,
    online_retail_return.TASK: online_retail_return.evaluate,
    online_retail_spend.TASK: online_retail_spend.evaluate,
    taobao_purchase_24h.TASK: taobao_purchase_24h.evaluate,
    taobao_interest_24h.TASK: taobao_interest_24h.evaluate,
    "taobao_next": taobao_next.evaluate,
    published.GROUP: published.evaluate,
    recsys2025.TASK: recsys2025.evaluate,
    **sessions.TASKS,
    live_recalibration.RETAIL: live_recalibration.evaluate_retail,
}
SIMULATED: Final[dict[str, Callable[[SimulatedShop, ContestConfig, Say], list[TaskResult]]]] = {
    simulated_shop.TASK: simulated_shop.evaluate,
    simulated_return.TASK: simulated_return.evaluate,
    live_recalibration.DRIFTING: live_recalibration.evaluate_drifting,
}
TASKS: Final = (*ON_FILES, *SIMULATED)
ALL: Final = "all"
OPTIONAL: Final[dict[str, Callable[[Sequence[Path]], bool]]] = {
    recsys2025.TASK: recsys2025.found_in,
    **sessions.OPTIONAL,
}
"""Tasks whose files few have: `all` runs one where the folders have them."""


@dataclass(frozen=True)
class Sources:
    """Where tasks get their events."""

    folders: tuple[Path, ...]
    """Folders of the public files."""
    simulated: Callable[[], SimulatedShop]
    """Draws the simulated shop."""


def run(wanted: str, sources: Sources, config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run a task, or all.

    Raises:
        EvaluationError: there is no such task, or its data is missing or not usable.
    """
    if wanted != ALL and wanted not in TASKS:
        raise EvaluationError(f"no task {wanted!r}; choose one of {', '.join((ALL, *TASKS))}")
    results: list[TaskResult] = []
    for name in _all(sources) if wanted == ALL else (wanted,):
        if name in SIMULATED:
            results += SIMULATED[name](sources.simulated(), config, say)
        else:
            results += ON_FILES[name](sources.folders, config, say)
    return results


def _all(sources: Sources) -> list[str]:
    return [name for name in TASKS if name not in OPTIONAL or OPTIONAL[name](sources.folders)]
