"""RecSys Challenge 2025's open tasks: churn, categories and products, by its own metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from models.errors import EvaluationError
from models.evaluation.contest import ContestConfig, Say
from models.evaluation.recsys2025 import churn, propensity
from models.evaluation.recsys2025.cells import F32, Cells
from models.evaluation.recsys2025.churn import TRAINED, Bools, Known
from models.evaluation.recsys2025.files import ACTIVE, BUY, Folder
from models.evaluation.recsys2025.metrics import propensity_figures
from models.evaluation.recsys2025.propensity import Question
from models.evaluation.recsys2025.reading import SPOOL_BITS, Prepared, prepare
from models.evaluation.recsys2025.windows import TEST, TRAIN
from models.evaluation.results import Figures, Kind, ModelResult, TaskResult
from models.log.spool import Spool

TASK: Final = "recsys2025"
CHURN: Final = f"{TASK}_churn"
CATEGORY: Final = f"{TASK}_category"
SKU: Final = f"{TASK}_sku"
BEST_CHURN: Final = 0.7389
"""AUROC of churn, the best of 2025; on labels that only the organisers have."""

Baseline = Callable[[Question], F32]


def found_in(folders: Sequence[Path]) -> bool:
    """Whether one of the folders has the challenge's files."""
    return any(Folder.holds_some(folder) for folder in folders)


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run the three tasks on the files in the first of `folders` that has them.

    Raises:
        EvaluationError: no folder has them, or a file cannot be used.
    """
    chosen = next((each for each in folders if Folder.holds_some(each)), None)
    if chosen is None:
        places = ", ".join(str(folder) for folder in folders)
        raise EvaluationError(
            f"{BUY.name}.parquet is in none of {places}; name the folder of the challenge's files "
            "with --data; docs/recsys2025.md has where they come from and how they lie"
        )
    with Spool(bits=SPOOL_BITS) as spool:
        begun = time.monotonic()
        prepared = prepare(Folder.of(chosen), spool)
        say(f"{TASK}: {prepared.events:,} events read in {time.monotonic() - begun:.1f} s")
        begun = time.monotonic()
        known = churn.known_at_split(prepared, config, say)
        say(f"{TASK}: trained, clients described in {time.monotonic() - begun:.1f} s")
    begun = time.monotonic()
    results = [
        _churn(prepared, known, Folder(chosen), config),
        _propensity(CATEGORY, "the 100 categories", prepared, known, config),
        _propensity(SKU, "the 100 products", prepared, known, config),
    ]
    say(f"{TASK}: evaluated in {time.monotonic() - begun:.1f} s")
    return results


def _churn(prepared: Prepared, known: Known, folder: Folder, config: ContestConfig) -> TaskResult:
    before, after = (~prepared.bought[which].any for which in (TRAIN, TEST))
    population = prepared.active
    labels = after[population]
    if len(labels) == 0 or labels.all() or not labels.any():
        raise EvaluationError(
            f"{folder.path}: of {len(labels)} relevant clients with a purchase before the split "
            f"{int(labels.sum())} buy nothing in the evaluation window: one class, nothing to "
            "evaluate"
        )
    said = churn.predictions(known, population, before, config.seeds)
    models = {
        name: ModelResult(tuple(churn.judged(labels, each) for each in seeds), _kind(name))
        for name, seeds in said.items()
    }
    result = TaskResult(
        task=CHURN,
        title="RecSys Challenge 2025: no purchase in the 14 days of the evaluation window",
        criterion="auroc",
        higher_is_better=True,
        models=models,
        notes=(),
        labels=labels.astype(np.float64),
        probabilities={name: seeds[0] for name, seeds in said.items()},
    )
    best = result.best_of(name for name in models if name not in TRAINED)
    notes = (
        f"{len(labels)} clients with a purchase before the split.",
        f"{labels.mean():.4f} of them buy nothing in the evaluation window.",
        f"Times: {prepared.windows}.",
        _disorder(prepared),
        *known.story,
        f"The best of 2025 had {BEST_CHURN} on labels that only the organisers have.",
        *_other_population(best, known, prepared, folder, before, after),
    )
    return replace(result, notes=tuple(note for note in notes if note))


def _other_population(
    best: str, known: Known, prepared: Prepared, folder: Folder, before: Bools, after: Bools
) -> tuple[str, ...]:
    """What the challenge's own script would have counted: buyers up to the end of all files."""
    if not (folder.path / ACTIVE).is_file():
        return ()
    place = prepared.clients.place(folder.ids(ACTIVE))
    listed = np.zeros(len(prepared.clients), np.bool_)
    listed[place[place >= 0]] = True
    more = listed & prepared.known
    said = churn.predictions(known, more, before, (0,))[best][0]
    auroc = churn.judged(after[more], said)["auroc"]
    count = int((more & ~prepared.active).sum())
    return (
        f"{ACTIVE} names {count} more clients, who first buy in the windows themselves.",
        f"Counting them would give {best} {auroc:.4f}; that they buy is known from labels alone.",
    )


def _disorder(prepared: Prepared) -> str:
    parts = [
        f"{name} {each.disordered} of {each.rows}"
        for name, each in prepared.counts.items()
        if each.disordered
    ]
    if not parts:
        return ""
    return f"Rows older than the row before them, which were sorted: {', '.join(parts)}."


def _propensity(
    task: str, what: str, prepared: Prepared, known: Known, config: ContestConfig
) -> TaskResult:
    question, tested, popularity = _question(task, prepared, known)
    baselines: dict[str, Baseline] = {
        "popularity": propensity.popularity,
        "buyers": propensity.buyers,
        "frequency": propensity.frequency,
        "recency": propensity.recency,
    }
    if task == SKU:
        baselines["item_to_category"] = propensity.item_to_category

    def figures(logits_UK: F32) -> Figures:
        return propensity_figures(*tested, logits_UK, popularity)

    models = {
        name: ModelResult((figures(baseline(question)),) * len(config.seeds), "baseline")
        for name, baseline in baselines.items()
    }
    models["log_linear"] = ModelResult(
        tuple(figures(propensity.log_linear(question, seed)) for seed in config.seeds), "model"
    )
    absent = question.labels - len(np.unique(tested[1]))
    notes = [
        f"{question.clients} clients with an event before the split.",
        f"{len(tested[0])} pairs of a client and a label came true in the evaluation window.",
    ]
    if absent:
        notes.append(
            f"{absent} of {question.labels} labels have no purchase in the evaluation window; the "
            "challenge's AUROC counts each of them as 0."
        )
    return TaskResult(
        task=task,
        title=f"RecSys Challenge 2025: which of {what} a client buys",
        criterion="score",
        higher_is_better=True,
        models=models,
        notes=tuple(notes),
    )


def _question(
    task: str, prepared: Prepared, known: Known
) -> tuple[Question, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The question, the cells (client, label) that came true, and the labels' popularity."""
    catalogue, interests = prepared.catalogue, prepared.interests
    now = prepared.windows.cut
    number = np.cumsum(prepared.known) - 1  # of each known client among the known

    def cells(label: np.ndarray, size: int) -> Cells:
        some = np.flatnonzero(label >= 0)
        row = number[interests.row[some]]
        columns = row, label[some].astype(np.int64), interests.time[some], interests.type[some]
        return Cells.of(*columns, size, now)

    def true_cells(which: int) -> tuple[np.ndarray, np.ndarray]:
        bought = prepared.bought[which]
        row, label = bought.categories if task == CATEGORY else bought.skus
        mine = prepared.known[row]
        return number[row[mine]], label[mine]

    labels = catalogue.categories if task == CATEGORY else catalogue.skus
    own = interests.category_label if task == CATEGORY else interests.sku_label
    groups = None
    if task == SKU:
        size = int(catalogue.group.max(initial=0)) + 1
        groups = cells(interests.group, size).spread(catalogue.group_of_label)
    question = Question(
        profile=known.profile[prepared.known],
        silence=known.silence[prepared.known],
        cells=cells(own, len(labels)),
        groups=groups,
        learnt=true_cells(TRAIN),
        buyers=prepared.bought[TRAIN].any[prepared.known].astype(np.float64),
    )
    return question, true_cells(TEST), labels.popularity


def _kind(name: str) -> Kind:
    return "network" if name in TRAINED else "baseline"
