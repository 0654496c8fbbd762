"""The tasks of intent in a session: the simulated funnel and the logs of three shops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from models.evaluation.contest import ContestConfig, Say
from models.evaluation.results import TaskResult
from models.evaluation.sessions.contest import SessionTask, run_session_task
from models.evaluation.sessions.funnel import FunnelPlan, draw_funnel
from models.evaluation.sessions.points import session_points
from models.evaluation.sessions.sources import REES46, RETAILROCKET, read_rees46, read_retailrocket
from models.evaluation.sources import TAOBAO, find, read_taobao
from models.history import SessionRules
from models.log.eventlog import EventLog
from models.targets import SESSION, Target, intent_targets

FUNNEL: Final = "sessions_simulated"
REES46_TASK: Final = "sessions_rees46"
RETAILROCKET_TASK: Final = "sessions_retailrocket"
LONGEST: Final = 7_200_000
"""How far ahead the rest of a session is looked at."""
QUARTER: Final = 900_000

Read = Callable[[Path], EventLog]
SHOPS: Final[dict[str, tuple[str, str, Read]]] = {
    "sessions_taobao": ("Taobao, in the session", TAOBAO, read_taobao),
    REES46_TASK: ("REES46, in the session", REES46, read_rees46),
    RETAILROCKET_TASK: ("RetailRocket, in the session", RETAILROCKET, read_retailrocket),
}
"""Task -> title, file, reader."""


def targets_of(intents: Sequence[str], within: Sequence[str | int]) -> tuple[Target, ...]:
    """Targets with the default session rules."""
    return intent_targets(intents, within, SessionRules().gap, LONGEST)


def evaluate_funnel(
    folders: Sequence[Path], config: ContestConfig, say: Say, plan: FunnelPlan | None = None
) -> list[TaskResult]:
    """Purchase in the rest of a simulated session, beside its true probability; reads no file."""
    del folders
    shop = draw_funnel(plan or FunnelPlan())
    points = session_points(shop.log, targets_of(("purchase",), (SESSION,)))
    truth = shop.truth[points.ordered.log.events.id[points.place].astype(int) - 1]
    title = "Simulated funnel, in the session"
    return run_session_task(SessionTask(FUNNEL, title, points, truth), config, say)


def evaluate_shop(
    task: str, folders: Sequence[Path], config: ContestConfig, say: Say
) -> list[TaskResult]:
    """Purchase and cart in the rest of the session and within 15 minutes, on a shop's log.

    Raises:
        EvaluationError: the file is in none of the folders, or is not what is meant.
    """
    title, name, read = SHOPS[task]
    log = read(find(name, folders))
    points = session_points(log, targets_of(("purchase", "cart"), (SESSION, QUARTER)))
    return run_session_task(SessionTask(task, title, points), config, say)


def found_in(task: str, folders: Sequence[Path]) -> bool:
    """Whether one of the folders has a shop's file."""
    return any((folder / SHOPS[task][1]).is_file() for folder in folders)


Evaluate = Callable[[Sequence[Path], ContestConfig, Say], list[TaskResult]]
TASKS: Final[dict[str, Evaluate]] = {
    FUNNEL: evaluate_funnel,
    **{task: partial(evaluate_shop, task) for task in SHOPS},
}
OPTIONAL: Final[dict[str, Callable[[Sequence[Path]], bool]]] = {
    task: partial(found_in, task) for task in (REES46_TASK, RETAILROCKET_TASK)
}
"""Tasks whose files few have."""
