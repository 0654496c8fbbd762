"""Taobao: the category and the item of each user's last event, held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation.contest import ContestConfig, Say
from models.evaluation.next_networks import STATES, Curve, Stage, fit_and_judge
from models.evaluation.nextevent import (
    Counts,
    Sequences,
    candidates,
    fit_weights,
    gather,
)
from models.evaluation.results import Figures, ModelResult, TaskResult
from models.evaluation.sources import TAOBAO, find, read_taobao
from models.log.eventlog import EventLog, OrderedLog, in_order
from models.ranking.judge import TOP, distinct, hits

I64 = NDArray[np.int64]

CATEGORY: Final = "taobao_next_category"
ITEM: Final = "taobao_next_item"
COUNTED_SHARE: Final = 0.7
"""Share of each history that the counts come from while weights are learnt from the rest."""
MOMENTS: Final = 6_000
"""Moments that weights are learnt from, drawn by seed."""
LEAST_HISTORY: Final = 2
"""Events before a moment, at least."""

Ranking = Callable[[I64], I64]


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run both tasks on the file in one of `folders`."""
    log = read_taobao(find(TAOBAO, folders))
    return [
        next_task(CATEGORY, "Taobao: the next category", log, "category", config, say),
        next_task(ITEM, "Taobao: the next item", log, "item", config, say),
    ]


def next_task(
    task: str, title: str, log: EventLog, what: str, config: ContestConfig, say: Say
) -> TaskResult:
    """Rank what may come next for every user, and see where what came stands.

    Args:
        task: its name in the results.
        title: its name for readers.
        log: events with codes of `what`.
        what: "category" or "item".
        config: seeds and networks.
        say: takes one line per step.
    """
    ordered = in_order(log, None)
    sequences, categories = _sequences(ordered, what)
    last = sequences.ends - 1
    tested = np.flatnonzero(last - sequences.starts >= LEAST_HISTORY)
    counts = Counts(sequences, last)
    in_category = _popular_by_category(sequences, categories, last)
    rankings: dict[str, Ranking] = {
        "popularity": lambda _: counts.popular,
        "last_category": lambda seen: (
            in_category(seen) if what == "item" else distinct(seen[-1:], counts.popular)
        ),
        "recent": lambda seen: distinct(seen[::-1], counts.popular),
        "co_occurrence": lambda seen: distinct(counts.followers(int(seen[-1]))[0], counts.popular),
    }
    models = {
        name: ModelResult((_judged(sequences, tested, ranking),) * len(config.seeds), "baseline")
        for name, ranking in rankings.items()
    }
    figures = []
    for seed in config.seeds:
        figures.append(_judged(sequences, tested, _learnt(sequences, last, counts, seed)))
        say(f"{task}: seed {seed}: HR@{TOP} {figures[-1]['hr_10']:.4f}")
    models["log_linear"] = ModelResult(tuple(figures), "model")
    stage, curves = Stage.of(ordered), dict[str, Curve]()
    for name in (name for name in STATES if name in config.networks):
        told = []
        for seed in config.seeds:
            judged, curve = fit_and_judge(stage, tested, what, name, seed)
            told.append(judged)
            say(f"{task}: {name}: seed {seed}: HR@{TOP} {judged[f'hr_{TOP}']:.4f}")
            curves.setdefault(name, curve)
        models[name] = ModelResult(tuple(told), "network")
    return TaskResult(
        task=task,
        title=title,
        criterion="ndcg_10",
        higher_is_better=True,
        models=models,
        curves=curves,
        notes=(
            f"{len(tested)} users with at least {LEAST_HISTORY} events before the last.",
            f"{counts.size} different codes; counts and weights see no user's last event.",
        ),
    )


def _sequences(ordered: OrderedLog, what: str) -> tuple[Sequences, I64]:
    """The events' codes of `what`, and their categories, both numbered from 0."""
    events = ordered.log.events
    named = events.item if what == "item" else events.category
    _, codes = np.unique(named, return_inverse=True)
    _, categories = np.unique(events.category, return_inverse=True)
    return Sequences(codes.astype(np.int64), ordered.starts.astype(np.int64)), categories


def _popular_by_category(sequences: Sequences, categories: I64, upto: I64) -> Ranking:
    """The most popular codes of the category of the code seen last."""
    seen = np.zeros(len(sequences.codes), np.bool_)
    for start, end in zip(sequences.starts.tolist(), upto.tolist(), strict=True):
        seen[start:end] = True
    category_of = np.zeros(int(sequences.codes.max()) + 1, np.int64)
    category_of[sequences.codes] = categories
    codes, times = np.unique(sequences.codes[seen], return_counts=True)
    order = np.lexsort((-times, category_of[codes]))
    ranked, group = codes[order], category_of[codes][order]

    def ranking(history: I64) -> I64:
        wanted = category_of[history[-1]]
        lo = int(np.searchsorted(group, wanted))
        return ranked[lo : min(lo + TOP, int(np.searchsorted(group, wanted, side="right")))]

    return ranking


def _learnt(sequences: Sequences, last: I64, counts: Counts, seed: int) -> Ranking:
    """Weights from moments drawn in the later part of the histories."""
    rng = np.random.default_rng(seed)
    size = last - sequences.starts
    counted = sequences.starts + np.maximum((size * COUNTED_SHARE).astype(np.int64), LEAST_HISTORY)
    user = np.repeat(np.arange(len(last)), np.maximum(last - counted, 0))
    place = np.concatenate(
        [np.arange(lo, hi) for lo, hi in zip(counted.tolist(), last.tolist(), strict=True)]
    )
    drawn = rng.choice(len(place), min(MOMENTS, len(place)), replace=False)
    earlier = Counts(sequences, np.minimum(counted, last))
    decisions = gather(sequences, earlier, place[drawn], user[drawn])
    weights, scale = fit_weights(decisions)
    scaled = (weights / scale).numpy()

    def ranking(history: I64) -> I64:
        found, columns = candidates(counts, history)
        return found[np.argsort(-(columns @ scaled), kind="stable")]

    return ranking


def _judged(sequences: Sequences, tested: NDArray[np.intp], ranking: Ranking) -> Figures:
    found = []
    for user in tested.tolist():
        start, end = int(sequences.starts[user]), int(sequences.ends[user])
        history = sequences.codes[start : end - 1]
        found.append(hits(ranking(history), int(sequences.codes[end - 1])))
    hit, gain = np.mean(found, axis=0)
    return {f"hr_{TOP}": float(hit), f"ndcg_{TOP}": float(gain)}
