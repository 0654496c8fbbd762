"""What the trainer publishes, evaluated as subscribers get it, against what an analyst would write.

The other tasks compare architectures on one set of training examples. Here the product's own way is
evaluated as a whole: `models.training.train` reads the log up to the first test cut, draws its
examples, chooses, gates and refits, and its model predicts for all users at fixed times after that.
The baselines are fitted on cuts whose labels end before the first test cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.baselines import simple, windowed
from models.baselines.bgnbd import fit_process
from models.data.split import VALIDATION
from models.errors import DatasetError, EvaluationError, TrainingError
from models.evaluate import sigmoid
from models.evaluation.contest import ContestConfig, Say, judged
from models.evaluation.cuts import CutPoints, Protocol, cut_points
from models.evaluation.results import F64, Figures, Kind, ModelResult, TaskResult
from models.evaluation.sources import CDNOW, DAY, ONLINE_RETAIL, find, read_cdnow
from models.evaluation.sources import read_online_retail as read_retail
from models.history import PURCHASE
from models.inputs import features
from models.log.eventlog import EventLog, in_order
from models.networks.process import PurchaseProcess
from models.serving.scorer import Scorer, network_spec
from models.targets import ABSENT, CHURN, OCCURS, Target, shop_targets
from models.training.choosing import probabilities_of
from models.training.gate import GateRules, interval, losses
from models.training.train import TrainConfig, train

Index = NDArray[np.intp]

GROUP: Final = "published"
"""Name that runs all of `TASKS`."""
PUBLISHED: Final = "published"
MIN_ORDERS: Final = 2
"""Orders before which the absence of a purchase is no churn."""
BASELINES: Final = ("base_rate", "recency", "bg_nbd", "windows_logistic", "windows_boosting")
KIND: Final[dict[str, Kind]] = dict.fromkeys(BASELINES, "baseline")


def _ms(day: str) -> int:
    return int(np.datetime64(day, "ms").astype(np.int64))


@dataclass(frozen=True)
class Shop:
    """A public log and the times at which all its users are evaluated."""

    name: str
    title: str
    file: str
    read: Callable[[Path], EventLog]
    first: str
    """First training cut of the baselines, ISO date."""
    test: tuple[str, ...]
    """Test cuts, ISO dates; the trainer sees nothing at or after the first."""


RETAIL: Final = Shop(
    "online_retail",
    "Online Retail",
    ONLINE_RETAIL,
    read_retail,
    "2011-03-01",
    ("2011-09-01", "2011-09-15", "2011-10-01", "2011-10-15", "2011-11-01"),
)
CDS: Final = Shop(
    "cdnow",
    "CDNOW",
    CDNOW,
    read_cdnow,
    "1997-05-01",
    ("1998-01-01", "1998-02-01", "1998-03-01", "1998-04-01", "1998-05-01"),
)


@dataclass(frozen=True)
class ReturnTask:
    """Purchase within, or churn over, one horizon in one shop."""

    shop: Shop
    kind: str
    """`OCCURS` or `ABSENT`."""
    days: int

    @property
    def name(self) -> str:
        """Key of the task in the results."""
        what = CHURN if self.kind == ABSENT else "purchase"
        return f"{self.shop.name}_{what}_{self.days}d"

    @property
    def part(self) -> str:
        """Name of the tasks that share this one's published models."""
        return f"{GROUP}_{self.shop.name}_{self.days}d"

    @property
    def title(self) -> str:
        """For readers."""
        what = "no purchase" if self.kind == ABSENT else "a purchase"
        return f"{self.shop.title}, as published: {what} within {self.days} days"

    def protocol(self) -> Protocol:
        """Users with a purchase, every 30 days before the test and at each test cut."""
        horizon = self.days * DAY
        test = tuple(_ms(day) for day in self.shop.test)
        first, last = _ms(self.shop.first), min(test) - horizon
        train_cuts = tuple(sorted(range(last, first - 1, -30 * DAY)))
        target = Target("return", self.kind, PURCHASE, horizon)
        return Protocol(target, train_cuts, test, buyers_only=True)


TASKS: Final = (
    ReturnTask(RETAIL, OCCURS, 14),
    ReturnTask(RETAIL, OCCURS, 30),
    ReturnTask(RETAIL, ABSENT, 30),
    ReturnTask(CDS, OCCURS, 30),
    ReturnTask(CDS, ABSENT, 30),
)


PARTS: Final = tuple(dict.fromkeys(task.part for task in TASKS))
"""Tasks of a part share their published models: one serves purchase and churn."""


def evaluate(folders: Sequence[Path], config: ContestConfig, say: Say) -> list[TaskResult]:
    """Run all tasks."""
    return [result for part in PARTS for result in evaluate_part(part, folders, config, say)]


def evaluate_part(
    part: str, folders: Sequence[Path], config: ContestConfig, say: Say
) -> list[TaskResult]:
    """Run the tasks of one shop and horizon."""
    results: list[TaskResult] = []
    models: dict[tuple[str, int, int], Scorer] = {}
    for task in (task for task in TASKS if task.part == part):
        log = task.shop.read(find(task.shop.file, folders))
        results.append(run(task, log, config, say, models))
    return results


def run(
    task: ReturnTask,
    log: EventLog,
    config: ContestConfig,
    say: Say,
    models: dict[tuple[str, int, int], Scorer] | None = None,
) -> TaskResult:
    """Evaluate one task.

    Args:
        task: see there.
        log: all events of the shop.
        config: seeds.
        say: takes one line per step.
        models: (shop, days, seed) -> what was published, for tasks that share it.

    Raises:
        EvaluationError: the log does not allow the protocol.
    """
    models = {} if models is None else models
    protocol = task.protocol()
    points = cut_points(log, protocol, config.seeds[0])
    eligible = _orders(points) >= (MIN_ORDERS if task.kind == ABSENT else 1)
    test = np.flatnonzero((points.examples.slice == VALIDATION) & eligible)
    learnt = np.flatnonzero((points.examples.slice != VALIDATION) & eligible)
    rows = _windowed(log, points)
    truth = points.examples.labels[test, 0].astype(np.float64)
    said: dict[str, list[F64]] = {}
    notes: list[str] = []
    for seed in config.seeds:
        predicted = _baselines(points, rows, learnt, test, protocol.target, seed)
        key = (task.shop.name, task.days, seed)
        if key not in models:
            models[key] = _trained(task, log, seed)
        predicted[PUBLISHED] = _published(task, models[key], points, test)
        notes.append(f"Published: {models[key].version.split('-')[1]}.")
        for name, values in predicted.items():
            said.setdefault(name, []).append(values)
            say(f"{task.name}: seed {seed}: {name} {judged(truth, values)['log_loss']:.4f}")
    seeds: dict[str, list[Figures]] = {
        name: [judged(truth, values) for values in runs] for name, runs in said.items()
    }
    size, users = len(test), len(np.unique(points.user[test]))
    what = (
        f"{size} test examples of {users} users at {len(protocol.test)} cuts, base rate"
        f" {truth.mean():.3f}; the trainer saw nothing at or after {task.shop.test[0]}."
    )
    result = TaskResult(
        task=task.name,
        title=task.title,
        criterion="log_loss",
        higher_is_better=False,
        models={
            name: ModelResult(tuple(figures), KIND.get(name, "model"))
            for name, figures in seeds.items()
        },
        notes=(what, *dict.fromkeys(notes)),
        labels=truth,
        probabilities={name: runs[0] for name, runs in said.items()},
        where="at fixed times, as timers evaluate users in inactivity",
    )
    verdict, note = compared(result, said, points.user[test])
    return replace(result, notes=(*result.notes, note), against=verdict)


def compared(
    result: TaskResult, said: dict[str, list[F64]], users: NDArray[np.uint64]
) -> tuple[str, str]:
    """How the published model fares against the best baseline: in short, and with an interval.

    Args:
        result: figures of all models.
        said: model -> probabilities [Q] by seed.
        users: [Q] of each test example; whole users are resampled.
    """
    best = result.best_of(BASELINES)

    def mean_loss(name: str) -> F64:
        runs = np.stack([losses(result.labels, values) for values in said[name]])
        mean: F64 = runs.mean(axis=0)
        return mean

    groups = np.unique(users, return_inverse=True)[1].astype(np.intp)
    difference = mean_loss(PUBLISHED) - mean_loss(best)
    low, high = interval(difference, groups, GateRules())
    verdict = "surely below" if high < 0 else "surely above" if low > 0 else "not surely apart from"
    wins = f"**{best}, a baseline, wins**; " if difference.mean() > 0 else ""
    return f"{wins}{PUBLISHED} is {verdict} {best}", (
        f"{PUBLISHED} is {verdict} {best}, the best baseline: {float(difference.mean()):+.4f} of"
        f" log-loss ({low:+.4f} to {high:+.4f}, 95 %, users resampled)."
    )


def _orders(points: CutPoints) -> NDArray[np.float64]:
    return features.unlogged(points.examples.profile, "log_orders").round()


def _windowed(log: EventLog, points: CutPoints) -> F64:
    ordered = in_order(log, None)
    names = ordered.log.users[ordered.starts]
    users = np.searchsorted(names, points.user)
    return windowed.windowed_features(ordered, users, points.cut)


def _baselines(
    points: CutPoints, rows: F64, learnt: Index, test: Index, target: Target, seed: int
) -> dict[str, F64]:
    examples = points.examples
    profile, labels = examples.profile, examples.labels[:, 0].astype(np.float64)
    weight = np.ones(len(learnt))
    # The process is fitted to the histories that are known at the last training cut.
    last = learnt[points.cut[learnt] == points.cut[learnt].max()]
    process = PurchaseProcess(network_spec((target,)), fit_process(profile[last]))
    logits = process(torch.from_numpy(profile[test]))[:, 0].double().numpy()
    linear, _ = windowed.logistic(
        rows[learnt], labels[learnt], points.cut[learnt], rows[test], seed
    )
    return {
        "base_rate": simple.base_rate(labels[learnt], weight, len(test)),
        "recency": simple.recency(profile[learnt], labels[learnt], profile[test]),
        "bg_nbd": sigmoid(logits),
        "windows_logistic": linear,
        "windows_boosting": simple.boosting(rows[learnt], labels[learnt], weight, rows[test], seed),
    }


def _published(task: ReturnTask, scorer: Scorer, points: CutPoints, test: Index) -> F64:
    """Probabilities [Q] of the published model.

    Raises:
        EvaluationError: it does not predict what the task is about.
    """
    wanted = CHURN if task.kind == ABSENT else "purchase"
    names = [target.name for target in scorer.targets]
    if wanted not in names:
        raise EvaluationError(f"{task.name}: the trainer published no {wanted}")
    return probabilities_of(scorer, points.examples, test)[:, names.index(wanted)]


def _trained(task: ReturnTask, log: EventLog, seed: int) -> Scorer:
    targets = shop_targets(PURCHASE, task.days * DAY, task.days * DAY)
    return trained(task.name, log, targets, _ms(task.shop.test[0]), seed)


def trained(task: str, log: EventLog, targets: tuple[Target, ...], end: int, seed: int) -> Scorer:
    """What the trainer publishes of the events before `end`, ms.

    Args:
        task: for the message of an error.
        log: events; those at or after `end` are not shown.
        targets: what to predict.
        end: when the trainer runs.
        seed: of the draw of examples, the weights and the batches.

    Raises:
        EvaluationError: nothing was published, and why.
    """
    base = TrainConfig()
    settings = replace(
        base,
        dataset=replace(base.dataset, seed=seed, min_orders=MIN_ORDERS),
        fit=replace(base.fit, seed=seed),
        drop_late=False,
    )
    try:
        found = train(log.until(end - 1), targets, settings, created_at=end, device="cpu")
    except (DatasetError, TrainingError) as error:
        raise EvaluationError(f"{task}: the trainer published nothing: {error}") from error
    return Scorer.of_script(found.script, found.manifest)
