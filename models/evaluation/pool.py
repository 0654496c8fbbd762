"""Parts of an evaluation side by side in processes of one thread each.

A part draws everything from its own seeds, so no figure depends on how many processes there are or
on which part runs beside which.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Final

import torch

from models.errors import EvaluationError
from models.evaluation.contest import Say
from models.evaluation.results import TaskResult

THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class IncompleteEvaluation(EvaluationError):
    """Some parts of an evaluation failed; `results` are those of the others."""

    def __init__(self, message: str, results: list[TaskResult]) -> None:
        super().__init__(message)
        self.results = results


@dataclass(frozen=True)
class Part:
    """What one process does at a time."""

    name: str
    evaluate: Callable[[Say], list[TaskResult]]
    """Can be sent to another process: a function of a module, or a partial of one."""
    cost: float = 0.0
    """About how long it takes, in any unit: the longest ones begin first."""


def evaluate_parts(parts: Sequence[Part], jobs: int, say: Say) -> list[TaskResult]:
    """The results of all parts, in the order of the parts.

    Args:
        parts: see there.
        jobs: processes at a time; with one, or one part, all is done in this process.
        say: takes one line per step of a part here, or per part that another process finished.

    Raises:
        EvaluationError: the only part failed.
        IncompleteEvaluation: some parts failed; the others are evaluated all the same.
    """
    if len(parts) == 1:
        return parts[0].evaluate(say)
    found: dict[int, list[TaskResult]] = {}
    failed: dict[int, str] = {}
    if jobs <= 1:
        for place, part in enumerate(parts):
            try:
                found[place] = part.evaluate(say)
            except EvaluationError as error:
                failed[place] = str(error)
    else:
        _side_by_side(parts, jobs, say, found, failed)
    results = [result for place in sorted(found) for result in found[place]]
    if failed:
        reasons = "; ".join(f"{parts[place].name}: {failed[place]}" for place in sorted(failed))
        raise IncompleteEvaluation(
            f"{len(failed)} of {len(parts)} parts could not be evaluated: {reasons}", results
        )
    return results


def _side_by_side(
    parts: Sequence[Part],
    jobs: int,
    say: Say,
    found: dict[int, list[TaskResult]],
    failed: dict[int, str],
) -> None:
    """Evaluate parts in several processes; results and reasons of failures by place."""
    begun = time.monotonic()
    with _one_thread_each(), _processes(min(jobs, len(parts))) as pool:
        order = sorted(range(len(parts)), key=lambda place: -parts[place].cost)
        waiting: dict[Future[list[TaskResult]], int] = {
            pool.submit(_evaluate, parts[place]): place for place in order
        }
        for done in as_completed(waiting):
            place = waiting[done]
            try:
                found[place] = done.result()
            except EvaluationError as error:
                failed[place] = str(error)
            ending = "done" if place in found else f"failed: {failed[place]}"
            over, seconds = len(found) + len(failed), time.monotonic() - begun
            say(f"{parts[place].name}: {ending}, {over} of {len(parts)} after {seconds:.0f} s")


@contextlib.contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose waiting parts are dropped when this process is told to end."""
    # Not forked: threads of torch and of DuckDB do not survive that.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_one_thread)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Libraries that a new process loads find one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _one_thread() -> None:
    torch.set_num_threads(1)


def _evaluate(part: Part) -> list[TaskResult]:
    return part.evaluate(_quiet)


def _quiet(line: str) -> None:
    """Lines of several processes would be mixed."""
