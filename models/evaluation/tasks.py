"""The tasks by name, and running them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
    timeliness,
)
from models.evaluation.contest import ContestConfig, Say
from models.evaluation.pool import Part, evaluate_parts
from models.evaluation.recsys2025 import task as recsys2025
from models.evaluation.results import TaskResult
from models.evaluation.sessions import tasks as sessions
from models.evaluation.simulated_shop import SimulatedShop
from models.log.eventlog import EventLog

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
    timeliness.RETAIL: timeliness.evaluate_retail,
}
SIMULATED: Final[dict[str, Callable[[SimulatedShop, ContestConfig, Say], list[TaskResult]]]] = {
    simulated_shop.TASK: simulated_shop.evaluate,
    simulated_return.TASK: simulated_return.evaluate,
    live_recalibration.DRIFTING: live_recalibration.evaluate_drifting,
}
TASKS: Final = (*ON_FILES, *SIMULATED, timeliness.SIMULATED)
ALL: Final = "all"
OPTIONAL: Final[dict[str, Callable[[Sequence[Path]], bool]]] = {
    recsys2025.TASK: recsys2025.found_in,
    **sessions.OPTIONAL,
}
"""Tasks whose files few have: `all` runs one where the folders have them."""

COSTS: Final[dict[str, float]] = {
    "published_cdnow_30d": 12,
    "sessions_taobao": 9,
    "sessions_simulated": 7,
    "published_online_retail_14d": 5,
    timeliness.RETAIL: 5,
    "taobao_next": 4.5,
    timeliness.SIMULATED: 4,
    "published_online_retail_30d": 3.5,
    live_recalibration.DRIFTING: 3,
    live_recalibration.RETAIL: 2.2,
    simulated_return.TASK: 2.2,
    cdnow_return.TASK: 2,
    online_retail_spend.TASK: 1.7,
    taobao_interest_24h.TASK: 1.6,
}
"""About so many minutes of a core with five seeds: the longest parts begin first."""


@dataclass(frozen=True)
class Sources:
    """Where tasks get their events."""

    folders: tuple[Path, ...]
    """Folders of the public files."""
    simulated: Callable[[], SimulatedShop]
    """Draws the simulated shop; a function of a module."""
    leaving: Callable[[], EventLog]
    """Draws events of a shop that users leave; likewise."""


def run(
    wanted: str, sources: Sources, config: ContestConfig, say: Say, jobs: int = 1
) -> list[TaskResult]:
    """Run a task, or all.

    Args:
        wanted: name of a task, or `ALL`.
        sources: where events come from; with several jobs they go to other processes.
        config: seeds and networks.
        say: takes one line per step.
        jobs: processes at a time.

    Raises:
        EvaluationError: there is no such task, or its data is missing or not usable.
    """
    if wanted != ALL and wanted not in TASKS:
        raise EvaluationError(f"no task {wanted!r}; choose one of {', '.join((ALL, *TASKS))}")
    names = _all(sources) if wanted == ALL else [wanted]
    parts = [part for name in names for part in _parts(name, sources, config)]
    return evaluate_parts(parts, jobs, say)


def _parts(name: str, sources: Sources, config: ContestConfig) -> list[Part]:
    """A task in parts that share no fit."""
    cost = COSTS.get(name, 0.0)
    if name in SIMULATED:
        return [Part(name, partial(_simulated, name, sources, config), cost)]
    if name == timeliness.SIMULATED:
        return [Part(name, partial(_leaving, sources, config), cost)]
    if name == published.GROUP:
        return [
            Part(
                part,
                partial(published.evaluate_part, part, sources.folders, config),
                COSTS.get(part, 0.0),
            )
            for part in published.PARTS
        ]
    return [Part(name, partial(ON_FILES[name], sources.folders, config), cost)]


def _simulated(name: str, sources: Sources, config: ContestConfig, say: Say) -> list[TaskResult]:
    return SIMULATED[name](sources.simulated(), config, say)


def _leaving(sources: Sources, config: ContestConfig, say: Say) -> list[TaskResult]:
    return timeliness.evaluate_simulated(sources.leaving(), config, say)


def _all(sources: Sources) -> list[str]:
    return [name for name in TASKS if name not in OPTIONAL or OPTIONAL[name](sources.folders)]
